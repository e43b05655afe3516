"""What the replicas of a step tell each other, inside `strategy.run`.

Every function also works on one replica, where there is nobody to tell.
"""

import tensorflow as tf


def num_replicas():
    """Replicas of the strategy in scope, over all workers; 1 without a strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def own_part(values):
    """This replica's rows of a tensor of all replicas: [replicas * n, ...] -> [n, ...]."""
    replicas = num_replicas()
    if replicas == 1:
        return values
    rows = values.shape[0] // replicas
    first = tf.distribute.get_replica_context().replica_id_in_sync_group * rows
    return tf.slice(values, [first] + [0] * (values.shape.rank - 1), [rows, *values.shape[1:]])


def all_gather(values):
    """The rows of all replicas, in their order and the same on each; without a gradient.

    Args:
        values: [n, ...] on each replica, n the same on all.

    Returns:
        [replicas * n, ...].
    """
    replicas = num_replicas()
    if replicas == 1:
        return values
    if isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy):
        return all_gather_by_sum(values)  # The collective below is not made for a TPU.
    # An output of a function has no device, and collectives ask for one: hence the identity.
    gathered = tf.distribute.get_replica_context().all_gather(tf.identity(values), axis=0)
    return tf.ensure_shape(gathered, [replicas * values.shape[0], *values.shape[1:]])


def all_gather_by_sum(values):
    """As `all_gather`, but differentiable, and of static shape everywhere.

    Each replica puts its rows into zeros of the whole shape and the sum over the replicas
    has them all: more to send, so meant for small tensors, and for TPUs.
    """
    replicas = num_replicas()
    if replicas == 1:
        return values
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    mine = tf.equal(tf.range(replicas), replica)
    mine = tf.reshape(mine, [replicas] + [1] * values.shape.rank)
    placed = tf.where(mine, values[None], tf.zeros_like(values)[None])
    return tf.reshape(total(placed), [replicas * values.shape[0], *values.shape[1:]])


def total(values):
    """The sum over the replicas of a tensor, the same on each."""
    if num_replicas() == 1:
        return values
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(values))


def update(variables, function, *values):
    """Calls `function(variable, *its values)` where each replica keeps its copy of a variable.

    For variables that all replicas hold alike: the values have to be the same on all.

    Args:
        variables: list of variables.
        function: of a variable and its values; assigns to it.
        *values: lists as long as `variables`, of tensors or variables.
    """

    def update_copies(strategy, *values):
        for variable, *own in zip(variables, *values):
            strategy.extended.update(variable, function, args=tuple(own), group=False)

    # A strategy whose replicas run in threads wants this outside of them, TPUs inside.
    merge = tf.__internal__.distribute.interim.maybe_merge_call
    merge(update_copies, tf.distribute.get_strategy(), *values)
