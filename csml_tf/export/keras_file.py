"""The `.keras` file, one zip with a config and the weights, of stock layers."""

import io
import json
import pathlib
import zipfile

import h5py
import numpy as np

from csml_tf.export import saved_model

_CONFIG = "config.json"
_WEIGHTS = "model.weights.h5"
# Their first module in a config is part of no public interface, and each Keras has its own.
_MODEL = {"module": "keras", "class_name": "Model", "registered_name": "Model"}
# Layers that stand for an operator or function of TensorFlow; Keras 3 has none of them.
_OF_KERAS_2_ALONE = {"TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod"}
# What only some versions write down or take, where it says no more than the default.
_DEFAULTS = {
    "InputLayer": {"optional": False, "ragged": False, "sparse": False},
    "DepthwiseConv2D": {"groups": 1},
}


def save(model, path, precision):
    """Writes the features' model; the projection head and the stages' names stay behind.

    Keras 2.15 and 3, tf-keras from 2.15 on, on any backend, open the same file: its config is
    what all of them read.

    Args:
        model: as `saved_model.load` returns it.
        path: ends with ".keras".
        precision: "float32"; "float16": kernels are stored in half precision, and are
            float32 again as soon as the model is loaded.

    Returns:
        Whether Keras 3 has all of its layers, else only Keras 2 opens the file.
    """
    path = pathlib.Path(path)
    # What hangs on the model otherwise would be looked for when the file is loaded.
    saved_model.without_head(model).save(path, save_format="keras")
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts[_CONFIG])
    parts[_CONFIG] = json.dumps(portable(config)).encode()
    if precision == "float16":
        parts[_WEIGHTS] = _halve_kernels(parts[_WEIGHTS])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    kinds = {layer["class_name"] for layer in config["config"]["layers"]}
    return not kinds & _OF_KERAS_2_ALONE


def portable(config):
    """The config of a functional model, as all versions of Keras from 2.15 on read it.

    Args:
        config: of a `.keras` file that Keras 2 wrote.

    Example:
        >>> layer = {"class_name": "BatchNormalization", "config": {"axis": [3]}}
        >>> ends = {"input_layers": [["images", 0, 0]], "output_layers": [["features", 0, 0]]}
        >>> portable({"class_name": "Functional", "config": {"layers": [layer], **ends}})
        {'class_name': 'Model', 'config': {'layers': [{'class_name': 'BatchNormalization',
        'config': {'axis': 3}}], 'input_layers': ['images', 0, 0],
        'output_layers': ['features', 0, 0]}, 'module': 'keras', 'registered_name': 'Model'}
    """
    inner = {**config["config"], "layers": [_portable(each) for each in config["config"]["layers"]]}
    for ends in ("input_layers", "output_layers"):
        # Of lists of one tensor Keras 3 makes a model that takes and returns lists.
        (inner[ends],) = inner[ends]
    return {**config, "config": inner, **_MODEL}


def _portable(layer):
    defaults = _DEFAULTS.get(layer["class_name"], {})
    config = {
        name: value
        for name, value in layer["config"].items()
        if name not in defaults or value != defaults[name]
    }
    if isinstance(config.get("axis"), list) and len(config["axis"]) == 1:
        (config["axis"],) = config["axis"]
    return {**layer, "config": config}


def _halve_kernels(content):
    buffer = io.BytesIO()
    with h5py.File(io.BytesIO(content)) as old, h5py.File(buffer, "w") as new:
        old.visititems(lambda name, item: _copy_item(new, name, item))
    return buffer.getvalue()


def _copy_item(new, name, item):
    if isinstance(item, h5py.Group):
        copy = new.require_group(name)
    else:
        is_kernel = item.ndim > 1
        copy = new.create_dataset(
            name, data=item[()].astype(np.float16 if is_kernel else item.dtype)
        )
    copy.attrs.update(item.attrs)
