"""The SavedModel that a run leaves: stock Keras layers, three signatures, a card."""

import json
import pathlib
import shutil

import numpy as np
import tensorflow as tf

from csml_tf.models import resnet
from csml_tf.models.split_batch_norm import SplitBatchNormalization
from csml_tf.quiet import quiet

# SavedModel's own place for files that are not part of the graph.
_CARD = pathlib.Path("assets.extra") / "csml_tf.json"
_TRAINING_STATE = pathlib.Path("assets.extra") / "training_state.npz"
_LAST_STAGE = resnet.STAGES[-1]


def make_export_models(encoder, mean, std):
    """Functional Keras models of stock layers, from plain RGB images to pooled features.

    They have no layer of this package, so `tf.keras.models.load_model` needs none.

    Args:
        encoder: trained `MultiLevelEncoder`, or what has its `backbone`, `heads` and `levels`,
            of which there may be none; its weights are copied.
        mean: of each channel, of values in [0, 1], as the encoder was trained with.
        std: of each channel.

    Returns:
        Two `tf.keras.Model`s that share their layers and take [batch, height, width, 3]
        float32 RGB in [0, 1]. The first returns [batch, feature_dim] float32; its
        attribute `projection_head` is a model from those features to the unit-length
        embedding of the last level, and missing where there is none. The second returns
        {"stage1".. "stage4": maps, "features": as the first}.
    """
    images = tf.keras.Input([None, None, 3], name="images")
    normalize = tf.keras.layers.Rescaling(
        [1.0 / s for s in std], [-m / s for m, s in zip(mean, std)], name="normalize"
    )
    stages = _copy_layers(encoder.backbone, normalize(images))
    features = tf.keras.layers.GlobalAveragePooling2D(name="features")(stages[_LAST_STAGE])
    model = tf.keras.Model(images, features, name="encoder")
    if encoder.levels:
        model.projection_head = _copy_head(encoder.heads[encoder.levels[-1]])
        # The features do not depend on it: fine-tuning would warn of missing gradients.
        model.projection_head.trainable = False
    return model, tf.keras.Model(images, {**stages, "features": features})


def export(encoder, directory, mean, std, card, training_state=None):
    """Writes a SavedModel with the signatures serving_default, embed and endpoints.

    Args:
        encoder: as for `make_export_models`; without a level there is no signature embed.
        directory: where to write; an older export there is replaced, once the new
            one is complete.
        mean: of each channel, of values in [0, 1].
        std: of each channel.
        card: dict of plain values, kept in the SavedModel; see `read_card`.
        training_state: {name: array} or None, kept there too; see `read_training_state`.
    """
    # The second is not an attribute of the first: a loaded model could not be saved again.
    model, endpoints_model = make_export_models(encoder, mean, std)
    spec = tf.TensorSpec([None, None, None, 3], tf.float32, name="images")

    @tf.function(autograph=False, input_signature=[spec])
    def serving_default(images):
        return {"features": model(images, training=False)}

    @tf.function(autograph=False, input_signature=[spec])
    def embed(images):
        return {"embedding": model.projection_head(model(images, training=False))}

    @tf.function(autograph=False, input_signature=[spec])
    def endpoints(images):
        return endpoints_model(images, training=False)

    directory = pathlib.Path(directory)
    temporary = directory.with_name(directory.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    signatures = {"serving_default": serving_default, "endpoints": endpoints}
    if encoder.levels:
        signatures["embed"] = embed
    with quiet():
        model.save(temporary, save_format="tf", signatures=signatures)
    (temporary / _CARD).parent.mkdir()
    (temporary / _CARD).write_text(json.dumps(card, indent=2) + "\n")
    if training_state:
        np.savez(temporary / _TRAINING_STATE, **training_state)
    # A folder cannot be renamed over another one: between these lines it is missing, complete.
    older = directory.with_name(directory.name + ".old")
    shutil.rmtree(older, ignore_errors=True)
    if directory.exists():
        directory.rename(older)
    temporary.rename(directory)
    shutil.rmtree(older, ignore_errors=True)


def read_card(directory):
    """The dict that `export` was given, or {} for a SavedModel from elsewhere."""
    path = pathlib.Path(directory) / _CARD
    return json.loads(path.read_text()) if path.exists() else {}


def read_training_state(directory):
    """What `export` was given for training to go on from, {name: array}, or {} without any."""
    path = pathlib.Path(directory) / _TRAINING_STATE
    if not path.exists():
        return {}
    with np.load(path) as arrays:
        return dict(arrays)


def _copy_layers(backbone, images):
    """Repeats the backbone's layers, weights included, on top of a Keras tensor.

    Not nested as one layer: Keras 2 cannot rebuild a loaded model from its own config
    where that model holds another one with several outputs; `clone_model` never returns.
    """
    copies = {id(backbone.input): images}
    for layer in backbone.layers[1:]:
        copy = _copy_layer(layer)
        inputs = tf.nest.map_structure(lambda tensor: copies[id(tensor)], layer.input)
        copies[id(layer.output)] = copy(inputs)
        copy.set_weights(layer.get_weights())
    return {stage: copies[id(tensor)] for stage, tensor in backbone.output.items()}


def _copy_layer(layer):
    config = _float32_config(layer)
    if isinstance(layer, SplitBatchNormalization):
        del config["num_groups"]
        return tf.keras.layers.BatchNormalization.from_config(config)
    return type(layer).from_config(config)


def _float32_config(layer):
    """Its config, for computing in float32 whatever the precision of the training was."""
    return {**layer.get_config(), "dtype": "float32"}


def _copy_head(head):
    """The projection head in stock layers."""
    copies = [tf.keras.layers.Dense.from_config(_float32_config(d)) for d in head.dense_layers]
    features = tf.keras.Input([head.dense_layers[0].kernel.shape[0]], name="features")
    embedding = features
    for dense in copies:
        embedding = dense(embedding)
    embedding = tf.keras.layers.UnitNormalization(axis=-1, name="embedding")(embedding)
    model = tf.keras.Model(features, embedding, name="projection_head")
    model.set_weights(head.get_weights())
    return model
