"""Self-supervised pretraining of image encoders: CsMl on MoCo, SimCLR, BYOL, MoCo v3 and SwAV."""

import importlib
from typing import TYPE_CHECKING

from csml_tf import environment

environment.prepare()  # Before anything imports TensorFlow.

if TYPE_CHECKING:
    from csml_tf.api import evaluate, extract, pretrain
    from csml_tf.errors import InputError
    from csml_tf.zoo.registry import list_models, load_model

__version__ = "0.1.0"
__all__ = [
    "InputError",
    "__version__",
    "evaluate",
    "extract",
    "list_models",
    "load_model",
    "pretrain",
]
# Name -> its module, imported when the name is first used: TensorFlow takes seconds.
_HOMES = {
    "InputError": "csml_tf.errors",
    "evaluate": "csml_tf.api",
    "extract": "csml_tf.api",
    "list_models": "csml_tf.zoo.registry",
    "load_model": "csml_tf.zoo.registry",
    "pretrain": "csml_tf.api",
}


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__():
    return sorted({*globals(), *__all__})
