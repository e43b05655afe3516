"""Process settings that only count when made before TensorFlow is imported."""

import importlib.util
import os
import sys


def prepare():
    """Chooses Keras 2 and oneDNN, kernels kept, for this process, unless the user chose already.

    Raises:
        ImportError: if TensorFlow was imported earlier with Keras 3 inside.
    """
    # From TensorFlow 2.16 on Keras 2 is the package tf_keras. TensorFlow 2.15 obeys the
    # variable too, and fails where the package is missing.
    if importlib.util.find_spec("tf_keras") is not None:
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    # Off by default on CPUs without AVX-512, where it makes a training step
    # 1.6 to 2 times faster.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # By default TensorFlow builds the kernels of a convolution's two gradients anew in every step,
    # so as to keep no large buffers (github.com/tensorflow/tensorflow/pull/21690).
    os.environ.setdefault("TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE", "false")
    # 3: on a machine without a GPU TensorFlow reports at level ERROR that cuDNN, cuFFT and
    # cuBLAS are registered twice. What really goes wrong raises an exception as well, or ends
    # the process, which level 3 shows; a GPU that is not found shows in the tools' first lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and _has_keras_3(tensorflow):
        raise ImportError(
            "csml_tf needs Keras 2, but TensorFlow was imported before it with Keras 3: import "
            "csml_tf first, or install tf-keras and set TF_USE_LEGACY_KERAS=1."
        )


def _has_keras_3(tensorflow):
    release = tuple(int(part) for part in tensorflow.__version__.split(".")[:2])
    return release >= (2, 16) and not tensorflow.keras.Model.__module__.startswith("tf_keras")
