"""Checkpoints as files in a folder: which there are, whether they are whole, which go."""

import os
import re

import tensorflow as tf

from csml_tf import errors, places, whole_files

_STATE_KEYS = ("model_checkpoint_path", "all_model_checkpoint_paths")
_NAME = re.compile(r"ckpt-(\d+)[._].*")


class CheckpointFiles:
    """The checkpoints `ckpt-1`, `ckpt-2`, ... of a folder; a later one has a higher number.

    Where `tf.train.CheckpointManager` trusts a file that lists the checkpoints, and the clock,
    this looks at what is there: a damaged list hides no checkpoint, and a clock that was set
    back keeps none for ever.

    Args:
        directory: where the checkpoints lie.
    """

    def __init__(self, directory):
        self.directory = places.at(directory)

    def numbers(self):
        """Those of all checkpoints, incomplete ones included, in the order of writing."""
        # A folder `ckpt-1_temp` is what a run left that was killed while it wrote.
        files = [path for path in self.directory.glob("ckpt-*") if not path.is_dir()]
        return sorted({_number(path) for path in files} - {None})

    def prefix(self, number):
        """What TensorFlow calls the path of a checkpoint: its files' names without endings."""
        return str(self.directory / f"ckpt-{number}")

    def find_damage(self, number):
        """Reads all of a checkpoint, by which TensorFlow compares every tensor's checksum.

        Returns:
            What is wrong with it, in a few words; None for a whole one.
        """
        try:
            reader = open_reader(self.prefix(number))
            for name in reader.get_variable_to_shape_map():
                reader.get_tensor(name)
        except (tf.errors.OpError, OSError, ValueError, IndexError, RuntimeError) as error:
            return errors.first_line(error)
        return None

    def settle(self, number):
        """Sees to it that a checkpoint just written is on the disk, and names it as the newest.

        The name is for TensorFlow's own tools, in a file `checkpoint`.

        Raises:
            OSError: if the disk is full or not writable.
        """
        written = [*self.directory.glob(f"ckpt-{number}.*"), self.directory]
        for path in [] if places.is_url(self.directory) else written:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        lines = [f'{key}: "ckpt-{number}"\n' for key in _STATE_KEYS]
        whole_files.write(self.directory / "checkpoint", "".join(lines))

    def keep_only(self, kept):
        """Removes the files of all other checkpoints, and what killed runs left half written."""
        for path in self.directory.glob("ckpt-*"):
            number = _number(path)
            if path.is_dir() and number is not None:
                places.remove_folder(path)
            elif number is not None and number not in kept:
                path.unlink(missing_ok=True)


def open_reader(prefix):
    """TensorFlow's reader of a checkpoint's tensors, by its prefix.

    `tf.train.load_checkpoint` asks first whether the prefix is a folder, which a store may take
    it for that has folders as parts of names only.
    """
    return tf.compat.v1.train.NewCheckpointReader(prefix)


def _number(path):
    match = _NAME.fullmatch(path.name)
    return None if match is None else int(match[1])
