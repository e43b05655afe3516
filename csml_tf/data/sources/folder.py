"""Image files below a folder, read by path inside the tf.data graph."""

import os
import threading

import numpy as np
import tensorflow as tf
from absl import logging

from csml_tf import progress
from csml_tf.augment import geometric, image_kinds, orientation
from csml_tf.data import parallel
from csml_tf.data.sources import base, file_scan, folder_classes, left_out, packed_names
from csml_tf.errors import InputError

MAX_BAD_FRACTION = 0.01
MAX_DECODED_BYTES = 2**30
_SEARCH_LENGTH = 100
_DECODE_BATCH = 256
_FILES_LOOKED_AT = 10


class FolderSource(base.ImageSource):
    """Images below a folder: one class per sub-folder, or no classes at all.

    If sub-folders of `directory` hold images, they are the classes, numbered in the
    order of their sorted names; `folder_classes.classify` has the rule. If most images
    lie in `directory` itself, there are no labels, and those in sub-folders are used as well.

    Broken files are left out too, with a warning that names them. Opening reads
    the head and the tail of every file and decodes those that look wrong, or all
    of them if they are at most 1 GiB together. In a bigger folder, a file is
    decoded whole when it is first read; the next readable image then stands in for
    one that is broken, with a warning, wherever its index occurs.

    Args:
        directory: str, path of the folder; `~` is the home folder.
        class_names: iterable of str, or None for the names of the sub-folders; the
            classes of the training images, when this is a test set.
        name: str, how the source is called in logs; default "folder:DIR".
        listing: `listing.Listing` of the files to take in place of what lies below `directory`.
        obeys_exif: whether photographs are turned as EXIF says.

    Attributes:
        notes: list of str, what is to be said of the images; a whole line each.
        is_kept: [number of files listed] bool, which are no broken ones.

    Raises:
        InputError: if there is no such folder, no image in it, a sub-folder that is
            not in `class_names`, or if more than one file and 1 % of all are broken.
    """

    def __init__(self, directory, class_names=None, name=None, listing=None, obeys_exif=True):
        self.name = name or f"folder:{directory}"
        self._directory = os.path.expanduser(directory)
        self._encoded_directory = os.fsencode(self._directory)  # Of any encoding.
        self._obeys_exif = obeys_exif
        if listing is None:
            listing = folder_classes.list_files(self._directory, class_names, self.name)
        self.notes = list(listing.notes)
        for note in self.notes:
            logging.info("%s", note)
        files, labels, class_names = listing.files, listing.labels, listing.class_names
        ends, is_good = file_scan.scan_files(self._directory, files)
        self._files = packed_names.PackedNames(files)
        # Photographs are checked when they are first read, since millions of them would take
        # too long here. Small folders are checked at once, which costs least in the end.
        is_small = ends[:, 0].sum() <= MAX_DECODED_BYTES
        if is_small:
            is_good &= self._find_decodable(is_good)
        self._failures = _DecodeFailures(self._directory, len(files))
        self.is_kept = is_good
        if not is_good.all():
            bad = [file for file, good in zip(files, is_good) if not good]
            self.notes.append(self._failures.skip(bad))
            files = [file for file, good in zip(files, is_good) if good]
            self._files = packed_names.PackedNames(files)
            labels = None if labels is None else labels[is_good]
        # Photographs that are not turned are other images.
        stored = [] if obeys_exif else [b"no_exif"]
        self._fingerprint = base.digest(self._files.joined, ends[is_good], *stored)
        self.labels, self.class_names = base.check_labels(labels, class_names, len(self))
        self._stand_ins = None
        if not is_small:
            with tf.device("/CPU:0"):  # Which image to read instead of each; -1 is not known yet.
                self._stand_ins = tf.Variable(tf.fill([len(self)], -1), trainable=False)

    def __len__(self):
        return len(self._files)

    @property
    def fingerprint(self):
        return self._fingerprint

    @property
    def paths(self):
        return [os.path.join(self._directory, file) for file in self._files]

    def read_with(self, index, decode):
        index = tf.cast(index, tf.int64)
        if self._stand_ins is not None:
            index = self._find_readable(index)
        return decode(self._read_file(index))

    def _find_decodable(self, is_candidate):
        indices = np.flatnonzero(is_candidate)

        def try_decode(index):
            return index, tf.size(geometric.decode_image(self._read_file(index)))

        dataset = tf.data.Dataset.from_tensor_slices(indices)
        dataset = dataset.map(try_decode, num_parallel_calls=parallel.CALLS).ignore_errors()
        dataset = parallel.prefetch(dataset.batch(_DECODE_BATCH))
        is_decodable = np.zeros(len(is_candidate), bool)
        with progress.bar(len(indices), "Decoding files", unit="files") as advance:
            for survivors, _ in dataset.as_numpy_iterator():
                is_decodable[survivors] = True
                advance(len(survivors))
        return is_decodable

    def _find_readable(self, index):
        """The image at `index`, or the next one that can be decoded: scalar int64."""
        known = tf.cast(tf.gather(self._stand_ins, index), tf.int64)
        return tf.cond(known >= 0, lambda: known, lambda: self._check(index))

    def _check(self, index):
        # Outside the net: a file that has vanished is an error.
        encoded = tf.data.Dataset.from_tensors(self._read_file(index))
        # A data set is the only net that catches an error inside a graph, and a slow one: so
        # an image goes through it once, whole, whatever part of it is decoded afterwards.
        # Whether a JPEG decodes does not depend on its scale; a tf.cond on the kind of file
        # would double the cost.
        sizes = encoded.map(lambda file: tf.size(tf.io.decode_jpeg(file, ratio=8)))
        failed = tf.data.Dataset.from_tensors(0)
        size = sizes.ignore_errors().concatenate(failed).take(1).get_single_element()
        found = tf.cond(size > 0, lambda: index, lambda: self._search(index))
        kept = tf.IndexedSlices(tf.cast(found, tf.int32), index)
        with tf.control_dependencies([self._stand_ins.scatter_update(kept)]):
            return tf.identity(found)

    def _search(self, index):
        def try_decode(candidate):
            encoded = self._read_file(candidate % len(self))
            return candidate, tf.size(geometric.decode_image(encoded))

        # The first candidate is the image itself: it may be of another kind.
        candidates = tf.data.Dataset.range(index, index + _SEARCH_LENGTH)
        decodable = candidates.map(try_decode).ignore_errors().take(1)
        found, _ = decodable.get_single_element()
        found = tf.numpy_function(self._note_failures, [index, found], tf.int64)
        return tf.ensure_shape(found, [])

    def _note_failures(self, index, found):
        for failed in range(index, found):
            file = self._files.gather(failed % len(self)).numpy()
            self._failures.replace(os.fsdecode(file))
        return np.int64(found % len(self))

    def _read_file(self, index):
        encoded = self._files.read(self._encoded_directory, index)
        return encoded if self._obeys_exif else orientation.forget(encoded)


