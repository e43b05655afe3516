"""Which classes the sub-folders of a folder make up."""

import collections
import shlex

import numpy as np

from csml_tf import amounts, places
from csml_tf.data.sources import folder_scan, split_names
from csml_tf.data.sources.left_out import LeftOut, shorten
from csml_tf.data.sources.listing import Listing
from csml_tf.errors import InputError


def list_files(directory, class_names=None, name=None):
    """The images below a folder, with their classes.

    Args and errors are those of `classify`.

    Returns:
        `Listing`.
    """
    return classify(folder_scan.scan(check(directory)), class_names, name)[0]


def list_everything(directory):
    """All images below a folder, whatever they are for; without classes.

    Args:
        directory: str, path of the folder.

    Returns:
        `Listing`: in the order of `list_files`.

    Raises:
        InputError: if there is no such folder, or no image in it.
    """
    scan = folder_scan.scan(check(directory))
    children = scan.children.values()
    left_out = _all_left_out(scan)
    files = [file for child in children for file in sorted(_files_of([child]))]
    if scan.loose:
        files = sorted([*scan.loose, *files])
    _check_any(files, directory, left_out)
    return Listing(directory, files, notes=left_out.describe(f"folder:{directory}"))


def check(directory):
    """The path of a folder that exists.

    Raises:
        InputError: if there is none.
    """
    if places.is_file(directory):
        raise InputError(
            f"{places.absolute(directory)} is a file and no folder: give the folder that holds it, "
            "unpack it where it is an archive, or say csv:FILE for a list of images."
        )
    if not places.is_folder(directory):
        raise InputError(
            f"There is no folder {places.absolute(directory)}: check the path after `folder:`."
        )
    return directory


def has_classes(scan):
    """Whether the sub-folders of a folder are classes, or hold them.

    Images that lie loose beside several folders are none of the data set, as long as they are
    not the most. Beside one folder, or where most images are loose, no folder is a class.
    """
    children = _class_children(scan)
    num_below = sum(child.num_images for child in children.values())
    num_folders = sum(len(child.folders) for child in children.values())
    return bool(children) and (not scan.loose or (num_folders > 1 and len(scan.loose) <= num_below))


def unlabelled_names(scan):
    """The sub-folders that hold images for pretraining only, beside class or split folders."""
    names = [name for name in scan.children if split_names.is_unlabelled(name)]
    return names if len(scan.children) > len(names) or scan.parts else []


def list_unlabelled(name, scan):
    """`Listing` of the images in the folders of `unlabelled_names`, and a line about them."""
    files = sorted(_files_of(scan.children.values()))
    notes = [
        f"{name}: {amounts.count(len(files), 'image')} without a class beside them, for "
        "pretraining only."
    ]
    notes += _all_left_out(scan).describe(f"{name}, without a class")
    return Listing(scan.directory, files, notes=notes)


def class_names(scan, is_top=False):
    """The names of the classes, which `classify` gives; empty if there are none."""
    if not has_classes(scan):
        return []
    return sorted({*_find_classes(_class_children(scan), is_top)[0].values()} - {None})


def classify(scan, class_names=None, name=None, is_top=False):
    """The images of a folder and their classes.

    The classes are the innermost folders if all images lie in such; a stray one above them (at
    most one, or a tenth) is left out. Otherwise, or with `is_top`, they are the outermost.

    Args:
        scan: `folder_scan.Scan`; of which no part is set apart.
        class_names: iterable of str, or None for the names of the folders; the classes of
            the training images, when these are test images.
        name: str, how the data set is called in notes; default is the folder's path.
        is_top: whether the outermost folders are the classes, whatever lies below.

    Returns:
        (`Listing` of the images with a class, or of all where there are no classes; list of
        str, files in folders that say that they have none).

    Raises:
        InputError: if there is no image, or a folder that is not in `class_names`.
    """
    name = name or scan.directory
    children = scan.children
    left_out = _all_left_out(scan)
    if not has_classes(scan):
        files = sorted([*scan.loose, *_files_of(children.values())])
        _check_any(files, scan.directory, left_out)
        num_below = len(files) - len(scan.loose)
        below = f", {num_below} of them in sub-folders" if num_below else ""
        notes = [f"{name}: {amounts.count(len(files), 'image')} without classes{below}."]
        return Listing(scan.directory, files, notes=notes + left_out.describe(name)), []
    classes = _class_children(scan)
    unlabelled = sorted(_files_of(children[child] for child in children if child not in classes))
    for file in scan.loose:
        left_out.add("beside the class folders", file)
    if class_names is None:
        class_of, rule = _find_classes(classes, is_top)
        class_names = sorted({*class_of.values()} - {None})
        num_classes = len(class_names)
        notes = [f"{amounts.count(num_classes, 'class')}, {rule}"]
    else:
        class_names = list(class_names)
        class_of, notes = _assign_classes(classes, class_names, scan.directory)
    files, labels = _label(classes, class_of, class_names, left_out)
    _check_any(files, scan.directory, left_out)  # All may lie above the classes of training.
    notes = [f"{name}: {amounts.count(len(files), 'image')} in {note}." for note in notes]
    if unlabelled:
        notes.append(
            f"{name}: {amounts.count(len(unlabelled), 'image')} without a class, for pretraining "
            "only."
        )
    notes += left_out.describe(name)
    return Listing(scan.directory, files, labels, class_names, notes), unlabelled


