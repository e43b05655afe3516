"""Begins a pretraining run with the weights of an exported encoder."""

import hashlib
import pathlib

from absl import logging

from csml_tf import whole_files
from csml_tf.errors import InputError
from csml_tf.export import saved_model
from csml_tf.models import layer_weights
from csml_tf.models.backbones import catalog, resnet
from csml_tf.zoo.training_state import TrainingState


def fingerprint(directory):
    """Text that tells the weights of a SavedModel from others, wherever they lie."""
    state = hashlib.sha256()
    for path in sorted(pathlib.Path(directory, "variables").glob("*")):
        state.update(f"{path.name} {whole_files.sha256(path)}\n".encode())
    return state.hexdigest()[:16]


def describe(directory):
    """The knobs that a recipe needs for the network of a SavedModel: {name: value}.

    DEPTH, WIDTH and STEM of one of our ResNets; of another network BACKBONE, where its card
    says which; {} where nothing is known.

    Raises:
        InputError: if it cannot be read.
    """
    return _describe(saved_model.open_model(directory), directory)


def _describe(loaded, directory):
    shapes = {layer.name: [w.shape for w in layer.weights] for layer in loaded.layers}
    network = resnet.recognize(shapes)
    if network is not None:
        return {"BACKBONE": catalog.RESNET, **{name.upper(): network[name] for name in network}}
    backbone = saved_model.read_card(directory).get("recipe", {}).get("BACKBONE")
    return {"BACKBONE": backbone} if isinstance(backbone, str) else {}


def load(directory, model):
    """Copies weights into a new model: all of the backbone, and what else there is and fits.

    The projection head is that of the last level; the method takes what it knows of the rest,
    such as key encoder and queue. What is missing or has another shape stays as in any new run;
    the log says so.

    Args:
        directory: of a SavedModel by `saved_model.export`.
        model: `TrainingModel`, new.

    Raises:
        InputError: if there is no such encoder, or its network is not that of `model`.
    """
    loaded = saved_model.open_model(directory)
    state = TrainingState.unpack(saved_model.read_training_state(directory))
    encoder = model.encoder
    level = encoder.levels[-1]
    layers = {layer.name: layer.get_weights() for layer in loaded.layers}
    unfit = layer_weights.set_all(encoder.backbone, layers)
    if unfit is not None:
        raise InputError(
            f"The encoder in {directory} is another network than the recipe's (they differ "
            f"in {unfit}): set {_advise(_describe(loaded, directory))}."
        )
    head = getattr(loaded, "projection_head", None)
    has_head = head is not None and layer_weights.set_one(encoder.heads[level], head.get_weights())
    parts = {"backbone": True, f"head of {level}": has_head}
    parts.update(model.base.start_from(state, has_head))
    parts.update({f"head of {other}": False for other in encoder.levels[:-1]})
    new = [name for name, is_taken in parts.items() if not is_taken]
    logging.info(
        "Beginning with the weights in %s: %s%s.",
        directory,
        ", ".join(name for name, is_taken in parts.items() if is_taken),
        f"; as in a new run: {', '.join(new)}" if new else "",
    )


def _advise(network):
    """What a recipe has to set for a network, in words."""
    if not network:
        return "BACKBONE, DEPTH, WIDTH and make_resnet.stem as its card says"
    names = {"STEM": "make_resnet.stem"}  # A knob of few recipes.
    return ", ".join(f"{names.get(name, name)} = {value!r}" for name, value in network.items())
