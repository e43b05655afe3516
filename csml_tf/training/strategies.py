"""Which devices a run uses."""

import json
import os

import tensorflow as tf
from absl import logging

from csml_tf import amounts, choices, errors
from csml_tf.errors import InputError

_CLUSTER = "TF_CONFIG"


def make(name, tpu=None, worker_timeout_s=1800):
    """A `tf.distribute.Strategy` by name; call it before any other TensorFlow operation.

    Args:
        name: "none" (one device), "mirrored" (every GPU of this machine), "multi_worker"
            (the machines that the environment variable TF_CONFIG lists, this script running
            on each), "tpu", or "auto": multi_worker where TF_CONFIG lists several workers,
            else mirrored where there are GPUs, else none.
        tpu: of "tpu" only: name or address of the TPU; None is the one of this machine.
        worker_timeout_s: of "multi_worker" only: the longest that a worker waits for
            another, above the longest time that one of them works alone; whoever dies is
            noticed within seconds without it.

    Raises:
        InputError: if the name is unknown, TF_CONFIG is missing or unreadable, or there is
            no such TPU.
    """
    if name not in choices.STRATEGIES:
        raise InputError(
            f"--strategy must be one of {', '.join(choices.STRATEGIES)}, got {name!r}."
        )
    if tpu is not None and name != "tpu":
        raise InputError("--tpu names a TPU, so it needs --strategy=tpu.")
    if name == "tpu":
        return _make_tpu_strategy(tpu)
    if name == "multi_worker" or (name == "auto" and len(_read_workers(False)) > 1):
        return _make_multi_worker_strategy(worker_timeout_s)
    num_gpus = len(tf.config.list_physical_devices("GPU"))
    logging.info("TensorFlow %s sees %s.", tf.__version__, _count_gpus(num_gpus))
    if name == "none" or (name == "auto" and num_gpus == 0):
        return tf.distribute.get_strategy()
    # tf.distribute, for one GPU too: it copies the next batch there while a step runs.
    return tf.distribute.MirroredStrategy()


def is_chief(strategy):
    """Whether this process is the one that writes: the only one, or the first worker."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or resolver is None:
        return True
    return resolver.task_type in (None, "chief") or (
        resolver.task_type == "worker"
        and resolver.task_id == 0
        and "chief" not in resolver.cluster_spec().jobs
    )


def uses_cpus(strategy: tf.distribute.Strategy) -> bool:
    """Whether a strategy trains on no GPU and no TPU."""
    on_tpu = isinstance(strategy, tf.distribute.TPUStrategy)
    return not on_tpu and not tf.config.list_logical_devices("GPU")


def _make_multi_worker_strategy(worker_timeout_s):
    workers = _read_workers(True)
    if not workers:
        raise InputError(
            "--strategy=multi_worker reads the cluster from the environment variable TF_CONFIG, "
            "which lists no worker: set it on every worker as docs/scaling.md shows."
        )
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=worker_timeout_s)
    logging.info("Waiting for the %d workers %s.", len(workers), ", ".join(workers))
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    resolver = strategy.cluster_resolver
    logging.info(
        "TensorFlow %s, %s %d of %d workers, %d replicas in all.",
        *(tf.__version__, resolver.task_type, resolver.task_id, len(workers)),
        strategy.num_replicas_in_sync,
    )
    return strategy


def _make_tpu_strategy(tpu):
    # "local" is how TensorFlow calls the TPU of the machine that the program runs on.
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu or "local")
        if tpu not in (None, "local"):
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, OSError, tf.errors.OpError) as error:
        reason = errors.first_line(error).split(". ")[0]
        raise InputError(
            f"There is no TPU {tpu or 'on this machine'} ({reason}): name one with --tpu, or "
            "choose another --strategy."
        ) from error
    strategy = tf.distribute.TPUStrategy(resolver)
    cores = strategy.num_replicas_in_sync
    logging.info("TensorFlow %s and a TPU of %d cores.", tf.__version__, cores)
    return strategy


def _read_workers(check_task):
    """Addresses of all workers in TF_CONFIG, the chief first; none where it names none."""
    text = os.environ.get(_CLUSTER, "")
    if not text:
        return []
    try:
        config = json.loads(text)
        cluster = config.get("cluster", {})
        workers = [*_addresses(cluster, "chief").values(), *_addresses(cluster, "worker").values()]
        if not workers or not check_task:
            return workers
        task = config["task"]
        tasks = _addresses(cluster, task["type"])
        known = int(task["index"]) in tasks
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"The environment variable TF_CONFIG cannot be read ({error!r}): write it as "
            "docs/scaling.md shows."
        ) from error
    if not known:
        raise InputError(
            f"TF_CONFIG says that this is {task['type']} {task['index']}, but its cluster has "
            f"only {len(tasks)}: count from 0."
        )
    return workers


def _addresses(cluster, kind):
    """{index: address} of one kind of task, as a list or, of a sparse cluster, as a table."""
    tasks = cluster.get(kind, [])
    if isinstance(tasks, str):
        tasks = [tasks]
    pairs = tasks.items() if isinstance(tasks, dict) else enumerate(tasks)
    return {int(index): address for index, address in pairs}


def _count_gpus(num_gpus):
    if num_gpus == 0:
        return "no GPU and works on the CPU"
    return amounts.count(num_gpus, "GPU")
