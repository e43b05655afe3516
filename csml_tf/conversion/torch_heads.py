"""Projection heads in PyTorch checkpoints: which of them are like ours."""

import re

_LINEAR = re.compile(r"(?:layers\.|net\.)?(?:(\d+)\.)?(weight|bias)")


def read_head(tensors, feature_dim):
    """The linear layers of a head, where it is MoCo's: one, or two with a ReLU between.

    Args:
        tensors: {name without the head's prefix: array}.
        feature_dim: length of the pooled features.

    Returns:
        ((weight [out, in], bias [out]) of each layer, None), or (None, why it is not like ours).
    """
    if not tensors:
        return None, "the checkpoint has none"
    layers = {}
    for name, array in tensors.items():
        linear = _LINEAR.fullmatch(name)
        if linear is None or array.ndim != (2 if linear[2] == "weight" else 1):
            return None, "it has more than linear layers with a ReLU between, such as batch norm"
        layers.setdefault(int(linear[1] or 0), {})[linear[2]] = array
    layers = [layers[place] for place in sorted(layers)]
    if any(len(layer) < 2 for layer in layers):
        return None, "a linear layer of it has no bias"
    hidden = [layer["weight"].shape[0] for layer in layers[:-1]]
    if len(layers) > 2 or hidden not in ([], [feature_dim]):
        return None, (
            f"ours has one hidden layer of {feature_dim} units or none, and it has "
            f"{' and '.join(map(str, hidden))}"
        )
    for layer in layers:
        rows, columns = layer["weight"].shape
        if columns != feature_dim or layer["bias"].shape != (rows,):
            return None, "the shapes of its layers do not fit each other"
    return [(layer["weight"], layer["bias"]) for layer in layers], None
