"""One file from the network: whole and verified, or not there at all."""

import http.client
import os
import urllib.error
import urllib.request

from csml_tf import progress, whole_files
from csml_tf.errors import InputError

_TIMEOUT_S = 60
_CHUNK_BYTES = 2**18
# A connection that breaks off is opened again; so often without a verified file is enough.
_MAX_REQUESTS = 5
_RANGE_NOT_SATISFIABLE = 416


def fetch(url, path, sha256, num_bytes):
    """Downloads a file, unless it is there.

    What an earlier attempt left in `<path>.part` is not fetched again. The file gets its
    name once its checksum is right.

    Args:
        url: http(s) address.
        path: `pathlib.Path` of the file; its folder exists.
        sha256: hex digits of the file that is expected.
        num_bytes: its size.

    Raises:
        InputError: if the network or the server fails, or the file is another one.
        OSError: if the disk is full or not writable.
    """
    if path.exists():
        return
    part = path.with_name(path.name + ".part")
    resumed = part.exists()
    with (
        progress.bar(num_bytes, f"Downloading {path.name}", unit="bytes") as advance,
        open(part, "ab") as file,
    ):
        _append_rest(url, file, num_bytes, advance)
    if whole_files.sha256(part) == sha256:
        os.replace(part, path)
        return
    part.unlink()
    if not resumed:
        raise InputError(
            f"What {url} sends is not the published file, whose sha256 begins with "
            f"{sha256[:12]}: nothing of it was kept; update csml_tf, or report the address."
        )
    fetch(url, path, sha256, num_bytes)  # The fault may be in what an earlier attempt left.


def _append_rest(url, file, num_bytes, advance):
    """Fills a file that is open for appending, and sees to it that it is on the disk.

    It ends up with `num_bytes`, or with more where the server sends another file.
    """
    advance(file.tell())
    for _ in range(_MAX_REQUESTS):
        if file.tell() < num_bytes:
            _append(url, file, advance, limit=num_bytes)
        if file.tell() >= num_bytes:
            file.flush()
            os.fsync(file.fileno())
            return
    raise InputError(
        f"The download of {url} breaks off, {file.tell()} of {num_bytes} bytes are there: "
        "repeat the command to go on."
    )


def _append(url, file, advance, limit):
    """Appends what one request brings, which may end early; stops soon above `limit`."""
    start = file.tell()
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == _RANGE_NOT_SATISFIABLE:
            _empty(file, advance)
            return
        raise InputError(
            f"{url} cannot be downloaded (the server says {error.code} {error.reason}): try "
            "again later, or update csml_tf."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(
            f"{url} cannot be downloaded ({reason}): connect to the network, or copy the file "
            f"to {file.name.removesuffix('.part')}."
        ) from error
    with response:
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            _empty(file, advance)  # The server sends everything again.
        while file.tell() <= limit and (chunk := _read(response)):
            file.write(chunk)
            advance(len(chunk))


def _read(response):
    """The next bytes; none at the end, nor where the connection breaks off."""
    try:
        return response.read(_CHUNK_BYTES)
    except (OSError, http.client.HTTPException):
        return b""


def _empty(file, advance):
    advance(-file.tell())
    file.seek(0)
    file.truncate()
