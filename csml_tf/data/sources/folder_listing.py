"""Which image files lie below a folder, and which classes they make up."""

import collections
import os

import numpy as np

from csml_tf.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp")
_NAMES_SHOWN = 10


def list_classes(directory):
    """Names of the classes of a folder: its sub-folders that hold images.

    Args:
        directory: str, path of a folder.

    Returns:
        Sorted list of str; empty if images lie in `directory` itself.
    """
    directory = os.path.expanduser(directory)
    with os.scandir(directory) as entries:
        entries = [entry for entry in entries if not entry.name.startswith(".")]
    if any(_is_image(entry) for entry in entries):
        return []
    names = sorted(entry.name for entry in entries if _is_folder(entry))
    return [name for name in names if any(_walk_images(directory, name + "/"))]


def list_files(directory, class_names=None):
    """All images below a folder.

    Args:
        directory: str, path of the folder.
        class_names: iterable of str, or None for the names of the sub-folders.

    Returns:
        (files, labels, class_names): list of str, paths below `directory`; [len(files)]
        np.int64 and list of str, or None and None if there are no classes.

    Raises:
        InputError: if there is no such folder, no image in it, or a sub-folder that is
            not in `class_names`.
    """
    if not os.path.isdir(directory):
        raise InputError(
            f"There is no folder {os.path.abspath(directory)}: check the path after `folder:`."
        )
    found = list_classes(directory)
    if not found:
        files = sorted(_walk_images(directory, ""))
        if not files:
            raise InputError(
                f"No image in {os.path.abspath(directory)}: it needs files that end in "
                f"{', '.join(EXTENSIONS)}, in it or in one sub-folder per class."
            )
        return files, None, None
    class_names = found if class_names is None else list(class_names)
    unknown = [name for name in found if name not in class_names]
    if unknown:
        raise InputError(
            f"{len(unknown)} class folders of {directory} are not among the training classes: "
            f"{shorten(unknown)}; rename or remove them."
        )
    numbers = {name: number for number, name in enumerate(class_names)}
    files_of = {name: sorted(_walk_images(directory, name + "/")) for name in found}
    files = [file for name in found for file in files_of[name]]
    counts = [len(files_of[name]) for name in found]
    return files, np.repeat([numbers[name] for name in found], counts), class_names


def _walk_images(directory, prefix):
    """Image paths below `directory`/`prefix`, relative to `directory`, with slashes."""
    prefixes = collections.deque([prefix])
    while prefixes:
        prefix = prefixes.popleft()
        with os.scandir(os.path.join(directory, prefix)) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if _is_image(entry):
                    yield prefix + entry.name
                elif _is_folder(entry):
                    prefixes.append(prefix + entry.name + "/")


def _is_image(entry):
    return entry.name.lower().endswith(EXTENSIONS) and entry.is_file()


def _is_folder(entry):
    """Whether an entry is a folder, and no link to one it lies in, which would never end."""
    if not entry.is_dir():
        return False
    if not entry.is_symlink():
        return True
    target = os.path.realpath(entry.path)
    here = os.path.realpath(os.path.dirname(entry.path))
    return os.path.commonpath([target, here]) != target


def shorten(names):
    """A list of names for a message: the first ten, and how many there are beside."""
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"
