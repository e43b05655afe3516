"""Millions of file names in one string, so that a graph can have any of them by number."""

import os

import numpy as np
import tensorflow as tf

from csml_tf.data.sources import base


class PackedNames:
    """File names, end to end with a zero byte between them.

    A name takes its length and 9 bytes; as an element of a string tensor it would
    take another 40, as a Python string another 50.

    Args:
        names: list of str, at least one; those that are no UTF-8 stay as the system
            gave them.

    Example:
        >>> names = PackedNames(["ant/1.png", "bee/1.png"])
        >>> len(names), list(names), names.gather(1).numpy()
        (2, ['ant/1.png', 'bee/1.png'], b'bee/1.png')
    """

    def __init__(self, names):
        joined = b"\0".join(map(os.fsencode, names))
        ends = np.flatnonzero(np.frombuffer(joined, np.uint8) == 0)
        self._joined = base.host_constant(joined)
        self._starts = base.host_constant(np.concatenate([[0], ends + 1, [len(joined) + 1]]))

    def __len__(self):
        return self._starts.shape[0] - 1

    def __iter__(self):
        return map(os.fsdecode, self.joined.split(b"\0"))

    @property
    def joined(self):
        """All names with a zero byte between them, as bytes."""
        return self._joined.numpy()

    def slice(self, start, stop):
        """The names, a list of str, from `start` up to, but without, `stop`."""
        if start >= stop:
            return []
        begin, end = self._starts[start], self._starts[stop]
        part = tf.strings.substr(self._joined, begin, end - begin - 1).numpy()
        return [os.fsdecode(name) for name in part.split(b"\0")]

    def gather(self, index):
        """Scalar int64 in [0, len) -> scalar string; usable inside a tf.data map."""
        start, stop = tf.gather(self._starts, index), tf.gather(self._starts, index + 1)
        return tf.strings.substr(self._joined, start, stop - start - 1)

    def read(self, directory, index):
        """The content of a file: as `gather`, of a name below a folder whose path is bytes."""
        return tf.io.read_file(tf.strings.join([directory, b"/", self.gather(index)]))
