"""Images that cannot be decoded: counted, named, and replaced by the next one that can."""

import threading

import numpy as np
import tensorflow as tf
from absl import logging

from csml_tf import progress
from csml_tf.augment import geometric, image_kinds
from csml_tf.data import parallel
from csml_tf.errors import InputError

MAX_BAD_FRACTION = 0.01
_SEARCH_LENGTH = 100
_DECODE_BATCH = 256


class BrokenImages:
    """Counts and names the broken images of a source; too many are an error.

    Args:
        num_images: of the source, broken ones included.
        what: they are, in words: "files in photos".
        list_names: function of names that returns them as text, shortened where they are many.
        advice: what to do where they are too many.
    """

    def __init__(self, num_images, what, list_names, advice):
        self._num_images = num_images
        self._what = what
        self._list_names = list_names
        self._advice = advice
        self._names = []
        self._lock = threading.Lock()

    def skip(self, names):
        """Notes those found broken when the source is opened; returns the line about them."""
        self._names += names
        self._check_fraction()
        line = (
            f"Skipped {len(names)} of {self._num_images} {self._what}, which are no readable "
            f"images: {self._list_names(names)}."
        )
        logging.warning("%s", line)
        return line

    def replace(self, name, whole_name):
        """Notes one that could not be decoded when its turn came.

        Args:
            name: as it is listed.
            whole_name: as it stands alone.
        """
        with self._lock:  # Called from many threads of tf.data.
            if name not in self._names:
                self._names.append(name)
                logging.warning(
                    "%s cannot be decoded; the next image stands in for it (%d of %d %s).",
                    *(whole_name, len(self._names), self._num_images, self._what.split()[0]),
                )
            self._check_fraction()

    def _check_fraction(self):
        # One is no sign of wrong images, however few there are, as long as there is another.
        num_allowed = min(max(1, MAX_BAD_FRACTION * self._num_images), self._num_images - 1)
        if len(self._names) > num_allowed:
            raise InputError(
                f"{len(self._names)} of {self._num_images} {self._what} are no readable images, "
                f"more than {MAX_BAD_FRACTION:.0%}: {self._list_names(self._names)}; "
                f"{self._advice}."
            )


def find_decodable(read, indices, num_images):
    """Decodes images, and forgets their pixels.

    Args:
        read: as for `StandIns`.
        indices: [n] int64, the images to look at.
        num_images: of the source.

    Returns:
        [num_images] bool, which of those at `indices` can be decoded.
    """
    is_decodable = np.zeros(num_images, bool)
    for decode in (_decode_fast, _decode):
        left = indices[~is_decodable[indices]]
        if not len(left):
            break
        dataset = tf.data.Dataset.from_tensor_slices(left).map(
            lambda index, decode=decode: (index, decode(read(index))),
            num_parallel_calls=parallel.CALLS,
        )
        dataset = parallel.prefetch(dataset.ignore_errors().batch(_DECODE_BATCH))
        with progress.bar(len(left), "Decoding files", unit="files") as advance:
            for survivors, _ in dataset.as_numpy_iterator():
                is_decodable[survivors] = True
                advance(len(survivors))
    return is_decodable


def _decode_fast(encoded):
    """Number of values of a JPEG or PNG file at a part of its size; other kinds are errors.

    Whether a JPEG decodes does not depend on its scale; a tf.cond on the kind of file would double
    the cost.
    """
    return tf.size(tf.io.decode_jpeg(image_kinds.refuse_giant(encoded), ratio=8))


def _decode(encoded):
    return tf.size(geometric.decode_image(encoded))


class StandIns:
    """Which image is read in the place of each: itself, or the next one that can be decoded.

    An image is decoded whole when it is first read, and what was found is kept from then on.

    Args:
        num_images: of the source.
        read: function of a scalar int64 that returns the bytes of an image, a scalar string.
            What it raises is an error of the run, such as a file that has vanished.
        note: function of an int, the index of an image found broken.
    """

    def __init__(self, num_images, read, note):
        self._num_images = num_images
        self._read = read
        self._note = note
        with tf.device("/CPU:0"):  # Which image to read instead of each; -1 is not known yet.
            self._known = tf.Variable(tf.fill([num_images], -1), trainable=False)

    def find(self, index):
        """The image at `index`, or the next one that can be decoded: scalar int64."""
        known = tf.cast(tf.gather(self._known, index), tf.int64)
        return tf.cond(known >= 0, lambda: known, lambda: self._check(index))

    def _check(self, index):
        # Outside the net: a file that has vanished is an error.
        encoded = tf.data.Dataset.from_tensors(self._read(index))
        # A data set is the only net that catches an error inside a graph, and a slow one: so
        # an image goes through it once, whole, whatever part of it is decoded afterwards.
        sizes = encoded.map(_decode_fast)
        failed = tf.data.Dataset.from_tensors(0)
        size = sizes.ignore_errors().concatenate(failed).take(1).get_single_element()
        found = tf.cond(size > 0, lambda: index, lambda: self._search(index))
        kept = tf.IndexedSlices(tf.cast(found, tf.int32), index)
        with tf.control_dependencies([self._known.scatter_update(kept)]):
            return tf.identity(found)

    def _search(self, index):
        def try_decode(candidate):
            return candidate, _decode(self._read(candidate % self._num_images))

        # The first candidate is the image itself: it may be of another kind.
        candidates = tf.data.Dataset.range(index, index + _SEARCH_LENGTH)
        decodable = candidates.map(try_decode).ignore_errors().take(1)
        found, _ = decodable.get_single_element()
        found = tf.numpy_function(self._note_failures, [index, found], tf.int64)
        return tf.ensure_shape(found, [])

    def _note_failures(self, index, found):
        for failed in range(index, found):
            self._note(failed % self._num_images)
        return np.int64(found % self._num_images)
