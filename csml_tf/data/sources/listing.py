"""Image files with their classes: what an image source of files is made of."""

import dataclasses
import os
from typing import Optional

import numpy as np

from csml_tf import places


@dataclasses.dataclass(frozen=True)
class Listing:
    """Files below one folder, in the order of their indices.

    Attributes:
        directory: str, path of the folder.
        files: list of str, paths below it, with slashes.
        labels: [len(files)] np.int64, -1 where a file has no class; None if none has.
        class_names: list of str by class number; None if there are no classes.
        notes: list of str, what is to be said of them: each a whole line.
    """

    directory: str
    files: list
    labels: Optional[np.ndarray] = None
    class_names: Optional[list] = None
    notes: list = dataclasses.field(default_factory=list)

    def __len__(self):
        return len(self.files)

    def rename(self, class_names):
        """The same files, each with a class, by the numbers that other class names give them.

        Args:
            class_names: list of str, which holds all of these.
        """
        if self.labels is None:
            return dataclasses.replace(self, class_names=None)
        number = {name: i for i, name in enumerate(class_names)}
        numbers = np.array([number[name] for name in self.class_names])
        return dataclasses.replace(self, labels=numbers[self.labels], class_names=list(class_names))


def join(listings):
    """All files of several listings, one after the other; classes of one name are one class.

    Args:
        listings: list of `Listing`, at least one.

    Returns:
        `Listing` below the nearest folder that holds all; the only one itself.
    """
    if len(listings) == 1:
        return listings[0]
    directories = [places.absolute(listing.directory) for listing in listings]
    common = places.common_folder(directories)
    files = []
    for directory, listing in zip(directories, listings):
        below = os.path.relpath(directory, common).replace(os.sep, "/")
        files += listing.files if below == "." else [f"{below}/{file}" for file in listing.files]
    notes = [note for listing in listings for note in listing.notes]
    names = sorted({name for listing in listings for name in listing.class_names or ()})
    if not names:
        return Listing(common, files, notes=notes)
    labels = [
        np.full(len(listing), -1) if listing.labels is None else listing.rename(names).labels
        for listing in listings
    ]
    return Listing(common, files, np.concatenate(labels), names, notes)
