"""The safetensors format: a length, a JSON header, the arrays; there is no code in it.

8 bytes   n, the length of the header, little-endian
n bytes   {name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {..}}
the rest  the arrays, little-endian and in C order; offsets count from here
"""

import json
import os

import numpy as np

from csml_tf.errors import InputError

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U8": "<u1",
    "BOOL": "?",
    "BF16": "<u2",  # NumPy has none: the upper half of a float32, see `_array`.
}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items() if name != "BF16"}
_LONGEST_HEADER = 100_000_000  # Bytes; the limit of the format.


def looks_like(path):
    """Whether a file begins as one of this format."""
    with open(path, "rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and _header_length(start) <= _LONGEST_HEADER


def read(path):
    """{name: array} of a file; bfloat16 becomes float32.

    Raises:
        InputError: if the file is damaged or holds numbers of another kind.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        length = _header_length(file.read(8)) if size >= 8 else size
        if length > min(size - 8, _LONGEST_HEADER):
            raise _damaged(path, "its header is longer than the file")
        try:
            header = json.loads(file.read(length))
            entries = {
                name: (entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
                for name, entry in header.items()
                if name != "__metadata__"
            }
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _damaged(path, "its header cannot be read") from error
        data = file.read()
    tensors = {}
    for name, (dtype, shape, begin, end) in entries.items():
        if dtype not in _DTYPES:
            raise InputError(f"{path} holds {name} as {dtype}: only {', '.join(_DTYPES)} are read.")
        width = np.dtype(_DTYPES[dtype]).itemsize
        if not 0 <= begin <= end <= len(data) or end - begin != width * int(np.prod(shape)):
            raise _damaged(path, f"{name} does not lie in it")
        tensors[name] = _array(data[begin:end], dtype, shape)
    return tensors


def write(path, tensors):
    """Writes {name: array}, each of a kind that NumPy and the format have in common."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # So that the arrays are aligned.
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def _header_length(start):
    return int.from_bytes(start[:8], "little")


def _array(data, dtype, shape):
    array = np.frombuffer(data, _DTYPES[dtype]).reshape(shape)
    if dtype == "BF16":
        return (array.astype("uint32") << 16).view("float32")
    return array


def _damaged(path, what):
    return InputError(f"{path} is damaged or cut off ({what}): fetch it again.")
