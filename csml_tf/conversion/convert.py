"""Encoders from PyTorch and back: files in, files out."""

import dataclasses
import pathlib

import tensorflow as tf
from absl import logging

from csml_tf import errors, places, whole_files
from csml_tf.conversion import (
    architecture,
    detectron2_file,
    exported_resnet,
    torch_layouts,
    torch_weights,
    weight_files,
)
from csml_tf.errors import InputError
from csml_tf.export import saved_model
from csml_tf.models import heads
from csml_tf.models.backbones import contract
from csml_tf.zoo import registry
from csml_tf.zoo.training_state import TrainingState

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_NUM_NAMES = 3  # Of tensors that are left out, in the last line; the log has them all.
_LEVEL = contract.STAGES[-1]  # The one that a foreign encoder has a head on.


def convert(
    output,
    checkpoint=None,
    model=None,
    arch=None,
    to=None,
    head=None,
    mean=None,
    std=None,
    prefix=None,
    trust_model=False,
):
    """Makes a SavedModel of a PyTorch checkpoint, or a file for PyTorch of a SavedModel.

    Args:
        output: folder of the SavedModel, or the file.
        checkpoint: file to read; or
        model: run directory or SavedModel folder to read.
        arch: one of `choices.RESNETS`, which `checkpoint` has to be; None for any.
        to: one of `choices.FRAMEWORKS`, what to make of `model`.
        head: whether the projection head comes along. None: from PyTorch, if there is one
            that fits; to PyTorch, no.
        mean: three numbers as text, of each channel of values in [0, 1], that the images of
            `checkpoint` were normalised by; None for ImageNet's.
        std: the same.
        prefix: of the names in `checkpoint` that count, where it has several copies of the
            weights: "state_dict_ema"; None for all names.
        trust_model: as for `registry.find_saved_model`.

    Returns:
        One line about the result.

    Raises:
        InputError: if something is amiss; then nothing has been written.
    """
    if bool(checkpoint) == bool(model):
        raise InputError("Give either --checkpoint, from PyTorch, or --model, to PyTorch.")
    if checkpoint:
        if to is not None:
            raise InputError("--to goes with --model; a --checkpoint becomes a SavedModel.")
        mean, std = _numbers("mean", mean, _IMAGENET_MEAN), _numbers("std", std, _IMAGENET_STD)
        return from_torch(checkpoint, output, arch, head, mean, std, prefix)
    if to is None or arch or mean or std or prefix:
        raise InputError("--model goes with --to=torch or --to=detectron2, --output and --head.")
    return to_torch(model, output, to, bool(head), trust_model)


def from_torch(checkpoint, output, arch, head, mean, std, prefix=None):
    """As `convert`, from PyTorch; `mean` and `std` are numbers."""
    places.check_local(checkpoint, "--checkpoint")
    output = places.at(output)
    if output.exists() and not (output / "saved_model.pb").is_file():
        raise InputError(f"{output} is there and no SavedModel: choose another --output.")
    if places.is_inside(checkpoint, output):
        raise InputError(f"{checkpoint} lies in {output}: choose another --output.")
    tensors = weight_files.read(checkpoint)
    found = torch_layouts.find(tensors, head, prefix)
    network = architecture.recognize(found.backbone, arch)
    backbone = exported_resnet.make_backbone(found.backbone, network)
    key_layers = {}
    if found.key_backbone:
        shapes = exported_resnet.shapes_of(backbone)
        key_layers = torch_weights.backbone_to_keras(found.key_backbone, shapes, str(network))
    key_head = torch_weights.head_to_keras(found.key_head or ())
    state = TrainingState(key_layers, key_head, found.queue, found.cursor)
    card = {
        "id": output.resolve().name,
        "source": pathlib.Path(checkpoint).name,
        "source_sha256": whole_files.sha256(checkpoint),
        "layout": found.layout,
        "arch": network.name,
        "width": network.width,
        "stem": network.stem,
        "image_size": 224 if network.stem == "imagenet" else 32,
        "feature_dim": backbone.output[_LEVEL].shape[-1],
        "head": _describe_head(found),
        "batches_tracked": _batches(found.backbone),
    }
    converted = _Encoder(backbone, {_LEVEL: _make_head(found.head)} if found.head else {})
    try:
        saved_model.export(converted, output, mean, std, card, state.pack())
    except (OSError, tf.errors.OpError) as error:
        raise InputError(
            f"{output} cannot be written ({errors.first_line(error)}): choose another --output."
        ) from error
    for name in found.unused:
        logging.info("not used: %s %s", name, list(tensors[name].shape))
    also = state.describe()
    return (
        f"{output}: {network} of the layout {found.layout}, {len(tensors) - len(found.unused)} of "
        f"{len(tensors)} tensors used; projection head: {card['head']}"
        + (f"; for training to go on: {also}" if also else "")
        + (f"; left out: {_shorten(found.unused)}" if found.unused else "")
    )


