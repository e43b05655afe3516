"""Begins a pretraining run with the weights of an exported encoder."""

from absl import logging

from csml_tf.errors import InputError
from csml_tf.export import saved_model
from csml_tf.zoo import registry
from csml_tf.zoo.training_state import TrainingState


def load(directory, model):
    """Copies weights into a new model: all of the backbone, and what else there is and fits.

    The projection head, the key encoder and the queue are those of the last level. Without a key
    encoder the query encoder is copied, as in any new run. What else is missing or has another
    shape stays random; the log says so.

    Args:
        directory: of a SavedModel by `saved_model.export`.
        model: `CsMl`, new.

    Raises:
        InputError: if there is no such encoder, or its network is not that of `model`.
    """
    loaded = registry.load_model(directory)
    state = TrainingState.unpack(saved_model.read_training_state(directory))
    level = model.query_encoder.levels[-1]
    query, key = model.query_encoder, model.key_encoder.encoder
    queue = model.queues[level]

    layers = {layer.name: layer.get_weights() for layer in loaded.layers}
    _set_backbone(query.backbone, layers, directory)
    head = getattr(loaded, "projection_head", None)
    has_head = head is not None and _set_if_fitting(query.heads[level], head.get_weights())
    key.set_weights(query.get_weights())
    has_key = bool(state.key_layers)
    if has_key:
        _set_backbone(key.backbone, state.key_layers, directory)
        if has_head:
            _set_if_fitting(key.heads[level], state.key_head)
    # Keys of another head would mean nothing to this one.
    has_queue = has_head and state.queue is not None and state.queue.shape == queue.keys.shape
    if has_queue:
        queue.keys.assign(state.queue)
        queue.cursor.assign(state.cursor)

    parts = {
        "backbone": True,
        f"head of {level}": has_head,
        "key encoder": has_key,
        f"queue of {level}": has_queue,
    }
    for other in model.query_encoder.levels[:-1]:
        parts.update({f"head of {other}": False, f"queue of {other}": False})
    new = [name for name, is_taken in parts.items() if not is_taken]
    logging.info(
        "Beginning with the weights in %s: %s%s.",
        directory,
        ", ".join(name for name, is_taken in parts.items() if is_taken),
        f"; as in a new run: {', '.join(new)}" if new else "",
    )


def _set_backbone(backbone, layers, directory):
    """Sets every layer that has weights, by its name."""
    for layer in backbone.layers:
        if layer.weights and not _set_if_fitting(layer, layers.get(layer.name, ())):
            raise InputError(
                f"The encoder in {directory} is another network than the recipe's (they differ "
                f"in {layer.name}): set BACKBONE, DEPTH, WIDTH and make_resnet.stem as its card "
                "says."
            )


def _set_if_fitting(layer, weights):
    """Sets a layer's weights if the shapes are its own; returns whether."""
    if [tuple(w.shape) for w in layer.weights] != [w.shape for w in weights]:
        return False
    layer.set_weights(weights)
    return True
