"""How many pixels an image says it has: one too large for the memory is never decoded.

A file of a few kilobytes may say that it is 65,535 px wide and high, and a decoder takes the memory
for it before it looks further.
"""

from __future__ import annotations

# 400 MB of pixels, and several times as much while one of 16 bits is decoded.
MAX_PIXELS = 2**27
# TensorFlow's decoders take no larger file, and would read it whole before they say so.
MAX_BYTES = 2**31 - 1
ADVICE = "save a smaller copy, or a baseline JPEG, which is decoded at a part of its size"
# Segments of a JPEG file that hold the size: all "start of frame".
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)


def find(kind: str | None, head: bytes) -> tuple[int, int] | None:
    """(height, width) in pixels, as the header of a file says.

    Args:
        kind: of the file, as of `image_kinds.find_kind`.
        head: its first 32 bytes or more; of a JPEG file all up to the size.

    Returns:
        None where it is not found: of kinds whose header is elsewhere, and in broken files.

    Example:
        >>> find("GIF", b"GIF89a" + bytes([0, 1, 2, 0]))
        (2, 256)
    """
    if kind == "JPEG":
        return _find_in_jpeg(head)[0]
    if kind == "PNG" and len(head) >= 24:
        return int.from_bytes(head[20:24], "big"), int.from_bytes(head[16:20], "big")
    if kind == "GIF" and len(head) >= 10:
        return _little(head, 8, 2), _little(head, 6, 2)
    if kind == "BMP" and len(head) >= 26:
        if _little(head, 14, 4) == 12:
            return _little(head, 20, 2), _little(head, 18, 2)
        # A negative height is that of rows from the top downwards.
        return abs(int.from_bytes(head[22:26], "little", signed=True)), _little(head, 18, 4)
    if kind == "WebP" and len(head) >= 30:
        return _find_in_webp(head)
    return None


def is_too_large(kind: str | None, head: bytes) -> bool:
    """Whether an image has more than `MAX_PIXELS`; JPEG is meant where it is progressive only.

    A baseline JPEG is decoded row by row, at a part of its size. All of a progressive one has to be
    in memory, whatever part of it is wanted.

    Args:
        kind: as for `find`.
        head: likewise.
    """
    size, is_whole = find(kind, head), True
    if kind == "JPEG":
        size, is_whole = _find_in_jpeg(head)
    return size is not None and is_whole and size[0] * size[1] > MAX_PIXELS


def first_frame(encoded: bytes) -> bytes:
    """A GIF file that ends with its first frame: TensorFlow decodes all others to drop them.

    Args:
        encoded: a GIF file.

    Returns:
        The file itself where it is broken; nothing where the frame has more than `MAX_PIXELS`.
    """
    try:
        position = 13 + _table_bytes(encoded[10])
        while encoded[position] == 0x21:  # An extension, of one byte that says of what kind.
            position = _skip_blocks(encoded, position + 2)
        if encoded[position] != 0x2C:
            return encoded
        width, height = _little(encoded, position + 5, 2), _little(encoded, position + 7, 2)
        if width * height > MAX_PIXELS:
            return b""
        position += 10 + _table_bytes(encoded[position + 9])
        position = _skip_blocks(encoded, position + 1)
    except IndexError:
        return encoded
    return encoded[:position] + b";"


def _little(head, position, length):
    return int.from_bytes(head[position : position + length], "little")


def _find_in_jpeg(head):
    """-> ((height, width) or None, whether all of it has to be in memory)."""
    position = 2
    while position + 9 <= len(head) and head[position] == 0xFF:
        code = head[position + 1]
        if code in _FRAMES:
            height, width = head[position + 5 : position + 7], head[position + 7 : position + 9]
            size = int.from_bytes(height, "big"), int.from_bytes(width, "big")
            return size, code in _PROGRESSIVE
        # Bytes of 255 may fill up what lies between segments.
        position += 1 if code == 0xFF else 2 + _segment_bytes(head, position)
    return None, False


def _segment_bytes(head, position):
    return int.from_bytes(head[position + 2 : position + 4], "big")


def _find_in_webp(head):
    if head[12:16] == b"VP8X":
        return 1 + _little(head, 27, 3), 1 + _little(head, 24, 3)
    if head[12:16] == b"VP8L":
        bits = _little(head, 21, 4)
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    return _little(head, 28, 2) & 0x3FFF, _little(head, 26, 2) & 0x3FFF


def _table_bytes(flags):
    """Length of a GIF's table of colours."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_blocks(encoded, position):
    """Where the blocks end that begin at a position, each with its length before it."""
    while encoded[position]:
        position += 1 + encoded[position]
    return position + 1
