"""What a backbone is, and the check that a network is one, before the first step of a run.

A backbone is a functional Keras model from normalised images, [batch, height, width, 3], to
{stage: map}, maps of [batch, h, w, channels], where

* stages are named out of `STAGES`, from the finest maps to the coarsest; not all of them need
  exist. The last one gives the features, the levels of a `MultiLevelEncoder` are some of them.
* images may have any size from 32 px up: its input is [None, None, 3].
* batch norm is `SplitBatchNormalization`, so that no statistics of a batch tell which key belongs
  to which query; `grouping.group_batch_norm` makes it so. Layer norm and group norm see one
  image at a time and are left alone.
* its layers can be made again from their config, since an export copies them.

`resnet.make_resnet` and `applications.make_application` make some; docs/using_own_network.md
shows one of a user's own.
"""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from csml_tf.errors import InputError, first_line
from csml_tf.models import heads, layer_copies
from csml_tf.models.split_batch_norm import SplitBatchNormalization

STAGES = ("stage1", "stage2", "stage3", "stage4")
MIN_IMAGE_SIZE = 32


def stages(backbone: tf.keras.Model) -> tuple:
    """Names of the stages that a backbone has, from the finest to the coarsest."""
    return tuple(stage for stage in STAGES if stage in backbone.output)


def last_stage(backbone: tf.keras.Model) -> str:
    """The stage that gives the features."""
    return stages(backbone)[-1]


def check(encoder, unit_vectors: bool = True) -> None:
    """Finds out before the first step what would fail or go wrong in silence later.

    The layers are copied as an export copies them, for images of 32 px, which changes neither
    the encoder nor any random number to come.

    Args:
        encoder: `MultiLevelEncoder`.
        unit_vectors: whether what the heads make has to have unit length.

    Raises:
        InputError: if the backbone is none in the sense above, or a head cannot be exported or
            makes no unit vectors where it has to.
    """
    backbone = encoder.backbone
    check_maps(backbone, encoder.levels)
    _check_batch_norm(backbone)
    if backbone.input_shape != (None, None, None, 3):
        raise InputError(
            f"The backbone takes images of {list(backbone.input_shape[1:])} only, and an encoder "
            "takes any size: give it tf.keras.Input([None, None, 3])."
        )
    _check_strides(backbone)
    for stage, head in encoder.heads.items():
        _check_head(stage, head, backbone.output[stage].shape[-1], unit_vectors)


def check_maps(backbone: tf.keras.Model, levels: Iterable[str] = ()) -> None:
    """The part of `check` that asks whether there are maps, of the right names.

    Args:
        backbone: what a `make_backbone` returned.
        levels: names of stages that it must have.

    Raises:
        InputError: if it has not.
    """
    if not isinstance(backbone, layer_copies.Functional) or not isinstance(backbone.output, dict):
        raise InputError(
            f"The backbone is a {type(backbone).__name__} and no functional model of named maps: "
            'return tf.keras.Model(images, {"stage1": maps, ..., "stage4": maps}).'
        )
    unknown = sorted(set(backbone.output) - set(STAGES))
    if unknown or not backbone.output:
        raise InputError(
            f"The backbone names its maps {sorted(backbone.output)}: call them by names out of "
            f"{', '.join(STAGES)}."
        )
    for stage in stages(backbone):
        shape = backbone.output[stage].shape
        if shape.rank != 4 or shape[-1] is None:
            raise InputError(
                f"The backbone's {stage} is {shape} and no map of [batch, height, width, "
                "channels]: take the output of a layer before the pooling."
            )
    if len({id(maps) for maps in backbone.output.values()}) < len(backbone.output):
        raise InputError(
            f"The backbone gives one map to several of {', '.join(stages(backbone))}: name every "
            "map once."
        )
    missing = [level for level in levels if level not in backbone.output]
    if missing:
        raise InputError(
            f"The backbone has no {', '.join(missing)}, which head_dims name as levels: choose "
            f"levels out of {', '.join(stages(backbone))}."
        )


def _check_batch_norm(backbone):
    groups = set()
    for layer in backbone.submodules:
        if isinstance(layer, SplitBatchNormalization):
            groups.add(layer.num_groups)
            if list(layer.axis) not in ([3], [-1]):
                raise InputError(
                    f"The batch norm {layer.name} normalises axis {list(layer.axis)}, and can be "
                    "split into groups only along the channels of maps, axis 3: build the "
                    "network with channels last."
                )
        elif _is_batch_norm(layer) and layer.trainable:
            raise InputError(
                f"The batch norm {layer.name} ({type(layer).__name__}) cannot be split into "
                "groups, so its statistics could tell which key belongs to which query: pass "
                "the network through grouping.group_batch_norm(network, num_groups)."
            )
    if len(groups) > 1:
        raise InputError(
            f"The backbone's batch norms have {sorted(groups)} groups: give all the same number."
        )


def _is_batch_norm(layer):
    """Also SyncBatchNormalization and those of other packages."""
    return isinstance(layer, tf.keras.layers.Layer) and any(
        "batchnorm" in kind.__name__.lower() for kind in type(layer).__mro__
    )


def _check_strides(backbone):
    size = MIN_IMAGE_SIZE
    images = tf.keras.Input([size, size, 3])
    try:
        maps = layer_copies.rebuild(
            backbone.output, {id(backbone.input): images}, _blank_copy, with_weights=False
        )
    except (ValueError, TypeError, NotImplementedError, tf.errors.OpError) as error:
        raise InputError(
            f"The backbone cannot be copied for an export, for images of {size} px "
            f"({first_line(error)}): give its layers a get_config, and let it take any size from "
            f"{size} px up."
        ) from error
    strides = {stage: size / maps[stage].shape[1] for stage in stages(backbone)}
    falls = [b for a, b in zip(strides, list(strides)[1:]) if strides[b] < strides[a]]
    if falls:
        text = ", ".join(f"{stage} {stride:g}" for stage, stride in strides.items())
        raise InputError(
            f"The strides of the backbone's maps fall at {falls[0]} ({text}): name the maps from "
            "the finest to the coarsest."
        )


def _blank_copy(layer):
    """As in an export, but without drawing weights: a check must not change those to come."""
    names = [name for name in layer.get_config() if name.endswith("_initializer")]
    return layer_copies.stock_layer(layer, **dict.fromkeys(names, "zeros"))


def _check_head(stage, head, channels, unit_vectors):
    lengths = np.linalg.norm(head(tf.ones([1, channels])), axis=1)
    if unit_vectors and not np.allclose(lengths, 1.0, atol=1e-3):
        raise InputError(
            f"The head of {stage} makes vectors of length {lengths[0]:.3g} and not 1: end it with "
            "tf.keras.layers.UnitNormalization()."
        )
    try:
        heads.export_model(head, channels, _blank_copy, with_weights=False)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"The head of {stage} cannot be copied for an export ({first_line(error)}): make it a "
            "functional Keras model, or give it a get_config."
        ) from error
