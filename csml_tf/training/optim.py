"""The optimizers and the learning rate schedules of the recipes."""

import math

import tensorflow as tf


class TorchSGD(tf.keras.optimizers.Optimizer):
    """SGD with momentum and weight decay as `torch.optim.SGD` computes them.

        buffer   = sgd_momentum * buffer + gradient + weight_decay * parameter
        parameter = parameter - learning_rate * buffer

    Keras' own SGD differs twice: its `weight_decay` is decoupled from the gradient,
    and its buffer holds past learning rates, which matters when the rate changes.
    Here every variable decays, batch norm and biases included, as in MoCo.

    Args:
        learning_rate: float at least 0; may be assigned between steps.
        sgd_momentum: in [0, 1).
        l2_weight_decay: factor of the L2 term added to each gradient, at least 0.
        name: of the optimizer.
        **kwargs: as for `tf.keras.optimizers.Optimizer`.
    """

    def __init__(
        self, learning_rate=0.03, sgd_momentum=0.9, l2_weight_decay=1e-4, name="TorchSGD", **kwargs
    ):
        super().__init__(name=name, **kwargs)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.sgd_momentum = sgd_momentum
        self.l2_weight_decay = l2_weight_decay

    def build(self, var_list):
        """Makes one momentum buffer for each variable."""
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        self._buffers = [
            self.add_variable_from_reference(variable, "momentum_buffer") for variable in var_list
        ]
        self._built = True

    def update_step(self, gradient, variable):
        """Applies the two lines of the class docstring to one variable."""
        buffer = self._buffers[self._index_dict[self._var_key(variable)]]
        # No sum of three is left: where TensorFlow sees one, a gradient that is itself a sum
        # included, it makes it one operation, which adds in an order that differs from step
        # to step, and two runs of a seed part. Hence the minus, and the momentum in one kernel.
        decayed = tf.convert_to_tensor(gradient) - (-self.l2_weight_decay) * variable
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=buffer.handle,
            lr=tf.cast(self.learning_rate, variable.dtype),
            grad=decayed,
            momentum=tf.cast(self.sgd_momentum, variable.dtype),
        )

    def get_config(self):
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter(self._learning_rate),
            "sgd_momentum": self.sgd_momentum,
            "l2_weight_decay": self.l2_weight_decay,
        }


class Lars(TorchSGD):
    """LARS, arXiv:1708.03888: SGD whose steps are scaled layer by layer, for large batches.

        decayed   = gradient + weight_decay * parameter
        scaled    = trust_coefficient * |parameter| / |decayed| * decayed
        buffer    = sgd_momentum * buffer + scaled
        parameter = parameter - learning_rate * buffer

    with norms over the whole parameter; the ratio is 1 where one of them is 0. Parameters of
    one axis, biases and those of batch norm, neither decay nor are scaled, as in SimCLR, BYOL
    and MoCo v3.

    Args:
        learning_rate, sgd_momentum, l2_weight_decay, name, **kwargs: as for `TorchSGD`.
        trust_coefficient: above 0.
    """

    def __init__(
        self,
        learning_rate=0.3,
        sgd_momentum=0.9,
        l2_weight_decay=1e-6,
        trust_coefficient=0.001,
        name="Lars",
        **kwargs,
    ):
        super().__init__(learning_rate, sgd_momentum, l2_weight_decay, name, **kwargs)
        self.trust_coefficient = trust_coefficient

    def update_step(self, gradient, variable):
        """Applies the lines of the class docstring to one variable."""
        buffer = self._buffers[self._index_dict[self._var_key(variable)]]
        scaled = tf.convert_to_tensor(gradient)
        if variable.shape.rank > 1:
            scaled = scaled - (-self.l2_weight_decay) * variable  # As in `TorchSGD`.
            length, of_step = tf.norm(variable), tf.norm(scaled)
            ratio = self.trust_coefficient * tf.math.divide_no_nan(length, of_step)
            scaled *= tf.where((length > 0) & (of_step > 0), ratio, 1.0)
        buffer.assign(self.sgd_momentum * buffer + scaled)
        variable.assign_sub(tf.cast(self.learning_rate, variable.dtype) * buffer)

    def get_config(self):
        return {**super().get_config(), "trust_coefficient": self.trust_coefficient}


def scale_learning_rate(per_256_images, global_batch_size):
    """The linear rule of arXiv:1706.02677: the rate grows with the batch.

    Example:
        >>> scale_learning_rate(0.03, 512)
        0.06
    """
    return per_256_images * global_batch_size / 256


def cosine_schedule(epoch, epochs, peak_learning_rate):
    """MoCo v2's half cosine from the peak to 0, set once per epoch.

    Args:
        epoch: int from 0.
        epochs: of the whole run.
        peak_learning_rate: that of epoch 0.

    Example:
        >>> cosine_schedule(100, 200, 0.03)
        0.015
    """
    return peak_learning_rate * (1.0 + math.cos(math.pi * epoch / epochs)) / 2


def warmup_cosine_schedule(epoch, epochs, peak_learning_rate, warmup_epochs=10, final_share=0.0):
    """A linear rise, then half a cosine; set once per epoch.

    The papers set the rate in each step. An epoch of the rise has the rate of its middle.

    Args:
        epoch: int from 0.
        epochs: of the whole run.
        peak_learning_rate: that of the epoch after the rise.
        warmup_epochs: of the rise; 0 for none.
        final_share: of the peak, where the cosine ends.

    Raises:
        ValueError: if the rise takes the whole run.

    Example:
        >>> [warmup_cosine_schedule(epoch, 110, 0.4) for epoch in (0, 10, 60)]
        [0.02, 0.4, 0.2]
    """
    if warmup_epochs >= epochs:
        raise ValueError(
            f"warmup_epochs must be fewer than the run's {epochs} epochs, got {warmup_epochs}."
        )
    if epoch < warmup_epochs:
        return peak_learning_rate * (epoch + 0.5) / warmup_epochs
    final = final_share * peak_learning_rate
    fall = cosine_schedule(epoch - warmup_epochs, epochs - warmup_epochs, 1.0)
    return final + (peak_learning_rate - final) * fall


def step_schedule(epoch, epochs, peak_learning_rate, milestones=(0.6, 0.8), factor=0.1):
    """MoCo v1's drops: times `factor` at each milestone, set once per epoch.

    Args:
        epoch: int from 0.
        epochs: of the whole run.
        peak_learning_rate: that of epoch 0.
        milestones: shares of the run; MoCo v1 drops at epochs 120 and 160 of 200.
        factor: of each drop.

    Example:
        >>> [round(step_schedule(epoch, 200, 0.03), 6) for epoch in (119, 120, 160)]
        [0.03, 0.003, 0.0003]
    """
    drops = sum(epoch >= round(share * epochs) for share in milestones)
    return peak_learning_rate * factor**drops
