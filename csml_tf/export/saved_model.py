"""The SavedModel that a run leaves: stock Keras layers, three signatures, a card."""

import json
import pathlib
import shutil

import tensorflow as tf

from csml_tf.models import resnet
from csml_tf.models.split_batch_norm import SplitBatchNormalization
from csml_tf.quiet import quiet

# SavedModel's own place for files that are not part of the graph.
_CARD = pathlib.Path("assets.extra") / "csml_tf.json"
_LAST_STAGE = resnet.STAGES[-1]


def make_export_model(encoder, mean, std):
    """A functional Keras model of stock layers from plain RGB images to pooled features.

    It has no layer of this package, so `tf.keras.models.load_model` needs none.

    Args:
        encoder: trained `MultiLevelEncoder`; its weights are copied.
        mean: of each channel, of values in [0, 1], as the encoder was trained with.
        std: of each channel.

    Returns:
        `tf.keras.Model`: [batch, height, width, 3] float32 RGB in [0, 1] ->
        [batch, feature_dim] float32; its attribute `projection_head` is a model from
        those features to the unit-length embedding of the last level, its attribute
        `endpoints_model` one from the images to {"stage1".. "stage4", "features"}.
    """
    backbone = tf.keras.models.clone_model(encoder.backbone, clone_function=_clone_layer)
    backbone.set_weights(encoder.backbone.get_weights())

    images = tf.keras.Input([None, None, 3], name="images")
    normalize = tf.keras.layers.Rescaling(
        [1.0 / s for s in std], [-m / s for m, s in zip(mean, std)], name="normalize"
    )
    stages = backbone(normalize(images))
    features = tf.keras.layers.GlobalAveragePooling2D(name="features")(stages[_LAST_STAGE])
    model = tf.keras.Model(images, features, name="encoder")
    model.endpoints_model = tf.keras.Model(images, {**stages, "features": features})
    model.projection_head = _copy_head(encoder.heads[encoder.levels[-1]])
    return model


def export(encoder, directory, mean, std, card):
    """Writes a SavedModel with the signatures serving_default, embed and endpoints.

    Args:
        encoder: trained `MultiLevelEncoder`.
        directory: where to write; an older export there is replaced, once the new
            one is complete.
        mean: of each channel, of values in [0, 1].
        std: of each channel.
        card: dict of plain values, kept in the SavedModel; see `read_card`.
    """
    model = make_export_model(encoder, mean, std)
    spec = tf.TensorSpec([None, None, None, 3], tf.float32, name="images")

    @tf.function(input_signature=[spec])
    def serving_default(images):
        return {"features": model(images, training=False)}

    @tf.function(input_signature=[spec])
    def embed(images):
        return {"embedding": model.projection_head(model(images, training=False))}

    @tf.function(input_signature=[spec])
    def endpoints(images):
        return model.endpoints_model(images, training=False)

    directory = pathlib.Path(directory)
    temporary = directory.with_name(directory.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    signatures = {"serving_default": serving_default, "embed": embed, "endpoints": endpoints}
    with quiet():
        model.save(temporary, save_format="tf", signatures=signatures)
    (temporary / _CARD).parent.mkdir()
    (temporary / _CARD).write_text(json.dumps(card, indent=2) + "\n")
    shutil.rmtree(directory, ignore_errors=True)
    temporary.rename(directory)


def read_card(directory):
    """The dict that `export` was given, or {} for a SavedModel from elsewhere."""
    path = pathlib.Path(directory) / _CARD
    return json.loads(path.read_text()) if path.exists() else {}


def _clone_layer(layer):
    config = layer.get_config()
    if isinstance(layer, SplitBatchNormalization):
        del config["num_groups"]
        return tf.keras.layers.BatchNormalization.from_config(config)
    return type(layer).from_config(config)


def _copy_head(head):
    """The projection head in stock layers."""
    copies = [tf.keras.layers.Dense.from_config(dense.get_config()) for dense in head.dense_layers]
    features = tf.keras.Input([head.dense_layers[0].kernel.shape[0]], name="features")
    embedding = features
    for dense in copies:
        embedding = dense(embedding)
    embedding = tf.keras.layers.UnitNormalization(axis=-1, name="embedding")(embedding)
    model = tf.keras.Model(features, embedding, name="projection_head")
    model.set_weights(head.get_weights())
    return model
