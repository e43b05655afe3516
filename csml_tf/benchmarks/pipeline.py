"""The input pipeline alone, from files to finished batches, and what each part of it costs."""

import dataclasses
import itertools
import statistics
import time

import numpy as np
import tensorflow as tf

from csml_tf import draws, progress, setting_rules
from csml_tf.augment import view
from csml_tf.benchmarks import measuring
from csml_tf.data import catalog, neighbor_table, parallel, pipeline

# A graph as the code says it: AutoGraph would search it for control flow, which takes seconds.
_as_it_is = tf.autograph.experimental.do_not_convert

VIEWS = {
    "csml": ("query", "key", "neighbor_query", "neighbor_key"),
    "moco": ("query", "key"),
}

# More would not fit into every page cache, and the disk is not what is measured.
_MAX_IMAGES = 4096
# An epoch that no measurement gets to the end of, however few images there are.
_EPOCH_ANCHORS = 2**18
_NUM_NEIGHBORS = 5
_WARMUP_BATCHES = 6
_WARMUP_S = 3.0
_WINDOW_BATCHES = 8


def measure(
    dataset,
    data_dir=None,
    method="csml",
    res=224,
    batch=32,
    augment_on="host",
    blur=True,
    windows=5,
    window_s=2.0,
    seed=0,
):
    """Times `data.pipeline.make_epoch` with MoCo v2's views and a random neighbor table.

    A sample is all views of one anchor. Of encoded images at most 4,096 are drawn, all of
    them read once before the clock starts; few images are used again and again.

    The parts are differences of process CPU time between pipelines of the same images, each
    measured like the whole:

        read         = reading anchor and neighbor, and nothing else
        crop         = (reading, decoding, cropping twice over) - (the same, cropping once)
        photometric  = make_epoch on the host - make_epoch that leaves it to the device
        decode       = what is left; drawing indices and numbers, and batching, included

    CPU time is of all threads, so it does not depend on how many there are, and little on
    what else the machine does. Images that are in memory need no decoding, so there crop is
    what is left; where the device does the photometric part, it is not measured.

    Args:
        dataset: data set string; its "pretrain" images are read.
        data_dir: where TFDS finds its data sets; None for its own default.
        method: "csml", four views of a sample; any other, the two of the anchor.
        res: height and width of a view, pixels.
        batch: samples per batch.
        augment_on: one of `pipeline.AUGMENT_ON`.
        blur: whether half of the views are blurred.
        windows: that are timed; the median counts.
        window_s: shortest window, seconds; at least 8 batches, and whole ones.
        seed: int at least 0, of every draw.

    Returns:
        dict of the arguments, "images" (in use), "views" (of a sample), "samples_per_s"
        (median) and "samples_per_s_spread" (median, min, max, n), "views_per_s",
        "cpu_ms_per_sample", "parts_ms_per_sample" (see above; None where a part is not there;
        their sum is the whole), "peak_rss_mb" (of the process before the parts are measured,
        2**20 bytes), "warmup_s" (from building the pipeline to the first window) and
        "tensorflow" (version).

    Raises:
        InputError: if a number is out of range, or the data set cannot be read.
    """
    sizes = {"res": res, "batch": batch, "windows": windows}
    setting_rules.check({**sizes, "window_s": window_s, "seed": seed})
    source = catalog.open_dataset(dataset, data_dir).split("pretrain")
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(source))
    if source.image_shape is None:
        chosen = chosen[:_MAX_IMAGES]
        _read_once(source, chosen)
    num_anchors = max(_EPOCH_ANCHORS, batch)
    repeated = source.subset(np.resize(chosen, num_anchors), source.name)
    table = neighbor_table.NeighborTable(num_anchors, _NUM_NEIGHBORS)
    table.assign(rng.integers(0, num_anchors, [num_anchors, _NUM_NEIGHBORS]), epoch=0)
    augmentation = view.ViewAugmentation(image_size=res, blur_probability=0.5 if blur else 0.0)
    augmentations = {name: augmentation for name in VIEWS.get(method, VIEWS["moco"])}

    def epoch(where):
        step_draws = (batch, seed, 0, table)
        return pipeline.make_epoch(repeated, augmentations, *step_draws, augment_on=where)

    def cuts(num_cuts):
        return _make_cuts(repeated, augmentations, batch, seed, num_cuts)

    makers = {"whole": lambda: epoch(augment_on), "read": lambda: cuts(0)}
    if augment_on == "host":
        makers["uncolored"] = lambda: epoch("device")
    if source.image_shape is None:
        makers["cut once"] = lambda: cuts(1)
        makers["cut twice"] = lambda: cuts(2)
    timings = {}
    with progress.bar(len(makers), f"Measuring {source.name}", unit="pipelines") as advance:
        for name, make in makers.items():
            timings[name] = _time(make, batch, windows, window_s)
            advance(1)
    whole = timings["whole"]
    parts = parts_ms({name: timing.cpu_ms for name, timing in timings.items()})
    rates_spread = measuring.spread(whole.samples_per_s, digits=2)
    return {
        "bench": "pipeline",
        "dataset": dataset,
        "images": len(chosen),
        "method": method,
        "res": res,
        "batch": batch,
        "views": len(augmentations),
        "augment_on": augment_on,
        "blur": blur,
        "samples_per_s": rates_spread["median"],
        "samples_per_s_spread": rates_spread,
        "views_per_s": round(rates_spread["median"] * len(augmentations), 1),
        "cpu_ms_per_sample": round(whole.cpu_ms, 4),
        "parts_ms_per_sample": {
            name: None if ms is None else round(ms, 4) for name, ms in parts.items()
        },
        "peak_rss_mb": round(whole.peak_rss_mb, 1),
        "warmup_s": round(whole.warmup_s, 2),
        "tensorflow": tf.__version__,
    }


