"""A folder that appears whole, or not at all."""

import contextlib
import pathlib
import shutil

from csml_tf import errors
from csml_tf.errors import InputError


@contextlib.contextmanager
def replaced_folder(directory):
    """Writes a folder beside its place, and puts it there when the block has ended well.

    Args:
        directory: where to; what is there is replaced once the new one is complete, and
            stays if the block fails. Its parents are made when missing.

    Yields:
        `pathlib.Path` of an empty folder to write into.

    Raises:
        InputError: if no folder can be made there.
    """
    directory = pathlib.Path(directory)
    temporary = directory.with_name(directory.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"The folder {directory} cannot be made ({errors.first_line(error)}): choose another."
        ) from error
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    # A folder cannot be renamed over another one: between these lines it is missing, complete.
    older = directory.with_name(directory.name + ".old")
    shutil.rmtree(older, ignore_errors=True)
    if directory.exists():
        directory.rename(older)
    temporary.rename(directory)
    shutil.rmtree(older, ignore_errors=True)
