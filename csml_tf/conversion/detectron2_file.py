"""The file from which Detectron2 starts a detector's backbone, as MoCo's script makes it."""

import pickle
import re

from csml_tf import whole_files


def rename(name):
    """Detectron2's name for a tensor, from torchvision's.

    Examples:
        >>> [rename(name) for name in ("conv1.weight", "bn1.bias", "layer1.0.bn3.running_mean")]
        ['stem.conv1.weight', 'stem.conv1.norm.bias', 'res2.0.conv3.norm.running_mean']
        >>> [rename(f"layer4.0.downsample.{name}") for name in ("0.weight", "1.bias")]
        ['res5.0.shortcut.weight', 'res5.0.shortcut.norm.bias']
    """
    name = re.sub(r"^layer(\d)", lambda stage: f"res{int(stage[1]) + 1}", name)
    name = name if name.startswith("res") else f"stem.{name}"
    name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
    return re.sub(r"\bbn(\d)", r"conv\1.norm", name)


def write(path, tensors):
    """Writes a state dict as a pickle of NumPy arrays.

    Args:
        path: `pathlib.Path`; Detectron2 wants the ending `.pkl`.
        tensors: {torchvision's name: array}.

    Raises:
        InputError: if the file cannot be written.
    """
    content = {
        "model": {rename(name): array for name, array in tensors.items()},
        "__author__": "csml_tf",
        # Detectron2 then matches names by their endings: the backbone has a prefix there.
        "matching_heuristics": True,
    }
    whole_files.write(path, pickle.dumps(content), "choose another --output")
