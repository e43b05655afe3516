"""In which numbers the encoders compute."""

import contextlib
import pathlib
import time

import tensorflow as tf

from csml_tf.errors import InputError

NAMES = ("float32", "mixed_bfloat16", "mixed_float16")

_CPU_INFO = pathlib.Path("/proc/cpuinfo")
_BFLOAT16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16"}


@contextlib.contextmanager
def policy(name):
    """Layers that are made inside compute as the Keras policy of this name says.

    Weights, embeddings, losses and queues are float32 always.

    Raises:
        InputError: if the name is unknown.
    """
    if name not in NAMES:
        raise InputError(f"PRECISION must be one of {', '.join(NAMES)}, got {name!r}.")
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def scale_loss(optimizer, name):
    """The optimizer, for float16 in a `LossScaleOptimizer`: small gradients would be 0 there.

    It doubles the scale now and then, and leaves out a step whose gradients overflow.
    """
    if name != "mixed_float16":
        return optimizer
    return tf.keras.mixed_precision.LossScaleOptimizer(optimizer)


def bfloat16_gain() -> float:
    """How many times as fast as in float32 this CPU convolves in bfloat16, by trial: a second.

    1.0 where it has no instructions for that (on Linux; elsewhere it is not known), since
    TensorFlow then computes one product at a time.
    """
    if not has_bfloat16_instructions():
        return 1.0
    return _convolution_s(tf.float32) / _convolution_s(tf.bfloat16)


def has_bfloat16_instructions() -> bool:
    """Whether /proc/cpuinfo lists any of AVX-512's or AMX's."""
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not _BFLOAT16_INSTRUCTIONS.isdisjoint(flags.split())


def _convolution_s(dtype):
    """Seconds of a convolution and its two gradients, the quickest of a few."""
    with tf.device("CPU:0"):
        images = tf.random.stateless_normal([16, 28, 28, 64], [0, 0], dtype=dtype)
        kernel = tf.random.stateless_normal([3, 3, 64, 64], [0, 1], dtype=dtype)

        @tf.function(autograph=False)
        def gradients():
            with tf.GradientTape() as tape:
                tape.watch((images, kernel))
                outputs = tf.nn.conv2d(images, kernel, 1, "SAME")
            return tape.gradient(outputs, (images, kernel))

        elapsed_s = []
        for _ in range(6):  # The first one sets things up.
            started = time.perf_counter()
            for gradient in gradients():
                gradient.numpy()
            elapsed_s.append(time.perf_counter() - started)
    return min(elapsed_s)