def parts_ms(cpu_ms):
    """What each part costs, by the formulas of `measure`.

    Args:
        cpu_ms: {pipeline: CPU time of a sample}: "whole" and "read", "uncolored" where the
            host does the photometric part, "cut once" and "cut twice" where images are decoded.

    Returns:
        {"read", "decode", "crop", "photometric"}: float, or None where the part is not there.

    Example:
        >>> parts_ms({"whole": 9.0, "read": 1.0, "uncolored": 6.0})
        {'read': 1.0, 'decode': None, 'crop': 5.0, 'photometric': 3.0}
    """
    read = cpu_ms["read"]
    cut = cpu_ms.get("uncolored", cpu_ms["whole"])
    photometric = cpu_ms["whole"] - cut if "uncolored" in cpu_ms else None
    decode, crop = None, cut - read
    if "cut twice" in cpu_ms:
        crop = cpu_ms["cut twice"] - cpu_ms["cut once"]
        decode = cut - read - crop
    return {"read": read, "decode": decode, "crop": crop, "photometric": photometric}


def _read_once(source, indices):
    """So that files come from the page cache later."""
    reads = tf.data.Dataset.from_tensor_slices(indices).map(
        lambda index: source.read_with(index, tf.strings.length), parallel.CALLS
    )
    for _ in parallel.prefetch(reads):
        pass


def _make_cuts(source, augmentations, batch, seed, num_cuts):
    """Batches of nothing but the images' sizes, or of crops that are made `num_cuts` times."""
    # Two views of each image, the anchor's and, where there are four, the neighbor's.
    num_images = len(augmentations) // 2
    pair = list(augmentations.values())[:2]

    def draw(step):
        """-> ([images] indices, [images, 2, num_uniforms] numbers of the two views)."""
        step_seed = draws.fold_in([seed, seed], step)
        indices = tf.random.stateless_uniform(
            [num_images], step_seed, maxval=len(source), dtype=tf.int64
        )
        shape = [num_images, len(pair), pair[0].num_uniforms]
        return indices, tf.random.stateless_uniform(shape, step_seed)

    def read(step):
        indices, uniforms = draw(step)
        made = []
        for index, rows in zip(tf.unstack(indices), tf.unstack(uniforms)):

            def decode(encoded, rows=rows):
                if not num_cuts:
                    return tf.strings.length(encoded)
                return view.cut_views(encoded, pair * num_cuts, tf.unstack(rows) * num_cuts)

            made.append(source.read_with(index, decode))
        return made

    def read_batch(step):
        indices = tf.random.stateless_uniform(
            [num_images, batch], [seed, seed + step], maxval=len(source), dtype=tf.int64
        )
        return [source.read(row) for row in tf.unstack(indices)]

    steps = tf.data.Dataset.range(_EPOCH_ANCHORS)
    if source.image_shape is None:
        batches = steps.map(_as_it_is(read), parallel.CALLS).batch(batch, drop_remainder=True)
    else:
        batches = steps.map(_as_it_is(read_batch), parallel.CALLS)
    return parallel.prefetch(batches)


@dataclasses.dataclass(frozen=True)
class _Timing:
    cpu_ms: float  # Of a sample, the median window's.
    samples_per_s: list  # Of each window.
    warmup_s: float
    peak_rss_mb: float


def _time(make_dataset, batch, windows, window_s):
    started = time.perf_counter()
    batches = iter(make_dataset().repeat())
    _take(batches, _WARMUP_BATCHES, min(_WARMUP_S, windows * window_s))
    warmup_s = time.perf_counter() - started
    cpu_ms, samples_per_s = [], []
    for _ in range(windows):
        count, elapsed_s, cpu_s = _take(batches, _WINDOW_BATCHES, window_s)
        cpu_ms.append(1e3 * cpu_s / (batch * count))
        samples_per_s.append(batch * count / elapsed_s)
    return _Timing(statistics.median(cpu_ms), samples_per_s, warmup_s, measuring.peak_rss_mb())


def _take(batches, min_batches, min_s):
    """Takes whole batches: (how many, seconds, CPU seconds of all threads)."""
    started, cpu_started = time.perf_counter(), time.process_time()
    for count in itertools.count(1):
        next(batches)
        elapsed_s = time.perf_counter() - started
        if count >= min_batches and elapsed_s >= min_s:
            return count, elapsed_s, time.process_time() - cpu_started