def to_torch(model, output, to, head, trust_model=False):
    """As `convert`, to PyTorch."""
    output = places.at(output)
    if output.is_dir():
        raise InputError(f"{output} is a folder: give --output the name of a file.")
    directory = registry.find_saved_model(model, trust_model)
    if places.is_inside(output, directory):
        raise InputError(f"{output} lies in the model itself: choose another --output.")
    loaded = saved_model.open_model(directory)
    batches = saved_model.read_card(directory).get("batches_tracked", 0)
    exported = exported_resnet.read(loaded, directory, batches)
    network, tensors = exported.network, exported.tensors
    if head:
        if not hasattr(loaded, "projection_head"):
            raise InputError(f"{directory} has no projection head: leave --head out.")
        if not _is_of_linear_layers(loaded.projection_head):
            raise InputError(
                f"The projection head in {directory} has more than linear layers with a ReLU "
                "between, such as batch norm: leave --head out."
            )
        tensors.update(torch_weights.head_to_torch(loaded.projection_head.get_weights()))
    mean, std = exported.mean, exported.std
    if to == "torch":
        weight_files.write(output, tensors)
        images = f"RGB in [0, 1] normalised by mean {mean} and std {std}"
    else:
        if network.stem != "imagenet":
            raise InputError("Detectron2's ResNets have the ImageNet stem, and this one has not.")
        if output.suffix != ".pkl":
            raise InputError(f"{output} should end in .pkl, as Detectron2 wants it.")
        detectron2_file.write(output, tensors)
        mean, std = ([round(255 * value, 3) for value in values] for values in (mean, std))
        images = f"INPUT.FORMAT RGB, MODEL.PIXEL_MEAN {mean}, MODEL.PIXEL_STD {std}"
    return f"{output}: {network}, {len(tensors)} tensors, for {images}"


@dataclasses.dataclass(frozen=True)
class _Encoder:
    """What `saved_model.export` wants of a `MultiLevelEncoder`, which has a head at least."""

    backbone: tf.keras.Model
    heads: dict

    @property
    def levels(self):
        return tuple(self.heads)


def _is_of_linear_layers(head):
    """Whether a loaded head is dense layers with ReLUs between, as MoCo's."""
    layers = [layer for layer in head.layers if layer.weights]
    if not all(isinstance(layer, tf.keras.layers.Dense) and layer.use_bias for layer in layers):
        return False
    names = [tf.keras.activations.serialize(layer.activation) for layer in layers]
    return names == ["relu"] * (len(layers) - 1) + ["linear"]


def _make_head(linear_layers):
    weights = torch_weights.head_to_keras(linear_layers)
    head = heads.ProjectionHead(len(weights[-1]), len(linear_layers) - 1, name=f"{_LEVEL}_head")
    head.build(tf.TensorShape([None, len(weights[0])]))
    head.set_weights(weights)
    return head


def _shorten(names):
    """The first of some names, and how many more there are."""
    more = len(names) - _NUM_NAMES
    return ", ".join(names[:_NUM_NAMES]) + (f" and {more} more" if more > 0 else "")


def _describe_head(found):
    if not found.head:
        return f"none, {found.head_fault}"
    widths = [found.head[0][0].shape[1], *(len(bias) for _, bias in found.head)]
    return "-".join(map(str, widths))


def _batches(backbone):
    """The `num_batches_tracked` that a backbone's batch norms agree on, or 0."""
    counts = {
        int(array) for name, array in backbone.items() if name.endswith(torch_weights.BATCHES)
    }
    return counts.pop() if len(counts) == 1 else 0


def _numbers(flag, text, default):
    if text is None:
        return default
    try:
        numbers = tuple(map(float, text))
    except ValueError:
        numbers = ()
    if len(numbers) != 3 or (flag == "std" and min(numbers) <= 0):
        raise InputError(f"--{flag} wants three numbers such as {','.join(map(str, default))}.")
    return numbers
