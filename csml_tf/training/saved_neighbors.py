"""The neighbor table of a run, out of its newest checkpoint; no model is made for it."""

import tensorflow as tf

from csml_tf.training import checkpoint_files

_TABLE = "neighbor_table/{}/.ATTRIBUTES/VARIABLE_VALUE"
_INDICES = _TABLE.format("neighbor_indices")
_MINED_AT = _TABLE.format("mined_at_epoch")


def read_newest(directory):
    """Reads the table of the newest checkpoint that can be read.

    Args:
        directory: of the run's checkpoints; the run may be writing there.

    Returns:
        (neighbor_indices [num_images, k] int32, epoch from 0 before which they were mined, -1
        for not yet), or None if there is no checkpoint with a table.
    """
    files = checkpoint_files.CheckpointFiles(directory)
    for number in reversed(files.numbers()):
        try:
            reader = checkpoint_files.open_reader(files.prefix(number))
            if not reader.has_tensor(_INDICES):
                return None
            return reader.get_tensor(_INDICES), int(reader.get_tensor(_MINED_AT))
        # Damaged, or removed just now by the run that wrote it.
        except (tf.errors.OpError, OSError, ValueError, IndexError, RuntimeError):
            continue
    return None
