"""A folder of image files as it is, broken ones included."""

import os

import tensorflow as tf
from absl import logging

from csml_tf import places
from csml_tf.augment import orientation
from csml_tf.data.sources import base, folder_classes, listed_splits, packed_names


class UncheckedFolder(base.ImageSource):
    """All image files below a folder, in the order of `FolderSource`; none is opened beforehand.

    Reading a broken file is an error, which the caller has to expect. So every file keeps its
    index, and a folder of any size is opened in the time that listing it takes.

    Args:
        directory: str, path or URL of the folder; `~` is the home folder. "folder:DIR" and
            "folder+no_exif:DIR", see `folder_splits`, do as well.

    Attributes:
        directory: str, path of the folder.
        files: `PackedNames`, the paths below it, with slashes.

    Raises:
        InputError: if there is no such folder, or no image in it.
    """

    def __init__(self, directory):
        options = set()
        if directory.startswith(("folder:", "folder+")):
            directory, options = listed_splits.parse(directory, [listed_splits.NO_EXIF])
        self._obeys_exif = listed_splits.NO_EXIF not in options
        self.name = f"folder{'' if self._obeys_exif else '+no_exif'}:{directory}"
        self.directory = places.find(directory)
        self._encoded_directory = os.fsencode(self.directory)  # Of any encoding.
        listing = folder_classes.list_everything(self.directory)
        for note in listing.notes:
            logging.info("%s", note)
        self.files = packed_names.PackedNames(listing.files)

    def __len__(self):
        return len(self.files)

    @property
    def fingerprint(self):
        """Digest of the files' names and of `no_exif`, not of what is in the files."""
        stored = [] if self._obeys_exif else [b"no_exif"]
        return base.digest(self.files.joined, *stored)

    @property
    def paths(self):
        return [os.path.join(self.directory, file) for file in self.files]

    def read_with(self, index, decode):
        encoded = self.files.read(self._encoded_directory, tf.cast(index, tf.int64))
        return decode(encoded if self._obeys_exif else orientation.forget(encoded))
