"""Image files below a folder, read by path inside the tf.data graph."""

import functools
import os

import numpy as np
import tensorflow as tf
from absl import logging

from csml_tf import places
from csml_tf.augment import orientation
from csml_tf.data.sources import base, file_scan, folder_classes, left_out, packed_names
from csml_tf.data.sources.broken_images import BrokenImages, StandIns, find_decodable
from csml_tf.errors import InputError

MAX_DECODED_BYTES = 2**30


class FolderSource(base.ImageSource):
    """Images below a folder: one class per sub-folder, or no classes at all.

    If sub-folders of `directory` hold images, they are the classes, numbered in the
    order of their sorted names; `folder_classes.classify` has the rule. If most images
    lie in `directory` itself, there are no labels, and those in sub-folders are used as well.

    Files that say that they have too many pixels, see `image_size`, are left out, with a line.
    Broken files are left out too, with a warning that names them. Opening reads
    the head and the tail of every file and decodes those that look wrong, or all
    of them if they are at most 1 GiB together. In a bigger folder, a file is
    decoded whole when it is first read; the next readable image then stands in for
    one that is broken, with a warning, wherever its index occurs.

    Args:
        directory: str, path or URL of the folder; `~` is the home folder.
        class_names: iterable of str, or None for the names of the sub-folders; the
            classes of the training images, when this is a test set.
        name: str, how the source is called in logs; default "folder:DIR".
        listing: `listing.Listing` of the files to take in place of what lies below `directory`.
        obeys_exif: whether photographs are turned as EXIF says.

    Attributes:
        notes: list of str, what is to be said of the images; a whole line each.
        is_kept: [number of files listed] bool, which are neither broken nor too large.

    Raises:
        InputError: if there is no such folder, no image in it, a sub-folder that is
            not in `class_names`, or if more than one file and 1 % of all are broken.
    """

    def __init__(self, directory, class_names=None, name=None, listing=None, obeys_exif=True):
        self.name = name or f"folder:{directory}"
        self._directory = places.find(directory)
        self._encoded_directory = os.fsencode(self._directory)  # Of any encoding.
        self._obeys_exif = obeys_exif
        if listing is None:
            listing = folder_classes.list_files(self._directory, class_names, self.name)
        self.notes = list(listing.notes)
        for note in self.notes:
            logging.info("%s", note)
        files, labels, class_names = listing.files, listing.labels, listing.class_names
        scan = file_scan.scan_files(self._directory, files)
        ends, is_good = scan.ends, scan.is_good
        self._files = packed_names.PackedNames(files)
        # Photographs are checked when they are first read, since millions of them would take
        # too long here. Small folders are checked at once, which costs least in the end.
        is_small = ends[:, 0].sum() <= MAX_DECODED_BYTES
        if is_small:
            indices = np.flatnonzero(is_good)
            is_good = find_decodable(self._read_file, indices, len(files))
        self._broken = BrokenImages(
            len(files) - int(scan.is_too_large.sum()),
            f"files in {self._directory}",
            functools.partial(left_out.name_unreadable, self._directory),
            "delete or replace them",
        )
        self.is_kept = is_good
        if not is_good.all():
            self._leave_out_giants([file for file, big in zip(files, scan.is_too_large) if big])
            is_bad = ~is_good & ~scan.is_too_large
            if is_bad.any():
                bad = [file for file, is_one in zip(files, is_bad) if is_one]
                self.notes.append(self._broken.skip(bad))
            files = [file for file, good in zip(files, is_good) if good]
            self._files = packed_names.PackedNames(files)
            labels = None if labels is None else labels[is_good]
        # Photographs that are not turned are other images.
        stored = [] if obeys_exif else [b"no_exif"]
        self._fingerprint = base.digest(self._files.joined, ends[is_good], *stored)
        self.labels, self.class_names = base.check_labels(labels, class_names, len(self))
        self._stand_ins = None
        if not is_small:
            self._stand_ins = StandIns(len(self), self._read_file, self._note)

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
            index = self._stand_ins.find(index)
        return decode(self._read_file(index))

    def _leave_out_giants(self, files):
        if not files:
            return
        line = left_out.describe_giants(self._directory, files)
        if len(files) == len(self._files):
            raise InputError(f"No image is left of {self.name}: {line}")
        self.notes.append(line)
        logging.warning("%s", line)

    def _note(self, index):
        file = os.fsdecode(self._files.gather(index).numpy())
        self._broken.replace(file, os.path.join(self._directory, file))

    def _read_file(self, index):
        encoded = self._files.read(self._encoded_directory, index)
        return encoded if self._obeys_exif else orientation.forget(encoded)
