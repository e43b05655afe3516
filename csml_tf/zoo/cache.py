"""The zoo's encoders on this machine: each unpacked once, verified before every use."""

import json
import pathlib
import shutil

from csml_tf import places, whole_files
from csml_tf.errors import InputError
from csml_tf.zoo import archive, download

_PACKAGED = pathlib.Path(__file__).with_name("encoders")


def find(entry):
    """The SavedModel of a zoo entry, unpacked and as it was published.

    The first call unpacks it, after a download where it does not come with the package. What
    has been damaged since is replaced; processes that meet here wait for each other.

    Args:
        entry: `Entry` with an archive.

    Returns:
        `pathlib.Path` of a folder that holds `saved_model.pb`.

    Raises:
        InputError: if the cache cannot be written, or the encoder cannot be had or is not the
            published one.
    """
    folder = places.cache_home() / "encoders"
    # A new version of an encoder has a place of its own.
    directory = folder / f"{entry.id}-{entry.archive.sha256[:12]}"
    if _is_whole(directory):  # Then a cache that may not be written to will do.
        return directory
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_files.take_turns(directory.with_suffix(".lock")):
            if not _is_whole(directory):
                _unpack(entry, directory)
    except OSError as error:
        raise InputError(
            f"The cache {places.cache_home()} cannot be written ({error.strerror or error}): free "
            "some space, or set CSML_TF_HOME to another folder."
        ) from error
    return directory


def _unpack(entry, directory):
    shutil.rmtree(directory, ignore_errors=True)  # It is damaged.
    packed = _verified_archive(entry, directory)
    with whole_files.new_folder(directory) as folder:
        archive.unpack(packed, folder)
        if not (folder / "saved_model.pb").exists():
            raise InputError(f"{packed.name} holds no saved_model.pb: report this.")
        checksums = json.dumps(_checksums(folder), indent=1)
        whole_files.write(_manifest(directory), checksums + "\n")


def _verified_archive(entry, directory):
    """-> path of the published file, fetched where it has to be."""
    published = entry.archive
    if not published.is_remote:
        path = _PACKAGED / published.source
        if not path.exists() or whole_files.sha256(path) != published.sha256:
            raise InputError(
                f"The encoder {entry.id} of this installation is missing or damaged: install "
                "csml_tf again."
            )
        return path
    path = directory.with_name(directory.name + published.ending)
    if path.exists() and whole_files.sha256(path) != published.sha256:
        path.unlink()
    download.fetch(published.source, path, published.sha256, published.num_bytes)
    return path


def _is_whole(directory):
    """Whether a folder holds the files that were unpacked into it, each as it was."""
    try:
        expected = json.loads(_manifest(directory).read_text())
        return directory.is_dir() and _checksums(directory) == expected
    except (OSError, ValueError):
        return False


def _manifest(directory):
    return directory.with_suffix(".json")


def _checksums(directory):
    """{path of a file, from the folder: its SHA-256} of all files."""
    files = sorted(path for path in directory.rglob("*") if not path.is_dir())
    return {path.relative_to(directory).as_posix(): whole_files.sha256(path) for path in files}
