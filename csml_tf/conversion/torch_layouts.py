"""How the public PyTorch codes name their checkpoints: a table, and what is found by it.

A name is the path through the file's dictionaries, such as `teacher.module.backbone.fc.weight`,
in the spelling of `torch_names`.
"""

import dataclasses

import numpy as np

from csml_tf.conversion import architecture, torch_heads, torch_names
from csml_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a code keeps its networks.

    Attributes:
        name: for people.
        encoder: what stands before torchvision's names. Something may stand before that, such
            as the `state_dict.` of the file, and stands before the other prefixes, too.
        key_encoder: the same for the momentum encoder, where training goes on with it.
        heads: prefixes of what may be the projection head.
        key_heads: the same of the momentum encoder.
        markers: prefixes that have to occur, which tell layouts with one encoder apart.
        classifier: whether one linear layer after the encoder is a classifier, and no head.
    """

    name: str
    encoder: str
    key_encoder: str = None
    heads: tuple = ()
    key_heads: tuple = ()
    markers: tuple = ()
    classifier: bool = False


# The first that fits counts.
LAYOUTS = (
    Layout(
        "MoCo's CIFAR-10 demo",
        "encoder_q.net.",
        "encoder_k.net.",
        ("encoder_q.net.fc.",),
        ("encoder_k.net.fc.",),
    ),
    Layout(
        "MoCo of mmselfsup and OpenSelfSup",
        "encoder_q.0.",
        "encoder_k.0.",
        ("encoder_q.1.mlp.",),
        ("encoder_k.1.mlp.",),
    ),
    Layout(
        "MoCo v1 and v2, CsMl's authors",
        "encoder_q.",
        "encoder_k.",
        ("encoder_q.fc.",),
        ("encoder_k.fc.",),
    ),
    Layout(
        "MoCo v3",
        "base_encoder.",
        "momentum_encoder.",
        ("base_encoder.fc.",),
        ("momentum_encoder.fc.",),
    ),
    Layout("DINO", "teacher.backbone.", heads=("teacher.head.",)),
    Layout(
        "PyTorch-BYOL",
        "online_network_state_dict.encoder.",
        "target_network_state_dict.encoder.",
        ("online_network_state_dict.projetion.",),  # Its authors' spelling.
        ("target_network_state_dict.projetion.",),
    ),
    Layout(
        "BYOL of Lightning Bolts",
        "online_network.encoder.",
        "target_network.encoder.",
        ("online_network.projector.",),
        ("target_network.projector.",),
    ),
    Layout("byol-pytorch", "online_encoder.net.", "target_encoder.net."),
    Layout("SimSiam", "encoder.", heads=("encoder.fc.",), markers=("predictor.",)),
    Layout("a ResNet named encoder", "encoder.", heads=("encoder.fc.", "head."), classifier=True),
    Layout(
        "Barlow Twins",
        "backbone.",
        heads=("projector.",),
        markers=("projector.", "bn.running_mean"),
    ),
    Layout("VICReg or alike", "backbone.", heads=("projector.",), markers=("projector.",)),
    Layout(
        "lightly",
        "backbone.",
        "backbone_momentum.",
        ("projection_head.",),
        ("projection_head_momentum.",),
        ("projection_head.",),
    ),
    Layout("a ResNet named backbone", "backbone.", heads=("backbone.fc.",), classifier=True),
    Layout("SwAV", "", heads=("projection_head.",), markers=("projection_head.",)),
    Layout("torchvision, timm", "", heads=("fc.",), classifier=True),
)


# Batch norms for further views of an image, in timm; the network is run without them.
_AUXILIARY = ".aux_bn."


@dataclasses.dataclass
class Found:
    """The parts of a checkpoint that we have a use for.

    Attributes:
        layout: name of its layout.
        backbone: {torchvision's name: array}.
        key_backbone: the same of the momentum encoder, or None.
        head: (weight [out, in], bias [out]) of each linear layer of the projection head, with
            ReLUs between them; None without one that fits ours.
        key_head: the same of the momentum encoder.
        head_fault: why there is no head.
        queue: [keys, dim] negatives, with `head` only; else None.
        cursor: int, the row of the queue that is next.
        unused: full names of all tensors that are in none of these, in their order.
    """

    layout: str
    backbone: dict
    key_backbone: dict
    head: list
    key_head: list
    head_fault: str
    queue: np.ndarray
    cursor: int
    unused: list


def find(tensors, take_head=None, prefix=None):
    """Recognises a checkpoint's layout and takes it apart.

    Args:
        tensors: {name: array}, all of the file.
        take_head: False leaves the head; True takes one linear layer after the encoder for a
            head even where the layout lets it be a classifier, and wants a head.
        prefix: of the canonical names that count, with or without a dot at its end; None for
            all. Of a ResNet inside of another one, the outer one's own names, "" for example.

    Returns:
        `Found`; neither depth nor shapes of the backbones have been looked at.

    Raises:
        InputError: if there is no ResNet, or several that no layout tells apart, or no head
            where `take_head` wants one.
    """
    canonical, roots = torch_names.canonical_names(tensors)
    by_name = {canonical[name]: array for name, array in tensors.items()}
    if len(by_name) < len(tensors):
        raise InputError(
            "The checkpoint has tensors whose names differ in a wrapper such as module. alone: "
            "save the state_dict of the network that is wanted."
        )
    if prefix is not None:
        by_name, roots = _choose_copy(by_name, roots, prefix)
    layout, outer = _choose(by_name, roots)
    parts = _Parts(by_name)

    backbone = parts.take_backbone(outer + layout.encoder)
    feature_dim = _feature_dim(backbone)
    head = head_fault = None
    if take_head is False:
        head_fault = "it was not wanted"
    else:
        fits = not layout.classifier or bool(take_head)
        head, head_fault = parts.take_head(outer, layout.heads, feature_dim, fits)
    if take_head and head is None:
        raise InputError(f"No projection head can be taken, {head_fault}: leave --head out.")

    key_backbone = key_head = None
    if layout.key_encoder is not None:
        key_backbone = parts.take_backbone(outer + layout.key_encoder) or None
        if head and key_backbone:
            key_head, _ = parts.take_head(outer, layout.key_heads, feature_dim, True)
    queue, cursor = parts.take_queue(outer, head) if head else (None, 0)
    name = layout.name + (f" under {outer!r}" if outer and not layout.encoder else "")
    return Found(
        *(name, backbone, key_backbone, head, key_head, head_fault, queue, cursor),
        unused=[name for name in tensors if canonical[name] not in parts.taken],
    )


def _choose(by_name, roots):
    """-> (layout, what stands before its prefixes)."""
    for layout in LAYOUTS:
        outers = [root[: len(root) - len(layout.encoder)] for root in roots]
        fitting = [
            outer
            for outer, root in zip(outers, roots)
            if root == outer + layout.encoder
            and (not outer or outer.endswith("."))
            and (layout.encoder or len(roots) == 1)
            and all(_under(by_name, outer + marker) for marker in layout.markers)
        ]
        if len(fitting) > 1:
            raise _several([outer + layout.encoder for outer in fitting])
        if fitting:
            return layout, fitting[0]
    if roots:
        raise _several(roots)
    kind = architecture.describe_other(by_name)
    if kind:
        raise InputError(f"The checkpoint is of {kind}: only ResNets can be converted.")
    some = ", ".join(list(by_name)[:3])
    raise InputError(
        f"The checkpoint holds {len(by_name)} tensors ({some}, ..) and no ResNet in a layout "
        "that is known: docs/conversion.md lists them."
    )


def _choose_copy(by_name, roots, prefix):
    """-> the two without what is not under the prefix."""
    start = prefix if prefix.endswith(".") or not prefix else f"{prefix}."
    chosen = [root for root in roots if root.startswith(start)]
    if not chosen:
        known = ", ".join(repr(root) for root in roots) or "none"
        raise InputError(
            f"There is no ResNet under --prefix={prefix}: the checkpoint has {known}; give one of "
            "these, or how it begins."
        )
    others = ()
    if start in chosen:  # Exactly this one, and none of those inside of it.
        others = tuple(root for root in chosen if root != start)
        chosen = [start]
    return {
        name: array
        for name, array in by_name.items()
        if name.startswith(start) and not name.startswith(others)
    }, chosen


def _several(roots):
    return InputError(
        f"The checkpoint has several ResNets, under {', '.join(map(repr, roots))}: say which one "
        f"is wanted, --prefix={roots[-1].rstrip('.') or repr('')} for example."
    )


class _Parts:
    """A checkpoint that is taken apart.

    Args:
        by_name: {canonical name: array}.

    Attributes:
        taken: set of the names that have been taken.
    """

    def __init__(self, by_name):
        self._by_name = by_name
        self.taken = set()

    def take_backbone(self, prefix):
        """{torchvision's name: array} of the layers that a ResNet has before its classifier."""
        tensors = {
            name: array
            for name, array in _under(self._by_name, prefix).items()
            if name.startswith(("conv1.", "bn1.", "layer")) and _AUXILIARY not in name
        }
        self.taken.update(prefix + name for name in tensors)
        return tensors

    def take_head(self, outer, prefixes, feature_dim, linear_fits):
        """As `torch_heads.read_head`, of the first of `prefixes` that occurs."""
        prefixes = [outer + prefix for prefix in prefixes]
        prefix = next((p for p in prefixes if _under(self._by_name, p)), None)
        tensors = _under(self._by_name, prefix) if prefix else {}
        head, fault = torch_heads.read_head(tensors, feature_dim)
        if head and len(head) == 1 and not linear_fits:
            return None, "its one linear layer may be a classifier; --head takes it all the same"
        if head:
            self.taken.update(prefix + name for name in tensors)
        return head, fault

    def take_queue(self, outer, head):
        """MoCo's queue [dim, keys] -> ([keys, dim], the row that is next); (None, 0) without."""
        queue = self._by_name.get(f"{outer}queue")
        dim = len(head[-1][1])
        if queue is None or queue.ndim != 2 or queue.shape[0] != dim or queue.size == 0:
            return None, 0
        self.taken.update((f"{outer}queue", f"{outer}queue_ptr"))
        cursor = self._by_name.get(f"{outer}queue_ptr")
        cursor = int(cursor.ravel()[0]) if cursor is not None and cursor.size else 0
        return queue.T.astype("float32"), cursor % queue.shape[1]


def _under(by_name, prefix):
    """{name without the prefix: array} of the tensors whose names begin with it."""
    size = len(prefix)
    return {name[size:]: array for name, array in by_name.items() if name.startswith(prefix)}


def _feature_dim(backbone):
    """Channels of the last stage."""
    scales = [
        array.shape[0]
        for name, array in backbone.items()
        if name.startswith("layer4.") and name.endswith(".weight") and array.ndim == 1
    ]
    return max(scales, default=0)
