"""What the processes of a run have in common, and the proof that it is the same.

With one process all of this is quick and trivially true. Inside a step replicas meet in
`models.cross_replica`; here whole processes do, between steps.
"""

import hashlib

import numpy as np
import tensorflow as tf

from csml_tf.errors import InputError


def check_same_text(strategy, text, what):
    """Ends all workers if they do not have the same text.

    Args:
        strategy: `tf.distribute.Strategy`.
        text: of this worker, such as its settings.
        what: the name of the text in the error.

    Raises:
        InputError: on every worker, if one has another text.
    """
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.int32)
    digests = _gather(strategy, digest)
    strangers = sorted({i for i, other in enumerate(digests) if (other != digests[0]).any()})
    if strangers:
        raise InputError(
            f"The {what} of replica {', '.join(map(str, strangers))} differs from that of replica "
            "0: start all workers with the same command, recipe and data set."
        )


def check_same_state(strategy, variables, table=None):
    """Ends all workers if what has to be the same on all replicas is not.

    Args:
        strategy: `tf.distribute.Strategy`.
        variables: {name: variable that every replica holds a copy of}.
        table: [num_images, num_neighbors] integer, the neighbour table of this worker.

    Raises:
        RuntimeError: on every worker, with the names of what differs and the replicas.
    """
    if strategy.num_replicas_in_sync == 1:
        return
    if table is not None:
        check_same_text(strategy, hashlib.sha256(table.tobytes()).hexdigest(), "neighbor table")

    @tf.function
    def run():
        def fingerprints():
            found = tf.stack([_fingerprint(variable) for variable in variables.values()])
            return tf.distribute.get_replica_context().all_gather(found[None], axis=0)

        return strategy.experimental_local_results(strategy.run(fingerprints))[0]

    found = run().numpy()
    for name, values in zip(variables, found.T):
        if (values != values[0]).any():
            raise RuntimeError(
                f"The replicas {np.flatnonzero(values != values[0]).tolist()} hold another {name} "
                "than replica 0: the checkpoints since the last epoch cannot be trusted."
            )


def share(strategy, value):
    """The first worker's array on every worker.

    Args:
        strategy: `tf.distribute.Strategy`.
        value: int32 array; of the other workers only its shape counts.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return value

    def own(context):
        gives = context.replica_id_in_sync_group == 0
        return tf.constant(value) if gives else tf.zeros_like(value)

    @tf.function
    def run(own):
        def add_up(own):
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(own))

        return strategy.experimental_local_results(strategy.run(add_up, args=(own,)))[0]

    return run(strategy.experimental_distribute_values_from_function(own)).numpy()


def _gather(strategy, value):
    """[replicas, ...]: the array of every replica's worker, the same on all workers."""
    if strategy.num_replicas_in_sync == 1:
        return value[None]
    own = strategy.experimental_distribute_values_from_function(lambda _: tf.constant(value[None]))

    @tf.function
    def run(own):
        def gather(own):
            return tf.distribute.get_replica_context().all_gather(tf.identity(own), axis=0)

        return strategy.experimental_local_results(strategy.run(gather, args=(own,)))[0]

    return run(own).numpy()


def _fingerprint(variable):
    """A number that any changed bit of the variable changes, and so does any swap."""
    value = tf.convert_to_tensor(variable)
    bits = value if value.dtype == tf.int64 else tf.cast(tf.bitcast(value, tf.int32), tf.int64)
    bits = tf.reshape(bits, [-1])
    return tf.reduce_sum(bits * (2 * tf.range(tf.size(bits, tf.int64), dtype=tf.int64) + 1))
