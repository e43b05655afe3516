"""ResNet-18 to ResNet-152, as PyTorch computes them, with the maps of every stage as outputs.

The v1.5 form (in a bottleneck the 3x3 convolution has the stride), padding that
is symmetric even where the stride is 2, and batch norm with PyTorch's constants,
so that weights can cross between the frameworks without a change of output.
"""

import tensorflow as tf

from csml_tf import choices
from csml_tf.models.backbones.contract import STAGES
from csml_tf.models.split_batch_norm import SplitBatchNormalization

STEMS = choices.STEMS

# Blocks per stage, and whether a block is a bottleneck: arXiv:1512.03385, table 1.
PLANS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
_MAX_BLOCKS = max(max(blocks) for blocks, _ in PLANS.values())
_BOTTLENECK_EXPANSION = 4


def make_resnet(depth=50, width=64, stem="imagenet", bn_groups=1):
    """A ResNet without a classifier, as a functional Keras model.

    Args:
        depth: 18, 34, 50, 101 or 152.
        width: channels of the stem, 64 in the paper; every stage scales with it.
        stem: "imagenet" (7x7 convolution of stride 2, then max pooling of stride 2:
            the stages have strides 4, 8, 16, 32) or "cifar" (one 3x3 convolution:
            strides 1, 2, 4, 8).
        bn_groups: in training, batch norm normalises this many equal groups of the global
            batch each by its own statistics, see `SplitBatchNormalization`; 1 is ordinary
            BN, synchronised where there are several replicas.

    Returns:
        A `tf.keras.Model`: [batch, height, width, 3] float, normalised images of
        any size from 32 px up, -> {"stage1": .., "stage4": [batch, h, w, channels]}.

    Raises:
        ValueError: if an argument is outside the above.
    """
    if depth not in PLANS:
        raise ValueError(f"depth must be one of {sorted(PLANS)}, got {depth}.")
    if stem not in STEMS:
        raise ValueError(f"stem must be one of {STEMS}, got {stem!r}.")
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}.")
    if bn_groups < 1:
        raise ValueError(f"bn_groups must be at least 1, got {bn_groups}.")
    blocks_per_stage, bottleneck = PLANS[depth]
    block = _bottleneck_block if bottleneck else _basic_block

    images = tf.keras.Input([None, None, 3], name="images")
    if stem == "imagenet":
        x = _conv_bn_relu(images, width, 7, 2, bn_groups, "stem")
        # Zeros serve as well as PyTorch's minus infinity: after a ReLU nothing is below.
        x = tf.keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        x = tf.keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    else:
        x = _conv_bn_relu(images, width, 3, 1, bn_groups, "stem")

    stages = {}
    for stage_index, (stage, num_blocks) in enumerate(zip(STAGES, blocks_per_stage)):
        for block_index in range(num_blocks):
            stride = 2 if stage_index > 0 and block_index == 0 else 1
            name = f"{stage}_block{block_index + 1}"
            x = block(x, width * 2**stage_index, stride, bn_groups, name)
        stages[stage] = x
    return tf.keras.Model(images, stages, name=f"resnet{depth}")


def recognize(shapes):
    """The arguments of `make_resnet` that a network was made with, by its weights.

    The stride of a convolution and a pooling leave no trace in the weights: a first kernel of
    7 pixels stands for the ImageNet stem, one of 3 for the CIFAR stem.

    Args:
        shapes: {layer name: list of the shapes of its weights}.

    Returns:
        {"depth", "width", "stem"}; None where it is another network.

    Example:
        >>> network = make_resnet(34, 8, "cifar")
        >>> recognize({layer.name: [w.shape for w in layer.weights] for layer in network.layers})
        {'depth': 34, 'width': 8, 'stem': 'cifar'}
    """
    bottleneck = f"{STAGES[0]}_block1_conv3" in shapes
    blocks = tuple(
        sum(f"{stage}_block{number}_conv1" in shapes for number in range(1, _MAX_BLOCKS + 1))
        for stage in STAGES
    )
    depths = [depth for depth, plan in PLANS.items() if plan == (blocks, bottleneck)]
    kernel = tuple(shapes["stem"][0]) if shapes.get("stem") else ()
    if not depths or len(kernel) != 4 or kernel[0] not in (3, 7):
        return None
    return {
        "depth": depths[0],
        "width": kernel[-1],
        "stem": "imagenet" if kernel[0] == 7 else "cifar",
    }


def _basic_block(x, width, stride, bn_groups, name):
    shortcut = _shortcut(x, width, stride, bn_groups, name)
    y = _conv_bn_relu(x, width, 3, stride, bn_groups, f"{name}_conv1")
    y = _conv_bn(y, width, 3, 1, bn_groups, f"{name}_conv2")
    return _add_relu(y, shortcut, name)


def _bottleneck_block(x, width, stride, bn_groups, name):
    channels = width * _BOTTLENECK_EXPANSION
    shortcut = _shortcut(x, channels, stride, bn_groups, name)
    y = _conv_bn_relu(x, width, 1, 1, bn_groups, f"{name}_conv1")
    y = _conv_bn_relu(y, width, 3, stride, bn_groups, f"{name}_conv2")
    y = _conv_bn(y, channels, 1, 1, bn_groups, f"{name}_conv3")
    return _add_relu(y, shortcut, name)


def _shortcut(x, channels, stride, bn_groups, name):
    if stride == 1 and x.shape[-1] == channels:
        return x
    return _conv_bn(x, channels, 1, stride, bn_groups, f"{name}_shortcut")


def _add_relu(y, shortcut, name):
    y = tf.keras.layers.Add(name=f"{name}_add")([y, shortcut])
    return tf.keras.layers.ReLU(name=f"{name}_relu")(y)


def _conv_bn_relu(x, channels, kernel_size, stride, bn_groups, name):
    x = _conv_bn(x, channels, kernel_size, stride, bn_groups, name)
    return tf.keras.layers.ReLU(name=f"{name}_relu")(x)


def _conv_bn(x, channels, kernel_size, stride, bn_groups, name):
    padding = "same"
    if stride > 1 and kernel_size > 1:
        # "same" would pad the right and lower side only, by an amount that depends on the size.
        x = tf.keras.layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    elif stride > 1:
        # The same numbers as a 1x1 convolution of this stride, whose gradient overwrites
        # foreign memory where channels are few (oneDNN of TensorFlow 2.15, CPU).
        x = tf.keras.layers.AveragePooling2D(1, stride, name=f"{name}_subsample")(x)
        stride = 1
    x = tf.keras.layers.Conv2D(
        channels,
        kernel_size,
        stride,
        padding,
        use_bias=False,
        # PyTorch's kaiming_normal_(mode="fan_out", nonlinearity="relu").
        kernel_initializer=tf.keras.initializers.VarianceScaling(
            2.0, mode="fan_out", distribution="untruncated_normal"
        ),
        name=name,
    )(x)
    constants = {"momentum": 0.9, "epsilon": 1e-5, "name": f"{name}_bn"}
    return SplitBatchNormalization(bn_groups, **constants)(x)
