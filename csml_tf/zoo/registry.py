"""Which pretrained encoders there are, and how to open one."""

import pathlib

import tensorflow as tf

from csml_tf.errors import InputError


def list_models():
    """Ids of the encoders that ship with this package; none does yet."""
    return ()


def find_saved_model(id_or_dir):
    """The folder of a SavedModel.

    Args:
        id_or_dir: an id out of `list_models()`, the folder of a SavedModel, or a run
            directory, whose `saved_model/` is meant.

    Returns:
        `pathlib.Path` of a folder that holds `saved_model.pb`.

    Raises:
        InputError: if there is no such model.
    """
    directory = pathlib.Path(id_or_dir)
    for candidate in (directory, directory / "saved_model"):
        if (candidate / "saved_model.pb").exists():
            return candidate
    if (directory / "checkpoints").exists():
        raise InputError(
            f"The run in {directory} has no saved_model/ yet: let tools/train.py finish it."
        )
    raise InputError(
        f"There is no model {str(id_or_dir)!r}: give a run directory or the folder of a "
        "SavedModel; no encoder ships with this package yet."
    )


def load_model(id_or_dir):
    """Opens an exported encoder.

    Args:
        id_or_dir: as for `find_saved_model`.

    Returns:
        `tf.keras.Model`: [batch, height, width, 3] float32 RGB in [0, 1], any size
        from 32 px up -> [batch, feature_dim] float32. Trainable.

    Raises:
        InputError: if there is no such model, or it is damaged.
    """
    directory = find_saved_model(id_or_dir)
    try:
        return tf.keras.models.load_model(directory, compile=False)
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"The model in {directory} cannot be read ({reason}): export it again."
        ) from error
