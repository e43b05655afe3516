"""Supervised training of a whole network: the backbone and a linear head, each at its own rate."""

import dataclasses

import numpy as np
import tensorflow as tf

from csml_tf import progress
from csml_tf.augment.view import ViewAugmentation
from csml_tf.data import labelled_batches, parallel, pipeline
from csml_tf.errors import InputError
from csml_tf.training import optim

SCHEDULES = {"cosine": optim.cosine_schedule, "step": optim.step_schedule}
SGD_MOMENTUM = 0.9
# Deviation of the head's first weights, as of MoCo's linear classifier.
_HEAD_STDDEV = 0.01


class Diverged(InputError):
    """The learning rates are too high for a run to come to an end."""


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """How long and how fast.

    Attributes:
        epochs: at least 1.
        batch_size: images per step, over all replicas.
        backbone_learning_rate: of the first epoch.
        head_learning_rate: of the first epoch.
        schedule: of both, a name out of `SCHEDULES`, set once per epoch.
        augmentation: `ViewAugmentation` of the training images, to RGB in [0, 1].
    """

    epochs: int
    batch_size: int
    backbone_learning_rate: float
    head_learning_rate: float
    schedule: str
    augmentation: ViewAugmentation

    def learning_rates(self, epoch):
        """(of the backbone, of the head) in an epoch from 0."""
        schedule = SCHEDULES[self.schedule]
        peaks = self.backbone_learning_rate, self.head_learning_rate
        return tuple(schedule(epoch, self.epochs, peak) for peak in peaks)


class Classifier:
    """A network and a linear head on its features, both trained.

    Two optimizers, one for each group of parameters, are `torch.optim.SGD` with two groups.
    Batch norm works in training mode: it normalises by the batch (of each replica), and its
    moving statistics follow. The graph is built once, for any number of runs from `start`.

    Make it in the scope of the strategy that trains it.

    Args:
        network: `tf.keras.Model` from [batch, height, width, 3] images to [batch, dim].
        num_classes: of the head.
        l2_weight_decay: of both groups, on every parameter.
    """

    def __init__(self, network, num_classes, l2_weight_decay=1e-4):
        self._strategy = tf.distribute.get_strategy()
        self._network = network
        self._head = tf.keras.layers.Dense(num_classes, name="head")
        self._head.build(network.output_shape)
        self._groups = network.trainable_variables, self._head.trainable_variables
        self._optimizers = []
        for variables in self._groups:
            optimizer = optim.TorchSGD(0.0, SGD_MOMENTUM, l2_weight_decay)
            optimizer.build(variables)
            self._optimizers.append(optimizer)

    def start(self, weights, seed):
        """Begins a run.

        Args:
            weights: arrays of the network, as its `get_weights` returns them.
            seed: int, of the head.
        """
        self._network.set_weights(weights)
        kernel = np.random.default_rng(seed).normal(0.0, _HEAD_STDDEV, self._head.kernel.shape)
        self._head.set_weights([kernel, np.zeros(self._head.bias.shape)])
        for optimizer in self._optimizers:
            for variable in optimizer.variables:  # The buffers, above all.
                variable.assign(tf.zeros_like(variable))

    def train(self, source, labels, plan, seed, description):
        """Runs a plan on augmented images.

        Args:
            source: `ImageSource`.
            labels: [len(source)] integers from 0.
            plan: `TrainingPlan`.
            seed: int, of order and augmentation.
            description: of the progress bar.

        Returns:
            Number of steps.

        Raises:
            InputError: if the batch is larger than the source.
            Diverged: if the loss is no number any more.
        """
        num_steps = pipeline.steps_per_epoch(source, plan.batch_size)

        def make_epoch(epoch):
            # The seeds of a Python int, which another width of integer would not give.
            epoch = tf.cast(epoch, tf.int32)
            return labelled_batches.make_labelled_epoch(
                source, plan.augmentation, plan.batch_size, seed, epoch, labels
            )

        # One graph for all epochs: to build a small one takes longer than to run it.
        batches = tf.data.Dataset.range(plan.epochs).flat_map(make_epoch)
        batches = parallel.prefetch(batches)
        if self._strategy.num_replicas_in_sync > 1:
            batches = self._strategy.experimental_distribute_dataset(batches)
        batches = iter(batches)
        with progress.bar(plan.epochs * num_steps, description, unit="steps") as advance:
            for epoch in range(plan.epochs):
                for optimizer, rate in zip(self._optimizers, plan.learning_rates(epoch)):
                    optimizer.learning_rate.assign(rate)
                for _ in range(num_steps):
                    loss = self._step(*next(batches))
                    advance(1)
                if not np.isfinite(loss.numpy()):
                    raise Diverged(
                        f"The loss is no number any more in epoch {epoch + 1} of {description}: "
                        "lower the learning rates."
                    )
        return plan.epochs * num_steps

    @tf.function(reduce_retracing=True)
    def logits(self, images):
        """[batch, height, width, 3] -> [batch, num_classes], inference mode."""
        return self._head(self._network(images, training=False))

    @tf.function(reduce_retracing=True)
    def _step(self, images, labels):
        """One step on a global batch -> its mean loss before, nats."""
        losses = self._strategy.run(self._replica_step, args=(images, labels))
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

    def _replica_step(self, images, labels):
        with tf.GradientTape() as tape:
            logits = self._head(self._network(images, training=True))
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            # The optimizers add the gradients of the replicas.
            loss = tf.reduce_mean(losses) / self._strategy.num_replicas_in_sync
        for gradients, variables, optimizer in zip(
            tape.gradient(loss, self._groups), self._groups, self._optimizers
        ):
            optimizer.apply_gradients(zip(gradients, variables))
        return loss
