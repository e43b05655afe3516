"""Unpacks .zip and .tar.gz archives so that nothing lands outside of one folder."""

import gzip
import pathlib
import re
import stat
import tarfile
import zipfile
import zlib

from csml_tf.errors import InputError

MAX_BYTES = 4 * 2**30
MAX_MEMBERS = 10_000
_CHUNK_BYTES = 2**18
_DAMAGE = (
    *(zipfile.BadZipFile, gzip.BadGzipFile, tarfile.TarError),
    *(zlib.error, EOFError, NotImplementedError),
)


def unpack(path, directory, max_bytes=MAX_BYTES):
    """Unpacks an archive of plain files and folders into an empty folder.

    Refuses, as a whole, an archive that has anything else: a path that leaves the folder, a
    link, a device, an encrypted file, a name twice, more than `MAX_MEMBERS` members. What had
    been unpacked by then stays; the caller removes it with the folder.

    Args:
        path: of a .zip or .tar.gz file.
        directory: `pathlib.Path` of an existing empty folder.
        max_bytes: of all unpacked files together, as they come, whatever the archive says.

    Raises:
        InputError: if the archive is refused or damaged.
        OSError: if the disk is full or not writable.
    """
    read_members = _zip_members if zipfile.is_zipfile(path) else _tar_members
    left = max_bytes
    try:
        for number, (name, is_folder, open_member) in enumerate(read_members(path)):
            if number == MAX_MEMBERS:
                raise _refused(path, f"has more than {MAX_MEMBERS} members")
            target = directory.joinpath(*_parts(path, name))
            if is_folder:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with open_member() as source, open(target, "xb") as file:
                while chunk := source.read(_CHUNK_BYTES):
                    left -= len(chunk)
                    if left < 0:
                        raise _refused(path, f"holds more than {max_bytes} bytes")
                    file.write(chunk)
    except _DAMAGE as error:
        raise InputError(f"{path} is damaged ({error}): remove it and try again.") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise _refused(path, f"has {name!r} twice, or as a file and a folder") from error


def _zip_members(path):
    """Yields (name, whether it is a folder, function that opens it) of each member."""
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where no Unix made the archive.
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(path, f"has {info.filename!r}, neither a file nor a folder")
            if info.flag_bits & 1:
                raise _refused(path, f"has {info.filename!r}, which is encrypted")
            yield info.filename, info.is_dir(), lambda info=info: file.open(info)


def _tar_members(path):
    with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as file:
        for info in file:
            if not (info.isreg() or info.isdir()) or info.issparse():
                raise _refused(path, f"has {info.name!r}, neither a file nor a folder")
            yield info.name, info.isdir(), lambda info=info: file.extractfile(info)
        while stream.read(_CHUNK_BYTES):  # The checksum is at the end.
            pass


def _parts(path, name):
    """The folders and the file that a member's name stands for, all of them inside."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    # A colon: a drive of Windows. A control character has no place in a name, either.
    if name.startswith("/") or ".." in parts or re.search(r"[\\:\x00-\x1f]", name):
        raise _refused(path, f"has {name!r}, which may lie outside of its folder")
    return parts


def _refused(path, why):
    return InputError(f"{pathlib.Path(path).name} {why}: it is not unpacked.")
