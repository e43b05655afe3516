"""PyTorch's names and axes for the weights of our networks; NumPy arrays on both sides.

Names are torchvision's (`layer1.0.conv1.weight`), which every other layout contains under a
prefix of its own. Nothing here needs PyTorch.
"""

import re

import numpy as np

from csml_tf.errors import InputError

# PyTorch's counterparts of a Keras layer's `get_weights()`, in its order.
_CONV = ("weight",)
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
_DENSE = ("weight", "bias")
# How many batches a batch norm has seen, which neither framework computes anything from.
BATCHES = "num_batches_tracked"


def module_name(layer_name):
    """PyTorch's name for a layer of `resnet.make_resnet`.

    Examples:
        >>> [module_name(name) for name in ("stem", "stem_bn", "stage2_block1_conv3_bn")]
        ['conv1', 'bn1', 'layer2.0.bn3']
        >>> module_name("stage4_block1_shortcut_bn")
        'layer4.0.downsample.1'
    """
    stem = {"stem": "conv1", "stem_bn": "bn1"}
    if layer_name in stem:
        return stem[layer_name]
    parts = re.fullmatch(r"stage(\d)_block(\d+)_(conv(\d)|shortcut)(_bn)?", layer_name)
    if not parts:
        raise ValueError(f"make_resnet has no layer {layer_name!r}.")
    stage, block, _, number, is_norm = parts.groups()
    if number is None:
        module = f"downsample.{1 if is_norm else 0}"
    else:
        module = f"{'bn' if is_norm else 'conv'}{number}"
    return f"layer{stage}.{int(block) - 1}.{module}"


def backbone_to_torch(layers, batches=0):
    """Keras weights of a ResNet -> a PyTorch state dict.

    Args:
        layers: {layer name: `get_weights()`}: [height, width, in, out] of a convolution, or
            scale, shift, moving mean and variance, each [channels], of a batch norm.
        batches: int for every `num_batches_tracked`.

    Returns:
        {name: array}; convolutions are [out, in, height, width].
    """
    tensors = {}
    for layer_name, weights in layers.items():
        module = module_name(layer_name)
        if len(weights) == len(_CONV):
            tensors[f"{module}.weight"] = np.ascontiguousarray(weights[0].transpose(3, 2, 0, 1))
        else:
            named = zip(_BATCH_NORM, weights)
            tensors.update({f"{module}.{name}": weight for name, weight in named})
            tensors[f"{module}.{BATCHES}"] = np.array(batches, "int64")
    return tensors


def backbone_to_keras(tensors, shapes, network):
    """A PyTorch state dict of a ResNet -> Keras weights.

    Args:
        tensors: {name: array}, as `backbone_to_torch` returns; it need not have
            `num_batches_tracked`.
        shapes: {layer name: shapes of its `get_weights()`} of the network that is wanted.
        network: its name, for the errors.

    Returns:
        {layer name: weights, float32}.

    Raises:
        InputError: if tensors are missing or left over, or have another shape.
    """
    wanted = {}  # {tensor name: (its layer, shape in PyTorch's order)}
    for layer_name, layer_shapes in shapes.items():
        is_conv = len(layer_shapes) == len(_CONV)
        for name, shape in zip(_CONV if is_conv else _BATCH_NORM, layer_shapes):
            if is_conv:
                shape = (shape[3], shape[2], shape[0], shape[1])
            wanted[f"{module_name(layer_name)}.{name}"] = (layer_name, tuple(shape))
    _check_names(tensors, wanted, network)
    layers = {layer_name: [] for layer_name in shapes}
    for name, (layer_name, shape) in wanted.items():
        if tensors[name].shape != shape:
            raise InputError(
                f"{name} is {list(tensors[name].shape)} where a {network} has {list(shape)}: "
                "ResNets with grouped or widened inner convolutions are not supported."
            )
        weight = tensors[name].astype("float32")
        layers[layer_name].append(weight.transpose(2, 3, 1, 0) if len(shape) == 4 else weight)
    return layers


def head_to_torch(weights, prefix="fc."):
    """Kernels and biases of a projection head -> `fc.weight`, or `fc.0.weight`, `fc.2.weight`.

    Args:
        weights: [kernel, bias] of each dense layer after the other, kernels [in, out].
        prefix: of the names.
    """
    tensors = {}
    for i in range(0, len(weights), len(_DENSE)):
        # The odd places of PyTorch's nn.Sequential are ReLUs.
        place = f"{i}." if len(weights) > len(_DENSE) else ""
        kernel, bias = weights[i : i + len(_DENSE)]
        tensors[f"{prefix}{place}weight"] = np.ascontiguousarray(kernel.T)
        tensors[f"{prefix}{place}bias"] = bias
    return tensors


def head_to_keras(linear_layers):
    """(weight [out, in], bias [out]) of each linear layer -> kernels and biases, float32."""
    return [array.astype("float32") for weight, bias in linear_layers for array in (weight.T, bias)]


def _check_names(tensors, wanted, network):
    missing = [name for name in wanted if name not in tensors]
    if missing:
        raise InputError(
            f"The checkpoint lacks {len(missing)} of the {len(wanted)} tensors of a {network}, "
            f"{', '.join(missing)}: take the whole checkpoint of the network."
        )
    more = [name for name in tensors if name not in wanted and not name.endswith(BATCHES)]
    if more:
        raise InputError(
            f"The checkpoint has {len(more)} tensors that a {network} has not, such as "
            f"{more[0]}: it is of a variant (ResNet-D, SE-ResNet, ..) that is not supported."
        )
