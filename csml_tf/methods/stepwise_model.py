"""The Keras side of a training step: what `fit` and its callbacks may expect of the model."""

from __future__ import annotations

import functools
import time
from typing import Any, Callable

import tensorflow as tf


class StepwiseModel(tf.keras.Model):
    """A Keras model whose training data are batches of views, without labels.

    `fit` trains, returns a `History` of the loss and its parts, takes any Keras callback, and
    keeps `epoch` and `steps_of_run` up to date. What of Keras' ways would be wrong in silence, is
    refused: labels, validation data, a loss or metrics of Keras', several steps per execution,
    and files in Keras' own formats, which hold no key encoder and no queue.

    A subclass brings `train_step(views, kinds)`, `view_names`, `kinds_in_use`, `means`,
    and `_prepare(optimizer, jit_compile)`.

    Attributes:
        epoch: int64 variable from 0, for what waits some epochs; `fit` assigns it, and
            whoever calls `train_on_batch` has to.
        steps_of_run: int64 variable, 0 for not known; whoever fits a run in several calls of
            `fit` assigns it before the first.
        input_wait_s: seconds that `fit` has spent waiting for its next batch.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")
        self.steps_of_run = tf.Variable(0, dtype=tf.int64, trainable=False, name="steps_of_run")
        self.input_wait_s = 0.0
        self.train_function: Callable | None = None

    @property
    def metrics(self):
        """None of Keras': see `means`."""
        return []

    def reset_metrics(self):
        """Called by `fit` at the beginning of an epoch."""
        self.means.reset()

    def compile(self, optimizer, jit_compile=False, **kwargs):
        """As `tf.keras.Model.compile`.

        Args:
            optimizer: Keras optimizer; in a `LossScaleOptimizer` for float16.
            jit_compile: whether XLA compiles the step: the whole of it on one replica, all
                passes through the encoders on several. A TPU always compiles.
            **kwargs: as for `tf.keras.Model.compile`; no loss and no metrics.

        Raises:
            ValueError: if the step cannot be compiled, or `kwargs` ask for what it has not.
        """
        for name in ("loss", "metrics", "weighted_metrics", "loss_weights"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"{type(self).__name__} has a loss and figures of its own: leave {name} out."
                )
        if kwargs.get("steps_per_execution") not in (None, 1):
            raise ValueError(
                "Every step reads its own batch: leave steps_per_execution out, or set it to 1."
            )
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        # `self.optimizer` is what Keras has made of a name.
        self._prepare(self.optimizer, jit_compile)

    def fit(self, x=None, y=None, *args, callbacks=None, validation_data=None, **kwargs):
        """As `tf.keras.Model.fit`, on a `tf.data.Dataset` of {view name: images}."""
        if y is not None:
            _refuse_labels()
        if validation_data is not None or kwargs.get("validation_split"):
            raise ValueError(
                "There is no loss on images that are not trained on: leave validation_data out, "
                "and measure accuracy in a callback or with csml_tf.evaluate."
            )
        counter = _EpochCounter()
        if isinstance(callbacks, tf.keras.callbacks.CallbackList):
            callbacks.append(counter)
            counter.set_model(self)
            counter.set_params(getattr(callbacks, "params", {}))
        else:
            # First, so that other callbacks see the epoch that begins.
            given = [] if callbacks is None else tf.nest.flatten(callbacks)
            callbacks = [counter, *given]
        return super().fit(x, y, *args, callbacks=callbacks, **kwargs)

    def evaluate(self, *args, **kwargs):
        """Refused: the loss of a step is no measure of the encoder."""
        raise ValueError(
            "The loss of a step says little of the encoder: export it, and measure it with "
            "csml_tf.evaluate or tools/evaluate.py."
        )

    def make_train_function(self, force=False):
        """As Keras' own, but the wait for the input is told apart, in `input_wait_s`."""
        if self.train_function is not None and not force:
            return self.train_function
        strategy = self.distribute_strategy
        step = self.train_step
        if self.jit_compile and strategy.num_replicas_in_sync == 1:
            step = tf.function(step, autograph=False, jit_compile=True)

        def distributed_step(views, kinds):
            logs = strategy.run(functools.partial(step, kinds=kinds), args=(views,))
            return {name: strategy.experimental_local_results(log)[0] for name, log in logs.items()}

        if not self.run_eagerly:
            distributed_step = tf.function(distributed_step, autograph=False)

        def train_function(iterator):
            started = time.perf_counter()
            views = self._checked(next(iterator))
            self.input_wait_s += time.perf_counter() - started
            return distributed_step(views, self.kinds_in_use)

        self.train_function = train_function
        return train_function

    def save(self, *args, **kwargs):
        """Refused: Keras' formats rebuild a model from its layers, which are not all of this."""
        raise ValueError(
            "A model in training cannot be saved as a whole: save its encoder with "
            "csml_tf.export.saved_model.export, or the state of training with "
            "save_weights(PATH), a TensorFlow checkpoint, or tf.train.Checkpoint."
        )

    def save_weights(self, filepath, *args, **kwargs):
        """As `tf.keras.Model.save_weights`, in TensorFlow's format: the whole state."""
        is_hdf5 = str(filepath).endswith((".h5", ".hdf5", ".keras"))
        if is_hdf5 or kwargs.get("save_format") in ("h5", "hdf5", "keras"):
            raise ValueError(
                f"The format of {filepath} would leave out the key encoder and the queue: choose "
                "a name without ending, which makes a TensorFlow checkpoint."
            )
        return super().save_weights(filepath, *args, **kwargs)

    def _checked(self, batch: Any):
        """The views of a batch; a batch of something else is refused."""
        views, labels, weights = tf.keras.utils.unpack_x_y_sample_weight(batch)
        if labels is not None or weights is not None:
            _refuse_labels()
        missing = [name for name in self.view_names if name not in views]
        if missing:
            raise ValueError(
                f"A batch lacks {', '.join(missing)}: let the data set give a dict "
                f"of {', '.join(self.view_names)}."
            )
        return views


class _EpochCounter(tf.keras.callbacks.Callback):
    """Tells the model its epoch, and how many steps the run has where Keras knows."""

    def __init__(self):
        super().__init__()
        self._supports_tf_logs = True  # Else Keras reads the logs from the device in every step.

    def on_epoch_begin(self, epoch, logs=None):
        self.model.epoch.assign(epoch)
        steps = self.params.get("steps")
        if steps and not int(self.model.steps_of_run.numpy()):
            self.model.steps_of_run.assign(self.params["epochs"] * steps)


def _refuse_labels():
    raise ValueError(
        "Training takes no labels: map the data set to its views, "
        "dataset.map(lambda views, *others: views)."
    )
