"""One spelling for the names in PyTorch checkpoints: torchvision's, whoever wrote the file."""

import re

# Of `DistributedDataParallel` and `torch.compile`: they say nothing about the network.
_WRAPPERS = ("module.", "_orig_mod.")
_BLOCK = re.compile(r"(?P<root>(?:.*?\.)??)(?P<stage>layer[1-4]|\d+)\.\d+\.(?:conv|bn)[1-3]\.\w+")


def canonical_names(names):
    """Names of tensors as torchvision would give them.

    Wrappers are left out. A ResNet that was made a plain sequence has numbers for names: its
    convolution, batch norm and stages get theirs back, and what comes after the stages is
    `fc.` with its number. So do the shortcut and the linear layer of the usual CIFAR ResNets.

    Args:
        names: of all tensors of a file.

    Returns:
        ({name in `names`: canonical name}, the prefixes under which there are ResNets,
        in the order in which they occur).

    Example:
        >>> blocks = [f"module.f.{n}.0.conv1.weight" for n in (4, 5, 6, 7)]
        >>> renamed, roots = canonical_names(["module.f.0.weight", *blocks, "module.f.9.bias"])
        >>> list(renamed.values())
        ['f.conv1.weight', 'f.layer1.0.conv1.weight', 'f.layer2.0.conv1.weight',
         'f.layer3.0.conv1.weight', 'f.layer4.0.conv1.weight', 'f.fc.9.bias']
        >>> roots
        ['f.']
    """
    canonical = {name: _without_wrappers(name) for name in names}
    stages = {}  # {root: names of its stages}
    for name in canonical.values():
        block = _BLOCK.fullmatch(name)
        if block:
            stages.setdefault(block["root"], set()).add(block["stage"])
    for root, found in stages.items():
        numbers = sorted(int(stage) for stage in found if stage.isdigit())
        modules = dict(zip(["0", "1", *map(str, numbers)], _SEQUENCE)) if numbers else {}
        for name, old in canonical.items():
            if old.startswith(root):
                canonical[name] = root + _rename(old[len(root) :], modules, numbers)
    return canonical, list(stages)


_SEQUENCE = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")


def _without_wrappers(name):
    parts = name.split(".")
    return ".".join(part for part in parts if f"{part}." not in _WRAPPERS)


def _rename(name, modules, numbers):
    """A name inside a ResNet -> torchvision's."""
    first, _, rest = name.partition(".")
    if first in modules:
        name = f"{modules[first]}.{rest}"
    elif numbers and first.isdigit() and int(first) > numbers[-1]:
        name = f"fc.{name}"
    name = re.sub(r"^(layer\d\.\d+)\.shortcut\.", r"\1.downsample.", name)
    return re.sub(r"^linear\.", "fc.", name)
