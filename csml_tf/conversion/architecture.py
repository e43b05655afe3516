"""Which network a checkpoint is of, by the names and shapes of its tensors."""

import dataclasses
import re

from csml_tf import choices
from csml_tf.errors import InputError
from csml_tf.models.backbones import resnet

# A tensor that only networks of this kind have, in the layouts of torchvision and timm.
_OTHERS = {
    "a Swin Transformer": r"relative_position_bias_table$",
    "an XCiT": r"cls_attn_blocks\.|\.local_mp\.",
    "a ConvNeXt": r"\.(dwconv|conv_dw)\.weight$|\.layer_scale$",
    "a Vision Transformer": r"(^|\.)(cls_token|class_token|pos_embed)$|(^|\.)patch_embed\.|\.qkv\.",
    "a DenseNet": r"denseblock\d",
    "an EfficientNet or a MobileNet": r"(^|\.)conv_stem\.|features\.\d+\.\d+\.block\.|\.conv_pw\.",
    "a VGG or an AlexNet": r"(^|\.)features\.0\.weight$",
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The arguments of `resnet.make_resnet` that its weights tell.

    Attributes:
        depth: as there.
        width: as there.
        stem: as there.
    """

    depth: int
    width: int
    stem: str

    @property
    def name(self):
        """As torchvision calls it, of whatever width."""
        return f"resnet{self.depth}"

    def __str__(self):
        width = "" if self.width == 64 else f" of width {self.width}"
        stem = " with the CIFAR stem" if self.stem == "cifar" else ""
        return f"ResNet-{self.depth}{width}{stem}"


def recognize(tensors, name=None):
    """The ResNet that a state dict belongs to.

    The stride of a convolution and a pooling leave no trace in the weights: a first kernel of
    7 pixels stands for the ImageNet stem, one of 3 for the CIFAR stem.

    Args:
        tensors: {torchvision's name: array}.
        name: what it has to be, one of `choices.RESNETS`; None for any of them.

    Raises:
        InputError: if it is another network, or is none of `choices.RESNETS`.
    """
    blocks = tuple(
        1 + max((int(m[1]) for m in _matches(rf"layer{n}\.(\d+)\.", tensors)), default=-1)
        for n in (1, 2, 3, 4)
    )
    bottleneck = any(_matches(r"layer\d\.\d+\.conv3\.weight", tensors))
    depths = [depth for depth, plan in resnet.PLANS.items() if plan == (blocks, bottleneck)]
    found = f"resnet{depths[0]}" if depths else None
    if found is None and name is None:
        raise InputError(
            f"The checkpoint is of a network with {', '.join(map(str, blocks))} "
            f"{'bottleneck' if bottleneck else 'basic'} blocks in its stages, which is none of "
            f"{', '.join(choices.RESNETS)}: only these can be converted."
        )
    if found and name and found != name:
        raise InputError(f"The checkpoint is of a {found} and not of a {name}: mend --arch.")
    kernel = tensors.get("conv1.weight")
    if kernel is None or kernel.ndim != 4 or kernel.shape[2:] not in ((7, 7), (3, 3)):
        what = "missing" if kernel is None else f"{list(kernel.shape)}"
        raise InputError(
            f"The first convolution, conv1.weight, is {what}: a ResNet with the ImageNet stem "
            "has 7x7 pixels there, with the CIFAR stem 3x3, and variants are not supported."
        )
    depth = int((found or name)[len("resnet") :])
    stem = "imagenet" if kernel.shape[2] == 7 else "cifar"
    return Architecture(depth, int(kernel.shape[0]), stem)


def describe_other(names):
    """What kind of network has tensors of these names, with its article; or None."""
    for kind, pattern in _OTHERS.items():
        if any(re.search(pattern, name) for name in names):
            return kind
    return None


def _matches(pattern, names):
    return filter(None, (re.match(pattern, name) for name in names))
