"""Split batch norm: the batch in groups, however many devices it is spread over."""

import tensorflow as tf

from csml_tf.models import cross_replica


class SplitBatchNormalization(tf.keras.layers.BatchNormalization):
    """Batch norm over equal groups of the global batch, each by its own mean and variance.

    In a contrastive step the statistics of a batch can tell which key belongs to
    which query. Split into groups, and with the keys in another order than the
    queries, they cannot: shuffle BN of arXiv:1911.05722, section 3.3. The groups are
    those of the whole batch, so the result does not depend on the number of replicas:

        as many groups as replicas   each replica normalises its own images, as MoCo does
        more                         each replica splits its images, as on one device
                                     MoCo's CIFAR demo does
        one                          the replicas share their statistics (sync BN)

    Outside training it is `tf.keras.layers.BatchNormalization`, with the same
    variables. In training the moving statistics take the mean over the groups.

    Args:
        num_groups: of the global batch, whose size must be a multiple of it.
        **kwargs: as for `tf.keras.layers.BatchNormalization`.

    Attributes:
        batch_parts: equal parts in which the layer gets to see the global batch: replicas
            times the parts that each replica takes one after the other.
    """

    def __init__(self, num_groups, **kwargs):
        super().__init__(**kwargs)
        if num_groups < 1:
            raise ValueError(f"num_groups must be at least 1, got {num_groups}.")
        self.num_groups = num_groups
        self.batch_parts = 1

    def call(self, inputs, training=None):
        """[batch, height, width, channels] or [batch, channels] float -> the same, normalised."""
        if not training or not self.trainable:
            return super().call(inputs, training=False)
        if self.num_groups < self.batch_parts:
            return self._normalize_together(inputs)
        num_groups = self.num_groups // self.batch_parts
        if inputs.shape.rank == 2:
            return self._normalize_groups(inputs[:, None, None], num_groups)[:, 0, 0]
        if num_groups == 1:
            return super().call(inputs, training=True)
        return self._normalize_groups(inputs, num_groups)

    def get_config(self):
        return {**super().get_config(), "num_groups": self.num_groups}

    def _normalize_groups(self, inputs, num_groups):
        gamma, beta = self._scale_and_center()
        means, variances, outputs = [], [], []
        for part in tf.split(inputs, num_groups):
            output, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                part, gamma, beta, epsilon=self.epsilon, is_training=True
            )
            outputs.append(output)
            means.append(mean)
            variances.append(variance)
        self._move(self.moving_mean, tf.add_n(means) / num_groups)
        self._move(self.moving_variance, tf.add_n(variances) / num_groups)
        return tf.concat(outputs, 0)

    def _normalize_together(self, inputs):
        """By the statistics of all replicas."""
        all_but_channels = list(range(inputs.shape.rank - 1))
        own = tf.stack(tf.nn.moments(tf.cast(inputs, tf.float32), all_but_channels))
        means, variances = tf.unstack(cross_replica.all_gather_by_sum(own[None]), axis=1)
        mean = tf.reduce_mean(means, axis=0)
        # Of the parts' variances and of their means: squares of large means would cancel.
        variance = tf.reduce_mean(variances + tf.square(means - mean), axis=0)
        count = cross_replica.num_replicas() * tf.size(inputs) // inputs.shape[-1]
        count = tf.cast(count, tf.float32)
        self._move(self.moving_mean, mean)
        # The unbiased one, as in the fused batch norm of the other paths.
        self._move(self.moving_variance, variance * count / (count - 1.0))
        gamma, beta = self._scale_and_center()
        scale = gamma * tf.math.rsqrt(variance + self.epsilon)
        shift = beta - mean * scale
        return inputs * tf.cast(scale, inputs.dtype) + tf.cast(shift, inputs.dtype)

    def _scale_and_center(self):
        """Gamma and beta, those included that the layer does without."""
        gamma = self.gamma if self.scale else tf.ones_like(self.moving_mean)
        beta = self.beta if self.center else tf.zeros_like(self.moving_mean)
        return gamma, beta

    def _move(self, moving, value):
        moving.assign_sub((moving - value) * (1.0 - self.momentum))


def find_all(module: tf.Module) -> list[SplitBatchNormalization]:
    """Every layer of this kind in a model."""
    return [each for each in module.submodules if isinstance(each, SplitBatchNormalization)]


def divide_batch(module: tf.Module, parts: int) -> None:
    """Tells all of them in how many parts the global batch comes."""
    for layer in find_all(module):
        layer.batch_parts = parts