def _all_left_out(scan):
    left_out = LeftOut(scan.directory)
    left_out.merge(scan.left_out)
    for child in scan.children.values():
        left_out.merge(child.left_out)
    return left_out


def _files_of(children):
    return (file for child in children for folder in child.folders for file in folder.images)


def _check_any(files, directory, left_out):
    if not files:
        videos = left_out.paths(folder_scan.VIDEO_EXTENSIONS)
        if videos:
            raise InputError(
                f"No image in {places.absolute(directory)}, but "
                f"{amounts.count(len(videos), 'video')}, of which nothing is read: take images out "
                f"of them, such as one a second by `ffmpeg -i {shlex.quote(videos[0])} -vf fps=1 "
                "frames/%06d.jpg`, and give the folder of these."
            )
        raise InputError(
            f"No image in {places.absolute(directory)}: it needs files that end in "
            f"{', '.join(folder_scan.EXTENSIONS)}, in it or in one sub-folder per class."
            f"{''.join(' ' + line for line in left_out.describe('There'))}"
        )


def _label(children, class_of, class_names, left_out):
    """-> (files in their order, [len(files)] labels); without those of no class."""
    number = {class_name: i for i, class_name in enumerate(class_names)}
    files, labels = [], []
    for child in children.values():
        numbers = {}
        for folder in child.folders:
            if class_of[folder.path] is None:
                for file in folder.images:
                    left_out.add("above the class folders", file)
            else:
                numbers[folder.path] = number[class_of[folder.path]]
        own = sorted(file for f in child.folders if f.path in numbers for file in f.images)
        files += own
        if len(set(numbers.values())) == 1:  # Of a million files, none is looked at.
            labels.append(np.full(len(own), *set(numbers.values())))
        else:
            labels.append(np.array([numbers[file[: file.rindex("/") + 1]] for file in own], int))
    return files, np.concatenate(labels)


def _class_children(scan):
    return {
        name: child for name, child in scan.children.items() if not split_names.is_unlabelled(name)
    }


def _find_classes(children, is_top):
    """-> ({path of a folder: name of its class, None for a stray one}, the rule in words)."""
    folders = [folder for child in children.values() for folder in child.folders]
    top = {folder.path: folder.path.partition("/")[0] for folder in folders}
    if all(folder.path.count("/") == 1 for folder in folders):
        return top, f"one in each folder: {shorten(sorted(children))}"
    outermost = f"the outermost folders: {shorten(sorted(children))}"
    if is_top:
        return top, outermost
    # All folders that hold another one with images.
    outer = {
        folder.path[: end + 1]
        for folder in folders
        for end, letter in enumerate(folder.path[:-1])
        if letter == "/"
    }
    num_outer = sum(len(folder.images) for folder in folders if folder.path in outer)
    if num_outer > max(1, sum(len(folder.images) for folder in folders) // 10):
        return top, f"{outermost}, as {amounts.count(num_outer, 'image')} lie above the innermost"
    leaves = {folder.path: None if folder.path in outer else folder.path[:-1] for folder in folders}
    names = sorted(leaf for leaf in leaves.values() if leaf)
    if all(split_names.find_role(name.rpartition("/")[2]) for name in names):
        return top, f"{outermost}, as the innermost are called like splits, which are not used"
    return leaves, (
        f"the innermost folders: {shorten(names)}; for the {len(children)} outermost write "
        f"folder+top: before the path"
    )


def _assign_classes(children, class_names, directory):
    """-> ({path of a folder: the class of which it is a part, None above all classes}, notes).

    A folder that lies elsewhere than in training is known by its own name, if one class only
    has it.
    """
    known = set(class_names)
    above = {name[:end] for name in known for end, letter in enumerate(name) if letter == "/"}
    last_names = collections.Counter(name.rpartition("/")[2] for name in known)
    elsewhere = {name.rpartition("/")[2]: name for name in known}
    class_of, unknown, moved = {}, [], []
    for child in children.values():
        for folder in child.folders:
            path = found = folder.path[:-1]
            while found and found not in known:
                found = found.rpartition("/")[0]
            last = path.rpartition("/")[2]
            if not found and path not in above:
                if last_names[last] == 1:
                    found = elsewhere[last]
                    moved.append(f"{path} as {found}")
                else:
                    unknown.append(path)
            class_of[folder.path] = found or None
    if unknown:
        raise InputError(
            f"{len(unknown)} class folders of {directory} are not among the training classes: "
            f"{shorten(sorted(unknown))}; rename or remove them."
        )
    return class_of, [
        f"the classes of training, each known by its own name: {shorten(moved)}"
    ] if moved else []
