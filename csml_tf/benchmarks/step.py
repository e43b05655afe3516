"""The training step alone: random views in memory, no input pipeline."""

import functools
import time

import tensorflow as tf

from csml_tf.benchmarks import measuring
from csml_tf.errors import InputError
from csml_tf.methods import csml, moco
from csml_tf.methods.cross_samples import CrossSamples
from csml_tf.models import encoder
from csml_tf.models.backbones import resnet
from csml_tf.training import optim

METHODS = ("csml", "moco")
DEPTHS = {f"resnet{depth}": depth for depth in (18, 34, 50, 101, 152)}
ARCHS = tuple(DEPTHS)


def measure(method, arch, stem, width, res, batch, queue, steps, warmup, pairs=False):
    """Times whole steps of one level, as the authors' code has it, with ordinary batch norm.

    Args:
        method: "csml" or "moco".
        arch: one of `ARCHS`.
        stem: as for `resnet.make_resnet`.
        width: as for `resnet.make_resnet`.
        res: height and width of a view, pixels.
        batch: anchors per step.
        queue: keys in the queue, more than `batch`.
        steps: that are timed; the median counts.
        warmup: steps before, the first of which includes tracing.
        pairs: whether a "csml" batch is one of pairs; its images then count as anchors.

    Returns:
        dict of the arguments, "step_s" (seconds: median, min, max, n), "anchors_per_s",
        "warmup_s", "peak_rss_mb" (of the process, 2**20 bytes) and "last_loss".

    Raises:
        InputError: if a number is out of range.
    """
    if pairs and (method != "csml" or batch % 2):
        raise InputError(
            "Only batches of csml with an even number of images are pairs: leave --pairs out, or "
            "choose another --method or --batch."
        )
    if min(width, res, batch, steps, warmup) < 1 or queue <= batch:
        raise InputError(
            "width, res, batch, steps and warmup must be at least 1 and queue above batch: "
            f"got {width}, {res}, {batch}, {steps}, {warmup} and {queue}."
        )
    tf.keras.utils.set_random_seed(0)
    model = make_model(method, arch, stem, width, queue, pairs)
    views = {name: tf.random.normal([batch, res, res, 3]) for name in model.view_names}
    train_step = tf.function(model.train_step, autograph=False)
    warmup_s = sum(_timed(train_step, views)[0] for _ in range(warmup))
    seconds = []
    for _ in range(steps):
        elapsed_s, loss = _timed(train_step, views)
        seconds.append(elapsed_s)
    step_s = measuring.spread(seconds)
    return {
        "bench": "step",
        "method": method,
        "pairs": pairs,
        "arch": arch,
        "stem": stem,
        "width": width,
        "res": res,
        "batch": batch,
        "queue": queue,
        "tensorflow": tf.__version__,
        "step_s": step_s,
        "anchors_per_s": round(batch / step_s["median"], 3),
        "warmup_s": round(warmup_s, 2),
        "peak_rss_mb": round(measuring.peak_rss_mb(), 1),
        "last_loss": round(loss, 5),
    }


def make_model(method, arch, stem, width, queue, pairs=False):
    """A compiled `CsMl` with the authors' settings for "csml", or MoCo v2's for "moco"."""
    make_backbone = functools.partial(resnet.make_resnet, DEPTHS[arch], width, stem)
    make_encoder = functools.partial(encoder.MultiLevelEncoder, make_backbone)
    settings = {"neighbor_warmup_epochs": 0, "pairs": pairs}
    if method == "moco":
        settings = {"query_kinds": ("image",), "positive_weights": (1.0, 0.0)}
    model = csml.CsMl(functools.partial(moco.MoCo, make_encoder, queue), CrossSamples(**settings))
    model.compile(optimizer=optim.TorchSGD())
    return model


def _timed(train_step, views):
    started = time.perf_counter()
    loss = float(train_step(views)["loss"])
    return time.perf_counter() - started, loss
