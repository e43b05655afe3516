"""Self-supervised pretraining of image encoders with CsMl, MoCo v2 and MoCo v1."""

from csml_tf import environment

environment.prepare()  # Before anything imports TensorFlow.

from csml_tf.zoo.registry import list_models, load_model  # noqa: E402

__all__ = ["__version__", "list_models", "load_model"]
__version__ = "0.1.0"
