"""The mean of each part of the loss over the steps of an epoch."""

import tensorflow as tf

from csml_tf.models import cross_replica


class RunningMeans(tf.Module):
    """Means of named scalars, over steps and replicas; every replica holds the same.

    In place of one Keras metric for each: these would ask all replicas for their sums once
    per metric and step, this asks once per step.

    Args:
        names: of the scalars.
    """

    def __init__(self, names):
        super().__init__(name="running_means")
        self.names = tuple(names)
        self._totals = tf.Variable(tf.zeros([len(self.names)]), trainable=False, name="totals")
        self._steps = tf.Variable(0.0, trainable=False, name="steps")

    def update(self, values):
        """Adds one step, inside of `strategy.run`.

        Args:
            values: {name: scalar} of this replica, for all of `names`.

        Returns:
            {name: mean by now, over all replicas}.
        """
        own = tf.stack([values[name] for name in self.names])
        totals = self._totals + cross_replica.total(own) / cross_replica.num_replicas()
        steps = self._steps + 1.0

        def assign(variable, value):
            variable.assign(value)

        cross_replica.update([self._totals, self._steps], assign, [totals, steps])
        return dict(zip(self.names, tf.unstack(totals / steps)))

    def result(self):
        """{name: float mean of the steps since `reset`}; not a number before the first."""
        means = self._totals.numpy() / self._steps.numpy() if self._steps.numpy() else None
        nothing = [float("nan")] * len(self.names)
        return dict(zip(self.names, nothing if means is None else map(float, means)))

    def reset(self):
        """Begins anew."""
        self._totals.assign(tf.zeros_like(self._totals))
        self._steps.assign(0.0)
