"""Feature extraction alone: random images in memory, through an exported encoder."""

import functools
import tempfile
import time

import tensorflow as tf

from csml_tf import setting_rules
from csml_tf.benchmarks import measuring, step
from csml_tf.errors import InputError
from csml_tf.evaluation import bfloat16, frozen_encoder
from csml_tf.export import saved_model
from csml_tf.models import encoder
from csml_tf.models.backbones import resnet

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def measure(arch, stem, width, res, batch, steps, warmup, precision="float32"):
    """Times `FrozenEncoder.encode`, as extraction and kNN evaluation call it.

    Args:
        arch: one of `choices.RESNETS`.
        stem: as for `resnet.make_resnet`.
        width: as for `resnet.make_resnet`.
        res: height and width of an image, pixels.
        batch: images per call.
        steps: calls that are timed; the median counts.
        warmup: calls before.
        precision: one of `choices.COMPUTE_PRECISIONS`.

    Returns:
        dict of the arguments, "features" (length of a row), "bn_folded", "step_s" (seconds
        of a call: median, min, max, n), "images_per_s" and "peak_rss_mb" (of the process,
        2**20 bytes, export and folding included).

    Raises:
        InputError: if a number is out of range.
    """
    setting_rules.check({"width": width, "batch": batch, "steps": steps, "warmup": warmup})
    if res < 32:
        raise InputError(f"--res must be at least 32, got {res}: raise it.")
    tf.keras.utils.set_random_seed(0)
    make_backbone = functools.partial(resnet.make_resnet, step.DEPTHS[arch], width, stem)
    network = encoder.MultiLevelEncoder(make_backbone)
    with tempfile.TemporaryDirectory() as directory:
        saved_model.export(network, f"{directory}/model", _MEAN, _STD, {})
        encode = frozen_encoder.FrozenEncoder(f"{directory}/model").encode()
        encode = bfloat16.choose(encode, precision)
    images = tf.random.uniform([batch, res, res, 3])
    for _ in range(warmup):
        features = encode(images).numpy()
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        features = encode(images).numpy()
        seconds.append(time.perf_counter() - started)
    step_s = measuring.spread(seconds)
    return {
        "bench": "extract",
        "arch": arch,
        "stem": stem,
        "width": width,
        "res": res,
        "batch": batch,
        "precision": precision,
        "features": features.shape[1],
        "bn_folded": True,
        "tensorflow": tf.__version__,
        "step_s": step_s,
        "images_per_s": round(batch / step_s["median"], 2),
        "peak_rss_mb": round(measuring.peak_rss_mb(), 1),
    }
