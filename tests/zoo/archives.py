"""Archives for the tests, good and bad, made byte by byte."""

import io
import stat
import tarfile
import zipfile


def make_zip(members):
    """{name: bytes; None for a folder; an int for the mode of something special} -> bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            if content is None:
                info.external_attr = (stat.S_IFDIR | 0o755) << 16
            elif isinstance(content, int):
                info.external_attr = content << 16
            file.writestr(info, content if isinstance(content, bytes) else b"target")
    return buffer.getvalue()


def make_tar(members):
    """As `make_zip`; an int is the type of a member of a tar file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, int):
                info.type = str(content).encode()
                info.linkname = "target"
            else:
                info.size = len(content)
            file.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()
