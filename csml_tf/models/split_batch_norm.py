"""Split batch norm: one device normalises as several small ones would."""

import tensorflow as tf


class SplitBatchNormalization(tf.keras.layers.BatchNormalization):
    """Batch norm over equal parts of the batch, each by its own mean and variance.

    In a contrastive step the statistics of a batch can tell which key belongs to
    which query. Split into groups, and with the keys in another order than the
    queries, they cannot; this is how MoCo's CIFAR demo does on one device what
    shuffle BN does over several (arXiv:1911.05722, section 3.3).

    Outside training it is `tf.keras.layers.BatchNormalization`, with the same
    variables. In training the moving statistics take the mean over the groups.

    Args:
        num_groups: parts of the batch; the batch size must be a multiple of it.
        **kwargs: as for `tf.keras.layers.BatchNormalization`.
    """

    def __init__(self, num_groups, **kwargs):
        super().__init__(**kwargs)
        if num_groups < 1:
            raise ValueError(f"num_groups must be at least 1, got {num_groups}.")
        self.num_groups = num_groups

    def call(self, inputs, training=None):
        """[batch, height, width, channels] float -> the same, normalised."""
        if not training:
            return super().call(inputs, training=False)
        means, variances, outputs = [], [], []
        for part in tf.split(inputs, self.num_groups):
            output, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                part, self.gamma, self.beta, epsilon=self.epsilon, is_training=True
            )
            outputs.append(output)
            means.append(mean)
            variances.append(variance)
        self._move(self.moving_mean, means)
        self._move(self.moving_variance, variances)
        return tf.concat(outputs, 0)

    def get_config(self):
        return {**super().get_config(), "num_groups": self.num_groups}

    def _move(self, moving, group_values):
        value = tf.add_n(group_values) / self.num_groups
        moving.assign_sub((moving - value) * (1.0 - self.momentum))
