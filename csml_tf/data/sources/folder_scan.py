"""Which image files lie below a folder: each real folder once, without what is nobody's image."""

import collections
import dataclasses
import os

from csml_tf import places
from csml_tf.augment import image_kinds
from csml_tf.data.sources import store_listing
from csml_tf.data.sources.left_out import LeftOut
from csml_tf.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib")
# Of those that Pillow reads: the kind, by what the name ends in.
FOREIGN_EXTENSIONS = {
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".heic": "HEIC",
    ".heif": "HEIC",
    ".avif": "AVIF",
}
VIDEO_EXTENSIONS = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
    *(".webm", ".wmv"),
)
# Not looked into. All other files are judged by their first bytes.
_OTHER_EXTENSIONS = (
    # Of cameras: by their first bytes TIFF, of which Pillow reads a thumbnail or nothing.
    *(".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".nef"),
    *(".nrw", ".orf", ".pef", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw"),
    *(".csv", ".db", ".html", ".ini", ".json", ".jsonl", ".log", ".md", ".py", ".tsv", ".txt"),
    *(".xml", ".yaml", ".yml", ".doc", ".docx", ".pdf", ".xls", ".xlsx", ".gz", ".rar", ".tar"),
    *(".zip", ".npy", ".npz", ".mat", ".parquet", ".pkl", ".pt", ".tfrecord", ".m4a", ".mp3"),
    *(".wav", *VIDEO_EXTENSIONS),
)
# Of network disks, archives and operating systems: thumbnails, bins, copies.
_SYSTEM_FOLDERS = frozenset(
    (
        *("@eadir", "@recycle", "@recently-snapshot", "@sharesnap", "@tmp", "#recycle"),
        *("#snapshot", "__macosx", "$recycle.bin", "recycler", "system volume information"),
        *("lost+found", "network trash folder", "temporary items", "__pycache__"),
    )
)
_END_BYTES = 1024  # Of a page or a figure, where it says what wrote it.


@dataclasses.dataclass
class Folder:
    """A folder that holds images itself.

    Attributes:
        path: str, below the folder that was scanned, with a slash at its end; "" is that one.
        images: list of str, paths below the folder that was scanned; in no order.
        key: of the real folder, the same whatever the path leads through.
        is_linked: whether a link leads to it.
    """

    path: str
    images: list
    key: tuple
    is_linked: bool


@dataclasses.dataclass
class Child:
    """A sub-folder of the folder that was scanned: all `Folder`s in it, and what was left out."""

    folders: list
    left_out: LeftOut

    @property
    def num_images(self):
        return sum(len(folder.images) for folder in self.folders)


@dataclasses.dataclass
class Scan:
    """What lies below a folder.

    Attributes:
        directory: str, path of the folder.
        loose: list of str, images in the folder itself.
        children: {name: `Child`} of the sub-folders that hold images, sorted by names.
        left_out: `LeftOut`, of the folder itself and of sub-folders without an image.
        parts: {name: `Scan`} of the sub-folders that hold images and are no `children`,
            because their names set them apart.
    """

    directory: str
    loose: list
    children: dict
    left_out: LeftOut
    parts: dict = dataclasses.field(default_factory=dict)

    @property
    def num_images(self):
        below = [*self.children.values(), *self.parts.values()]
        return len(self.loose) + sum(part.num_images for part in below)

    def with_parts_as_children(self):
        """The same folder, of which no sub-folder is set apart."""
        children = dict(self.children)
        for name, part in self.parts.items():
            path = os.path.join(self.directory, name)
            prefix, is_linked = name + "/", os.path.islink(path)
            folders = [folder for child in part.children.values() for folder in child.folders]
            folders.append(Folder("", part.loose, _key(path), is_linked))
            left_out = LeftOut(self.directory)
            for below in (part, *part.children.values()):
                left_out.merge(below.left_out, prefix)
            moved = [
                Folder(
                    prefix + folder.path,
                    [prefix + file for file in folder.images],
                    folder.key,
                    folder.is_linked or is_linked,
                )
                for folder in folders
                if folder.images
            ]
            children[name] = Child(moved, left_out)
        children = _drop_repeated({name: children[name] for name in sorted(children)})
        return Scan(self.directory, self.loose, children, self.left_out)


def scan(directory, is_apart=lambda name: False, list_folder=None):
    """Lists a folder and all below it; no image is opened.

    Hidden and system folders and what this package has written are left out, and links
    that lead nowhere or in a circle. A real folder counts once.

    Args:
        directory: str, path or URL of a folder.
        is_apart: function of the name of a sub-folder: whether it is a part of its own.
        list_folder: function of a path, as `os.scandir`; None finds one.

    Returns:
        `Scan`.
    """
    if list_folder is None:
        list_folder = _find_listing(directory)
    left_out = LeftOut(directory)
    (loose, names, links), _ = _list(list_folder, directory, "", left_out)
    children, parts = {}, {}
    visited, pending = {_key(directory)}, []
    for name in sorted([*names, *links]):
        if not is_apart(name):
            children[name] = Child([], LeftOut(directory))
            if name in names:
                pending += _walk(list_folder, directory, name + "/", False, children[name], visited)
            else:
                pending.append(name + "/")
        elif not (name in links and _holds(os.path.join(directory, name))):
            part = scan(os.path.join(directory, name), list_folder=list_folder)
            if part.num_images:
                parts[name] = part
            else:
                left_out.merge(part.left_out, name + "/")
    # Links when all that really lies here is known, in an order that never changes.
    while pending:
        found = []
        for link in sorted(pending):
            child = children[link.partition("/")[0]]
            found += _walk(list_folder, directory, link, True, child, visited)
        pending = found
    for child in children.values():
        if not child.folders:
            left_out.merge(child.left_out)
    children = {name: child for name, child in children.items() if child.folders}
    return Scan(directory, loose, children, left_out, parts)


def _drop_repeated(children):
    """The children without folders that are in several or at several places: each counts once.

    It stays where it really lies; where only links lead to it, at the first of their paths.
    """
    seen = {f.key for child in children.values() for f in child.folders if not f.is_linked}
    for child in children.values():
        kept = []
        for folder in child.folders:
            if folder.is_linked and folder.key in seen:
                child.left_out.add("links to what is there already", folder.path)
                continue
            seen.add(folder.key)
            kept.append(folder)
        child.folders = kept
    return {name: child for name, child in children.items() if child.folders}


def _walk(list_folder, directory, prefix, is_linked, child, visited):
    """Adds the folders from `prefix` on to a `Child`; returns the paths of links to others."""
    links = []
    folders = collections.deque([prefix])
    while folders:
        prefix = folders.popleft()
        path = os.path.join(directory, prefix)
        try:
            key = _key(path)
            if key in visited or (is_linked and _holds(path)):
                child.left_out.add("links to what is there already", prefix)
                continue
            found, is_output = _list(list_folder, directory, prefix, child.left_out)
        except InputError:  # A store that does not answer may do so the next time.
            raise
        except OSError:
            child.left_out.add("that may not be read", prefix)
            continue
        visited.add(key)
        if is_output:
            child.left_out.add("written by csml_tf", prefix)
            continue
        images, names, linked = found
        if images:
            child.folders.append(Folder(prefix, images, key, is_linked))
        folders.extend(prefix + name + "/" for name in names)
        links.extend(prefix + name + "/" for name in linked)
    return links


def _list(list_folder, directory, prefix, left_out):
    """-> ((images, names of folders, names of links to folders), whether the folder is ours)."""
    images, foreign, others, names, links = [], [], [], [], []
    with list_folder(os.path.join(directory, prefix)) as entries:
        for entry in entries:
            name = entry.name
            try:
                if name.startswith("."):
                    if entry.is_dir():
                        left_out.add("hidden", f"{prefix}{name}/")
                    elif name.lower().endswith(EXTENSIONS):
                        left_out.add("hidden", prefix + name)
                elif name.lower().endswith(EXTENSIONS) and entry.is_file():
                    images.append(prefix + name)
                elif entry.is_dir():
                    if name.lower() in _SYSTEM_FOLDERS:
                        left_out.add("of the system", f"{prefix}{name}/")
                    else:
                        (links if entry.is_symlink() else names).append(name)
                elif entry.is_file():
                    kind = FOREIGN_EXTENSIONS.get(os.path.splitext(name)[1].lower())
                    (others if kind is None else foreign).append(name)
                elif entry.is_symlink():
                    left_out.add("links that lead nowhere", prefix + name)
                else:  # A pipe, a device.
                    left_out.add("no file", prefix + name)
            except OSError:  # A link to itself.
                left_out.add("links that lead nowhere", prefix + name)
    is_output = bool(prefix) and _is_output(directory, prefix, images, others, names)
    if not is_output:
        for name in foreign:
            kind = FOREIGN_EXTENSIONS[os.path.splitext(name)[1].lower()]
            _judge(kind, prefix + name, images, left_out)
        unclear = [name for name in others if not _is_other(name)]
        paths = [os.path.join(directory, prefix + name) for name in unclear]
        kinds = dict(zip(unclear, map(image_kinds.find_kind, store_listing.read_heads(paths))))
        for name in others:
            _judge(kinds.get(name), prefix + name, images, left_out)
    return (images, names, links), is_output


def names(directory):
    """The names of what is in a folder, on a disk or at a URL."""
    if places.is_url(directory):
        return [path.name for path in places.at(directory).iterdir()]
    return os.listdir(directory)


def _find_listing(directory):
    """`os.scandir`, or for a URL what does the same."""
    if not places.is_url(directory):
        return os.scandir
    return store_listing.StoreListing(directory, _is_passed_over, _has_known_ending).scandir


def _is_passed_over(name):
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS


def _is_other(name):
    return os.path.splitext(name)[1].lower() in _OTHER_EXTENSIONS


def _has_known_ending(name):
    ending = os.path.splitext(name)[1].lower()
    return ending in EXTENSIONS or ending in FOREIGN_EXTENSIONS or _is_other(name)


def _judge(kind, path, images, left_out):
    """Sorts a file whose name does not make it one of TensorFlow's images."""
    if image_kinds.can_decode(kind):
        images.append(path)
    elif kind is None:
        left_out.add(os.path.splitext(path)[1].lower() or "without an ending", path)
    else:
        ending = os.path.splitext(path)[1].lower() or kind
        left_out.add(f"{ending} ({image_kinds.ADVICE[kind]})", path)


def _is_output(directory, prefix, images, others, names):
    """Whether a folder is a run, an exported model or a report, by the files that mark these."""
    if "saved_model.pb" in others or "csml_tf.json" in others:
        return True
    if "config.gin" in others:
        return "metrics.jsonl" in others or "checkpoints" in names
    page = os.path.join(directory, prefix, "report.html")
    if "report.html" in others and b"csml-tf report" in _read_tail(page, _END_BYTES):
        return True
    figure = os.path.join(directory, prefix, "views.png")
    return images == [f"{prefix}views.png"] and b"Matplotlib" in image_kinds.read_head(
        figure, _END_BYTES
    )


def _key(path):
    """The same for all paths to a real folder."""
    if places.is_url(path):  # There are no links.
        return (path.rstrip("/"),)
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _holds(path):
    """Whether a folder that a link leads to holds the link itself, and so has no end."""
    target = os.path.realpath(path)
    here = os.path.realpath(os.path.dirname(path.rstrip("/")))
    return os.path.commonpath([target, here]) == target


def _read_tail(path, num_bytes):
    if places.is_url(path):
        return places.at(path).read_ends(0, num_bytes)[2]
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - num_bytes))
            return file.read(num_bytes)
    except OSError:
        return b""
