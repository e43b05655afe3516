"""Files of named tensors: which format a file has, and writing one whole or not at all."""

import pathlib

from csml_tf import places, whole_files
from csml_tf.conversion import safetensors_files, torch_files
from csml_tf.errors import InputError

# How a file by `torch.save` begins: a zip archive, a pickle, a tar archive of PyTorch 0.1.
_TORCH_STARTS = (b"PK", b"\x80")
_TAR = slice(257, 262), b"ustar"


def read(path):
    """{name: array} of a `.pth`, `.pth.tar` or `.safetensors` file, told by its contents.

    Raises:
        InputError: if it cannot be read, or is none of these.
    """
    path = pathlib.Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(512)
        if safetensors_files.looks_like(path):
            return safetensors_files.read(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): give --checkpoint a .pth, .pth.tar or "
            ".safetensors file."
        ) from error
    where, tar = _TAR
    if start.startswith(_TORCH_STARTS) or start[where] == tar:
        return torch_files.read(path)
    raise InputError(
        f"{path} is no checkpoint: neither a file by torch.save nor one in the safetensors format."
    )


def write(path, tensors):
    """Writes {name: array} in the format that the path's ending says.

    Raises:
        InputError: if it is neither `.pth`, `.pt`, `.pth.tar` nor `.safetensors`, or the file
            cannot be written.
    """
    path = places.at(path)
    if path.suffix == ".safetensors":
        save = safetensors_files.write
    elif path.suffix in (".pth", ".pt") or path.name.endswith(".pth.tar"):
        save = torch_files.write
    else:
        raise InputError(f"{path} should end in .pth or .safetensors, which says its format.")
    with whole_files.new_file(path, "choose another --output") as temporary:
        save(temporary, tensors)
