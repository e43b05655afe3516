"""The `.keras` file, one zip with a config and the weights, of stock layers."""

import io
import pathlib
import zipfile

import h5py
import numpy as np

from csml_tf.export import saved_model

_WEIGHTS = "model.weights.h5"


def save(model, path, precision):
    """Writes the features' model; the projection head and the stages' names stay behind.

    Args:
        model: as `saved_model.load` returns it.
        path: ends with ".keras".
        precision: "float32"; "float16": kernels are stored in half precision, and are
            float32 again as soon as the model is loaded.
    """
    # What hangs on the model otherwise would be looked for when the file is loaded.
    saved_model.without_head(model).save(path, save_format="keras")
    if precision == "float16":
        _halve_kernels(pathlib.Path(path))


def _halve_kernels(path):
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO()
    with h5py.File(io.BytesIO(parts[_WEIGHTS])) as old, h5py.File(buffer, "w") as new:
        old.visititems(lambda name, item: _copy_item(new, name, item))
    parts[_WEIGHTS] = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def _copy_item(new, name, item):
    if isinstance(item, h5py.Group):
        copy = new.require_group(name)
    else:
        is_kernel = item.ndim > 1
        copy = new.create_dataset(
            name, data=item[()].astype(np.float16 if is_kernel else item.dtype)
        )
    copy.attrs.update(item.attrs)
