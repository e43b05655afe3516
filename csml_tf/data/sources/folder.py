"""Image files below a folder, read by path inside the tf.data graph."""

import collections
import os
import threading
import zlib
from concurrent import futures

import numpy as np
import tensorflow as tf
import tqdm
from absl import logging

from csml_tf.augment import geometric
from csml_tf.data.sources import base
from csml_tf.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp")
MAX_BAD_FRACTION = 0.01
_NAMES_SHOWN = 10
MAX_DECODED_BYTES = 2**30
_SCAN_CHUNK = 256
_TAIL_BYTES = 1024
_SEARCH_LENGTH = 100


class FolderSource(base.ImageSource):
    """Images below a folder: one class per sub-folder, or no classes at all.

    If sub-folders of `directory` hold images, at any depth, they are the classes,
    numbered in the order of their sorted names. If images lie in `directory`
    itself, there are no labels, and images in sub-folders are used as well.
    Hidden files are left out.

    Broken files are left out too, with a warning that names them. Opening reads
    the head and the tail of every file and decodes those that look wrong, or all
    of them if they are at most 1 GiB together. In a bigger folder, a file that
    passes and still cannot be decoded later is replaced by the next readable
    image, also with a warning.

    Args:
        directory: str, path of the folder; `~` is the home folder.
        class_names: iterable of str, or None for the names of the sub-folders; the
            classes of the training images, when this is a test set.
        name: str, how the source is called in logs; default "folder:DIR".

    Raises:
        InputError: if there is no such folder, no image in it, a sub-folder that is
            not in `class_names`, or if more than 1 % of the files are broken.
    """

    def __init__(self, directory, class_names=None, name=None):
        self.name = name or f"folder:{directory}"
        directory = os.path.expanduser(directory)
        files, labels, class_names = _list_files(directory, class_names)
        ends, is_good = _scan_files(directory, files)
        self._directory = directory
        # As bytes, below the folder's path: a million names fit into about 100 MB.
        self._files = base.host_constant([os.fsencode(file) for file in files])
        # Catching errors costs about 0.2 ms an image: little beside decoding a photograph,
        # more than decoding a thumbnail. So small folders are decoded once, here, instead.
        is_small = ends[:, 0].sum() <= MAX_DECODED_BYTES
        if is_small:
            is_good &= self._find_decodable(is_good)
        self._failures = _DecodeFailures(directory, len(files))
        self._failures.skip([file for file, good in zip(files, is_good) if not good])
        self._files = base.host_constant(self._files.numpy()[is_good])
        self._fingerprint = base.digest(b"\0".join(self._files.numpy()), ends[is_good])
        labels = None if labels is None else labels[is_good]
        self.labels, self.class_names = base.check_labels(labels, class_names, len(self))
        # Traced once: nested data sets are slow to build.
        signature = [tf.TensorSpec([], tf.int64)]
        read = self._read_plainly if is_small else self._read_or_replace
        self._read = tf.function(read, input_signature=signature)

    def __len__(self):
        return self._files.shape[0]

    @property
    def fingerprint(self):
        return self._fingerprint

    @property
    def paths(self):
        return [os.path.join(self._directory, os.fsdecode(file)) for file in self._files.numpy()]

    def read(self, index):
        return self._read(tf.cast(index, tf.int64))

    def _find_decodable(self, is_candidate):
        indices = np.flatnonzero(is_candidate)

        def try_decode(index):
            return index, tf.size(self._read_plainly(index))

        dataset = tf.data.Dataset.from_tensor_slices(indices)
        dataset = dataset.map(try_decode, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
        is_decodable = np.zeros(len(is_candidate), bool)
        with _progress("Decoding files", len(indices)) as bar:
            for survivors, _ in dataset.batch(_SCAN_CHUNK).as_numpy_iterator():
                is_decodable[survivors] = True
                bar.update(len(survivors))
        return is_decodable

    def _read_plainly(self, index):
        return geometric.decode_image(self._read_file(index))

    def _read_or_replace(self, index):
        # A data set of one element is the only way to catch an error inside a graph.
        decoded = tf.data.Dataset.from_tensors(self._read_file(index))
        decoded = decoded.map(geometric.decode_image).ignore_errors()
        nothing = tf.data.Dataset.from_tensors(tf.zeros([0, 0, 3], tf.uint8))
        image = decoded.concatenate(nothing).take(1).get_single_element()
        image = tf.cond(tf.size(image) > 0, lambda: image, lambda: self._read_next(index))
        return tf.ensure_shape(image, [None, None, 3])

    def _read_next(self, index):
        file = tf.gather(self._files, index)
        reported = tf.numpy_function(self._failures.replace, [file], tf.int64)
        with tf.control_dependencies([reported]):
            index = tf.identity(index)
        following = tf.data.Dataset.range(index + 1, index + 1 + _SEARCH_LENGTH)
        following = following.map(lambda i: self._read_file(i % len(self)))
        decoded = following.map(geometric.decode_image).ignore_errors()
        return decoded.take(1).get_single_element()

    def _read_file(self, index):
        file = tf.gather(self._files, index)
        return tf.io.read_file(tf.strings.join([self._directory, "/", file]))


class _DecodeFailures:
    """Counts and names the broken files of a folder; too many are an error."""

    def __init__(self, directory, num_files):
        self._directory = directory
        self._num_files = num_files
        self._files = []
        self._lock = threading.Lock()

    def skip(self, files):
        """Notes the files found broken when the folder is opened."""
        if files:
            self._files += files
            self._check_fraction()
            logging.warning(
                "Skipped %d of %d files in %s, which are no readable images: %s.",
                *(len(files), self._num_files, self._directory, _shorten(files)),
            )

    def replace(self, file):
        """Notes a file that could not be decoded when its turn came."""
        file = os.fsdecode(file)
        with self._lock:  # Called from many threads of tf.data.
            if file not in self._files:
                self._files.append(file)
                logging.warning(
                    "%s cannot be decoded; the next image stands in for it (%d of %d files).",
                    *(os.path.join(self._directory, file), len(self._files), self._num_files),
                )
            self._check_fraction()
        return np.int64(0)

    def _check_fraction(self):
        if len(self._files) > MAX_BAD_FRACTION * self._num_files:
            raise InputError(
                f"{len(self._files)} of {self._num_files} files in {self._directory} are no "
                f"readable images, more than {MAX_BAD_FRACTION:.0%}: {_shorten(self._files)}; "
                f"delete or replace them."
            )


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


def _list_files(directory, class_names):
    """Paths of all images below `directory`, their labels and the class names."""
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
            f"{_shorten(unknown)}; rename or remove them."
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


def _scan_files(directory, files):
    """Size in bytes and checksum of the ends of all files; which look like whole images."""

    def scan_chunk(start):
        chunk = files[start : start + _SCAN_CHUNK]
        return [_scan_file(os.path.join(directory, file)) for file in chunk]

    results = []
    starts = range(0, len(files), _SCAN_CHUNK)
    with _progress("Checking files", len(files)) as bar, futures.ThreadPoolExecutor(16) as pool:
        for chunk in pool.map(scan_chunk, starts):
            results += chunk
            bar.update(len(chunk))
    results = np.array(results, np.int64)
    return results[:, :2], results[:, 2].astype(bool)


def _progress(what, total):
    return tqdm.tqdm(desc=what, total=total, unit="file", delay=3, leave=False)


def _scan_file(path):
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(16)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read(_TAIL_BYTES)
            if not _looks_whole(head, tail, size):
                # Phones append films and maps to photographs: the decoder has the last word.
                file.seek(0)
                geometric.decode_image(file.read())
            return size, zlib.crc32(head + tail), True
    except (OSError, tf.errors.OpError):
        return 0, 0, False


def _looks_whole(head, tail, size):
    if head.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" in tail
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" in tail
    if head.startswith((b"GIF87a", b"GIF89a")):
        return tail.endswith(b";")
    return head.startswith(b"BM") and int.from_bytes(head[2:6], "little") == size


def _shorten(names):
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"
