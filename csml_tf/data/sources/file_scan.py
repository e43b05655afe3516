"""A quick look at the two ends of image files: whole, or cut off on their way here?"""

import dataclasses
import os
import stat
import zlib
from concurrent import futures

import numpy as np
import tensorflow as tf

from csml_tf import places, progress
from csml_tf.augment import geometric, image_kinds, image_size
from csml_tf.errors import InputError

_NUM_THREADS = 16
_CHUNK = 256
_NUM_URL_THREADS = 64
_URL_CHUNK = 32
_HEAD_BYTES = 16  # That count in the checksum.
_TAIL_BYTES = 1024
_BAD, _GOOD, _TOO_LARGE = range(3)


@dataclasses.dataclass(frozen=True)
class FileScan:
    """What the ends of files say.

    Attributes:
        ends: [number of files, 2] np.int64, size in bytes and checksum of both ends; 0 for a
            file that cannot be read.
        is_good: [number of files] bool, which may be whole images, of a size to be decoded.
        is_too_large: [number of files] bool, which have too many pixels, as they say.
    """

    ends: np.ndarray
    is_good: np.ndarray
    is_too_large: np.ndarray


def scan_files(directory, files):
    """Reads the ends of all files; decodes those that look cut off or are of another kind.

    Args:
        directory: str, path of a folder.
        files: list of str, paths below it.

    Returns:
        `FileScan`.

    Raises:
        url_path.StoreError: if a store does not answer: what it may hold is not broken.
    """

    def scan_chunk(start):
        chunk = files[start : start + size]
        # As an array, in a tenth of the memory of a million tuples.
        return np.array([_scan_file(os.path.join(directory, file)) for file in chunk], np.int64)

    is_url = places.is_url(directory)
    # A store answers late and many at once; a chunk of its files should not last minutes.
    num_threads, size = (_NUM_URL_THREADS, _URL_CHUNK) if is_url else (_NUM_THREADS, _CHUNK)
    results = []
    starts = range(0, len(files), size)
    with (
        progress.bar(len(files), "Checking files", unit="files") as advance,
        futures.ThreadPoolExecutor(num_threads) as pool,
    ):
        for chunk in pool.map(scan_chunk, starts):
            results.append(chunk)
            advance(len(chunk))
    results = np.concatenate(results)
    return FileScan(results[:, :2], results[:, 2] == _GOOD, results[:, 2] == _TOO_LARGE)


def _scan_file(path):
    try:
        if places.is_url(path):
            url = places.at(path)
            ends = url.read_ends(image_kinds.HEAD_BYTES, _TAIL_BYTES)
            return _judge(*ends, url.read_bytes)
        with image_kinds.open_file(path) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):  # A device may have no end.
                return 0, 0, _BAD
            head, size = file.read(image_kinds.HEAD_BYTES), status.st_size
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read(_TAIL_BYTES)

            def read():
                file.seek(0)
                return file.read()

            return _judge(size, head, tail, read)
    except InputError:
        raise
    except (OSError, tf.errors.OpError):
        return 0, 0, _BAD


def _judge(size, head, tail, read):
    kind = image_kinds.find_kind(head)
    checksum = zlib.crc32(head[:_HEAD_BYTES] + tail)
    # A JPEG file says so further inside, to who decodes it.
    if kind != "JPEG" and image_size.is_too_large(kind, head):
        return size, checksum, _TOO_LARGE
    if size > image_size.MAX_BYTES:
        return 0, 0, _BAD
    if not _looks_whole(kind, head, tail, size):
        # Phones append films and maps to photographs: the decoder has the last word.
        geometric.decode_image(read())
    return size, checksum, _GOOD


def _looks_whole(kind, head, tail, size):
    if kind == "JPEG":
        return b"\xff\xd9" in tail
    if kind == "PNG":
        return b"IEND" in tail
    if kind == "GIF":
        return tail.endswith(b";")
    if kind == "BMP":
        return int.from_bytes(head[2:6], "little") == size
    if kind == "WebP" and int.from_bytes(head[4:8], "little") + 8 != size:
        return False
    # Of the others nothing at the ends says whether they are whole.
    return kind in image_kinds.FOREIGN and image_kinds.can_decode(kind)
