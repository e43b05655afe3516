"""The training step alone: random views in memory, no input pipeline."""

import functools
import time

import tensorflow as tf

from csml_tf import choices, setting_rules
from csml_tf.benchmarks import measuring
from csml_tf.errors import InputError
from csml_tf.methods import byol, csml, moco, moco_v3, simclr, swav
from csml_tf.methods.cross_samples import CrossSamples
from csml_tf.models import encoder, heads
from csml_tf.models.backbones import resnet
from csml_tf.training import optim

# Heads and predictors of lightly's CIFAR-10 benchmark: (length of the embedding, hidden width).
_HEADS = {"simclr": (128, 512), "byol": (256, 1024), "moco_v3": (256, 1024), "swav": (128, 512)}
_BASES = {
    "csml": moco.MoCo,
    "moco": moco.MoCo,
    "simclr": simclr.SimCLR,
    "byol": byol.BYOL,
    "moco_v3": moco_v3.MoCoV3,
    "swav": swav.SwAV,
}
DEPTHS = {arch: int(arch.removeprefix("resnet")) for arch in choices.RESNETS}


def measure(method, arch, stem, width, res, batch, queue, steps, warmup, pairs=False):
    """Times whole steps of one level, as the authors' code has it, with ordinary batch norm.

    Args:
        method: one of `choices.METHODS`; all but "csml" are the base method alone.
        arch: one of `choices.RESNETS`.
        stem: as for `resnet.make_resnet`.
        width: as for `resnet.make_resnet`.
        res: height and width of a view, pixels.
        batch: anchors per step.
        queue: keys in the queue of "csml" and "moco", more than `batch`.
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
    sizes = {"width": width, "res": res, "batch": batch, "steps": steps, "warmup": warmup}
    setting_rules.check(sizes)
    if queue <= batch:
        raise InputError(f"--queue must be above --batch, {batch}, got {queue}: raise it.")
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
    """A compiled `CsMl`: with the authors' settings for "csml", else a base method alone."""
    make_backbone = functools.partial(resnet.make_resnet, DEPTHS[arch], width, stem)
    options = {}
    if method in _HEADS:
        dim, hidden_dim = _HEADS[method]
        make_head = functools.partial(
            heads.make_batch_norm_head, output_dim=dim, hidden_dim=hidden_dim
        )
        encoder_options = {"head_dims": {"stage4": dim}, "make_head": make_head}
        if method in ("byol", "moco_v3"):
            options["make_predictor"] = make_head
        if method == "swav":
            options["num_prototypes"] = 512
    else:
        encoder_options, options["num_negatives"] = {}, queue
    make_encoder = functools.partial(encoder.MultiLevelEncoder, make_backbone, **encoder_options)
    settings = {"neighbor_warmup_epochs": 0, "pairs": pairs}
    if method != "csml":
        settings = {"query_kinds": ("image",), "positive_weights": (1.0, 0.0)}
    make_base = functools.partial(_BASES[method], make_encoder, **options)
    model = csml.CsMl(make_base, CrossSamples(**settings))
    model.compile(optimizer=optim.TorchSGD())
    return model


def _timed(train_step, views):
    started = time.perf_counter()
    loss = float(train_step(views)["loss"])
    return time.perf_counter() - started, loss
