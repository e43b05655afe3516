"""`model.tar.gz`, as TF Hub's protocol and Kaggle Models want a SavedModel: no folder around it."""

import contextlib
import gzip
import pathlib
import tarfile
import tempfile
from collections.abc import Iterator

NAME = "model.tar.gz"


@contextlib.contextmanager
def new(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Packs a SavedModel into `folder / NAME` when the block has ended well.

    The same files make the same bytes: names are sorted, and times and owners left out.

    Args:
        folder: that exists.

    Yields:
        Path of an empty folder, on the same disk, to write the SavedModel into.
    """
    with tempfile.TemporaryDirectory(dir=folder) as inner:
        yield pathlib.Path(inner)
        with (
            (folder / NAME).open("wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            for path in sorted(pathlib.Path(inner).rglob("*")):
                member = archive.gettarinfo(path, path.relative_to(inner).as_posix())
                member.mtime = member.uid = member.gid = 0
                member.uname = member.gname = ""
                member.mode = 0o755 if path.is_dir() else 0o644
                if path.is_dir():
                    archive.addfile(member)
                    continue
                with path.open("rb") as content:
                    archive.addfile(member, content)
