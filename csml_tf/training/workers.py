"""What the processes of a run have in common, and the proof that it is the same.

With one process all of this is quick and trivially true. Inside a step replicas meet in
`models.cross_replica`; here whole processes do, between steps.
"""

import contextlib
import functools
import hashlib
import tempfile

import numpy as np
import tensorflow as tf

from csml_tf import whole_files
from csml_tf.errors import InputError
from csml_tf.models import cross_replica
from csml_tf.training import strategies
from csml_tf.training.run_directory import RunDirectory


def check_same_settings(strategy, text):
    """Refuses to begin where a worker has another recipe or other images.

    Args:
        strategy: `tf.distribute.Strategy`.
        text: of this worker, all that decides the result of the run.

    Raises:
        InputError: on every worker, if one has another text.
    """
    strangers = _differing(_gather(strategy, _digest(text.encode())))
    if strangers:
        raise InputError(
            f"The recipe, its overrides or the images of {strangers} differ from those of "
            "replica 0: start all workers with the same command and the same data."
        )


def check_same_state(strategy, variables, table=None):
    """Ends all workers if what has to be the same on all replicas is not.

    Args:
        strategy: `tf.distribute.Strategy`.
        variables: {name: variable that every replica holds a copy of}.
        table: `NeighborTable` of this worker, or None.

    Raises:
        RuntimeError: on every worker, with the names of what differs and the replicas.
    """
    if strategy.num_replicas_in_sync == 1:
        return
    if table is not None:
        indices = table.neighbor_indices.numpy()
        _check_equal("neighbor table", _gather(strategy, _digest(indices.tobytes())))

    @tf.function(autograph=False)
    def run():
        def fingerprints():
            found = tf.stack([_fingerprint(variable) for variable in variables.values()])
            # As pairs of int32, which every device can add up.
            return cross_replica.all_gather(tf.bitcast(found, tf.int32)[None])

        return strategy.experimental_local_results(strategy.run(fingerprints))[0]

    found = run().numpy()
    for name, values in zip(variables, np.swapaxes(found, 0, 1)):
        _check_equal(name, values)


def share(strategy, value):
    """The first worker's array on every worker.

    Args:
        strategy: `tf.distribute.Strategy`.
        value: int32 array; of the other workers only its shape counts.
    """
    if is_alone(strategy):
        return value

    def own(context):
        gives = context.replica_id_in_sync_group == 0
        return tf.constant(value) if gives else tf.zeros_like(value)

    own = strategy.experimental_distribute_values_from_function(own)
    return _on_replicas(strategy, cross_replica.total)(own).numpy()


def share_rows(strategy, num_rows, compute):
    """A table of which each replica's worker computes a part of the rows, on every worker.

    Args:
        strategy: `tf.distribute.Strategy`.
        num_rows: of the table.
        compute: function of a slice of the rows to these, [rows, columns] int32.

    Returns:
        [num_rows, columns] int32, the same on all workers.
    """

    def own(context):
        replica, replicas = context.replica_id_in_sync_group, context.num_replicas_in_sync
        rows = slice(num_rows * replica // replicas, num_rows * (replica + 1) // replicas)
        found = np.asarray(compute(rows), np.int32)
        table = np.zeros([num_rows, found.shape[1]], np.int32)
        table[rows] = found
        return tf.constant(table)

    own = strategy.experimental_distribute_values_from_function(own)
    return _on_replicas(strategy, cross_replica.total)(own).numpy()


def share_number(strategy, find):
    """The number that the first worker's `find()` returns, on every worker."""
    number = find() if strategies.is_chief(strategy) else 0
    return int(share(strategy, np.array([number], np.int32))[0])


def largest(strategy, number):
    """The largest of all workers' whole numbers, on every worker."""
    if is_alone(strategy):
        return number
    return int(_gather(strategy, np.array([number], np.int32)).max())


def is_alone(strategy):
    """Whether this process is the only one of its run."""
    return not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def meet(strategy):
    """Waits for all workers: who leaves early is taken for dead by the others."""
    largest(strategy, 0)


@contextlib.contextmanager
def own_directory(strategy, run_directory):
    """The run directory for the chief, locked; a temporary one for any other worker.

    TensorFlow wants every worker to take part when a model is saved, though one would do.
    """
    if strategies.is_chief(strategy):
        with whole_files.hold(run_directory.path):
            yield run_directory
    else:
        with tempfile.TemporaryDirectory(prefix="csml_tf_worker_") as folder:
            yield RunDirectory(folder)


def _check_equal(name, values):
    strangers = _differing(values)
    if strangers:
        raise RuntimeError(
            f"The {name} of {strangers} is not that of replica 0: go on from a checkpoint of an "
            "earlier epoch, since those of this one cannot be trusted."
        )


def _differing(values):
    """Words for the rows that are not equal to the first; empty where all are."""
    strangers = [str(i) for i, row in enumerate(values) if np.any(row != values[0])]
    return f"replica {', '.join(strangers)}" if strangers else ""


def _digest(data):
    return np.frombuffer(hashlib.sha256(data).digest(), np.int32)


def _gather(strategy, value):
    """[replicas, ...]: the array of every replica's worker, the same on all workers."""
    if strategy.num_replicas_in_sync == 1:
        return value[None]
    own = strategy.experimental_distribute_values_from_function(lambda _: tf.constant(value[None]))
    return _on_replicas(strategy, cross_replica.all_gather)(own).numpy()


@functools.lru_cache(maxsize=8)
def _on_replicas(strategy, function):
    """The first replica's result of `function(value)`; traced once, since every step asks."""

    @tf.function(autograph=False)
    def run(own):
        return strategy.experimental_local_results(strategy.run(function, args=(own,)))[0]

    return run


def _fingerprint(variable):
    """A number that any changed bit of the variable changes, and so does any swap."""
    value = tf.convert_to_tensor(variable)
    bits = value if value.dtype == tf.int64 else tf.cast(tf.bitcast(value, tf.int32), tf.int64)
    bits = tf.reshape(bits, [-1])
    return tf.reduce_sum(bits * (2 * tf.range(tf.size(bits, tf.int64), dtype=tf.int64) + 1))