class _DecodeFailures:
    """Counts and names the broken files of a folder; too many are an error."""

    def __init__(self, directory, num_files):
        self._directory = directory
        self._num_files = num_files
        self._files = []
        self._lock = threading.Lock()

    def skip(self, files):
        """Notes the files found broken when the folder is opened; returns the line about them."""
        self._files += files
        self._check_fraction()
        line = (
            f"Skipped {len(files)} of {self._num_files} files in {self._directory}, which are no "
            f"readable images: {self._name(files)}."
        )
        logging.warning("%s", line)
        return line

    def replace(self, file):
        """Notes a file that could not be decoded when its turn came."""
        with self._lock:  # Called from many threads of tf.data.
            if file not in self._files:
                self._files.append(file)
                logging.warning(
                    "%s cannot be decoded; the next image stands in for it (%d of %d files).",
                    *(os.path.join(self._directory, file), len(self._files), self._num_files),
                )
            self._check_fraction()

    def _check_fraction(self):
        # One is no sign of a wrong folder, however few there are, as long as there is another.
        num_allowed = min(max(1, MAX_BAD_FRACTION * self._num_files), self._num_files - 1)
        if len(self._files) > num_allowed:
            raise InputError(
                f"{len(self._files)} of {self._num_files} files in {self._directory} are no "
                f"readable images, more than {MAX_BAD_FRACTION:.0%}: {self._name(self._files)}; "
                "delete or replace them."
            )

    def _name(self, files):
        """The files in words, with what would make them readable."""
        named = left_out.shorten_or_list(self._directory, "unreadable", files)
        for file in files[:_FILES_LOOKED_AT]:
            missing = image_kinds.describe_missing(
                image_kinds.read_head(os.path.join(self._directory, file))
            )
            if missing:
                return named + missing
        return named
