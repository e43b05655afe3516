"""PyTorch's own files, `.pth` and `.pth.tar`; the one module that imports torch.

They are pickles, which may run any code when they are opened. So they are opened by PyTorch's
weights-only loader alone, which makes tensors and plain containers and refuses all else. Of some
plain data beside the weights, such as settings of OmegaConf, it makes nothing.
"""

import argparse
import pickle
import re
import warnings

import numpy as np

from csml_tf import errors
from csml_tf.errors import InputError

_REFUSED = re.compile(r"GLOBAL ([\w.]+)")
# Settings and figures that codes keep beside the weights.
_PLAIN = re.compile(
    r"numpy(\._?core)?\.multiarray\.(scalar|_reconstruct)|numpy\.(ndarray|dtype)|numpy\.dtypes\.\w+"
    r"|numpy\.random\.[\w.]+|_codecs\.encode"
    r"|omegaconf\.[\w.]+|typing\.\w+|pathlib\.\w+|datetime\.\w+|uuid\.UUID"
    r"|builtins\.(list|dict|set|frozenset|tuple|int|float|complex|str|bool|bytes|bytearray|object)"
    r"|builtins\.(slice|range|Ellipsis)"
)
_MAX_KINDS = 50
# What PyTorch's versions raise at files that are damaged; a RecursionError is a RuntimeError.
_NO_CHECKPOINT = (
    *(RuntimeError, ValueError, EOFError, KeyError, TypeError),
    *(AttributeError, OSError),
)


def read(path):
    """All tensors of a file.

    Args:
        path: of a file by `torch.save`, in its present format or the one before PyTorch 1.6.

    Returns:
        {name: array}, a name being the keys on the way through the file's dictionaries, joined
        by dots. Dictionaries with other keys than text, such as an optimizer's state, are left
        out, and so is what is no tensor.

    Raises:
        InputError: if PyTorch is missing, the file is damaged or no checkpoint, or opening it
            would need more than tensors and plain containers.
    """
    torch = _import_torch()
    tensors = {}
    try:
        content = _load(torch, path)
        _collect(torch, content, "", tensors)
    except pickle.UnpicklingError as error:
        raise _explain(path, error) from error
    except _NO_CHECKPOINT as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} cannot be read ({errors.first_line(error)}): it is damaged, cut off or no "
            "checkpoint; fetch it again."
        ) from error
    return tensors


def write(path, tensors):
    """Writes {name: array} as a PyTorch state dict.

    Raises:
        InputError: if PyTorch is missing.
    """
    torch = _import_torch()
    # A copy, because torch.from_numpy wants memory that may be written to.
    torch.save({name: torch.from_numpy(np.array(a)) for name, a in tensors.items()}, path)


class _Ignored:
    """Stands for plain data beside the weights, and takes everything without looking at it."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass


def _make_dict(*args):
    return {}


# PyTorch knows it by these names, and fills a plain dictionary only.
_make_dict.__module__, _make_dict.__name__ = "collections", "defaultdict"
_make_dict.__qualname__ = _make_dict.__name__


def _load(torch, path):
    """The file's content; what is plain data by its name is `_Ignored`, whose code is ours."""
    # What SwAV and DINO keep beside their weights; this has no code that would run.
    known = [argparse.Namespace, _make_dict]
    while True:
        try:
            with torch.serialization.safe_globals(known), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Of old storage classes.
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            refused = _find_refused(error)
            if not refused or not _PLAIN.fullmatch(refused) or len(known) > _MAX_KINDS:
                raise
            module, _, name = refused.rpartition(".")
            # PyTorch knows a class by these two names, and makes ours in place of theirs.
            known.append(type(name, (_Ignored,), {"__module__": module}))


def _find_refused(error):
    """The name of what a file asks for and PyTorch refuses, with its module; None for others."""
    found = _REFUSED.search(str(error))
    if found is None:
        return None
    # PyTorch leaves the module of what is built in out.
    return found[1] if "." in found[1] else f"builtins.{found[1]}"


def _import_torch():
    try:
        import torch
    except ImportError as error:
        raise InputError(
            "PyTorch's files need PyTorch: pip install torch (a build for CPUs will do), or use a "
            ".safetensors file."
        ) from error
    return torch


def _collect(torch, content, prefix, tensors):
    """Adds the tensors in nested dictionaries to `tensors`."""
    for key, value in content.items() if isinstance(content, dict) else ():
        name = f"{prefix}{key}"
        if not isinstance(key, str):
            continue
        if isinstance(value, torch.Tensor):
            tensors[name] = _to_numpy(torch, name, value)
        else:
            _collect(torch, value, f"{name}.", tensors)


def _to_numpy(torch, name, tensor):
    try:
        tensor = tensor.detach()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"The tensor {name} cannot be read ({errors.first_line(error)}): only dense ones can."
        ) from error


def _explain(path, error):
    refused = _find_refused(error)
    if refused:
        return InputError(
            f"{path} asks for {refused}, and only tensors and plain containers are loaded, "
            "because anything else could run code: save its state_dict() alone, where you trust "
            "the file."
        )
    detail = str(error).partition("WeightsUnpickler error:")[2].strip() or str(error)
    return InputError(
        f"{path} is no PyTorch checkpoint, a damaged one, or written with another pickle protocol "
        f"than PyTorch's own, 2 ({errors.first_line(detail)[:80]}): fetch it again, or save its "
        "state_dict() alone with torch.save."
    )
