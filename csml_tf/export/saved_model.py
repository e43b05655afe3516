"""The SavedModel that a run leaves: stock Keras layers, four signatures, a card."""

import pathlib
import zipfile
import zlib

import numpy as np
import tensorflow as tf

from csml_tf import errors, places, whole_files
from csml_tf.errors import InputError
from csml_tf.export import model_card
from csml_tf.models import heads, layer_copies
from csml_tf.models.backbones import contract
from csml_tf.quiet import quiet

_TRAINING_STATE = model_card.EXTRA_ASSETS / "training_state.npz"
_BATCH_SHAPE = [None, None, None, 3]
# No image in [0, 1], however it was resampled or normalised, gets there; one of 0 to 255 does.
_FAR_ABOVE_ONE = 10.0
# What NumPy raises at a file that is damaged, or holds one array alone.
_NO_ARRAYS = (
    *(OSError, ValueError, EOFError, TypeError, AttributeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)
# Layers of an export that others look for by name.
_RESERVED = {"images", "normalize", "features", *contract.STAGES}


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
        float32 RGB in [0, 1]. The first returns [batch, feature_dim] float32; its layers
        "stage1" to "stage4", those that the backbone has, put out the maps; its attribute
        `projection_head` is a model from the pooled map of the last level to its unit-length
        embedding, and missing where there is no level. The second is `make_endpoints_model` of
        the first.
    """
    images = tf.keras.Input([None, None, 3], name="images")
    normalize = tf.keras.layers.Rescaling(
        [1.0 / s for s in std], [-m / s for m, s in zip(mean, std)], name="normalize"
    )
    stages = _copy_backbone(encoder.backbone, normalize(images))
    last = stages[contract.last_stage(encoder.backbone)]
    features = tf.keras.layers.GlobalAveragePooling2D(name="features")(last)
    model = tf.keras.Model(images, features, name="encoder")
    if encoder.levels:
        deepest = encoder.levels[-1]
        channels = encoder.backbone.output[deepest].shape[-1]
        model.projection_head = heads.export_model(encoder.heads[deepest], channels)
        # The features do not depend on it: fine-tuning would warn of missing gradients.
        model.projection_head.trainable = False
    return model, make_endpoints_model(model)


def make_endpoints_model(model):
    """The same layers as the first of `make_export_models`, with more outputs.

    Args:
        model: the first of `make_export_models`, or one that was loaded from a SavedModel.

    Returns:
        `tf.keras.Model`: images -> {"stage1".. "stage4": maps, "features": pooled features}, with
        those stages that there are.

    Raises:
        ValueError: if the model has no stage.
    """
    stages = _find_stages(model)
    if not stages:
        raise ValueError(f"The model has no layer out of {', '.join(contract.STAGES)}.")
    return tf.keras.Model(model.input, {"features": model.output, **stages})


def _find_stages(model):
    """{stage: its map} of an export."""
    outputs = {layer.name: layer for layer in getattr(model, "layers", [])}
    if not set(contract.STAGES) & set(outputs):
        # Exports of before there were layers of just this name end with "stage1_block2_relu".
        outputs = {name.split("_")[0]: layer for name, layer in outputs.items()}
    return {stage: outputs[stage].output for stage in contract.STAGES if stage in outputs}


def export(encoder, directory, mean, std, card, training_state=None):
    """Writes a SavedModel with the signatures that `save` names, and its card.

    Args:
        encoder: as for `make_export_models`; without a level there is no signature embed.
        directory: where to write; an older export there is replaced, once the new
            one is complete.
        mean: of each channel, of values in [0, 1].
        std: of each channel.
        card: dict of plain values, kept in the SavedModel; see `model_card`.
        training_state: {name: array} or None, kept there too; see `read_training_state`.
    """
    places.check_no_pattern(directory, "The folder")
    model, _ = make_export_models(encoder, mean, std)
    with whole_files.new_folder(directory, "choose another") as folder:
        save(model, folder)
        if training_state:
            np.savez(folder / _TRAINING_STATE, **training_state)
        model_card.write(folder, {**card, "format": "saved_model", "precision": "float32"})


def without_head(model):
    """The same layers from images to features, and nothing that hangs on the model beside."""
    return tf.keras.Model(model.input, model.output, name=model.name)


def save(model, folder):
    """Writes the SavedModel alone, without its card.

    The signatures "serving_default" (features), "embed" (embedding) and "endpoints" (maps and
    features) take `images`, [batch, height, width, 3] float32 RGB in [0, 1], and refuse values
    far above 1; "serving_uint8" (features) takes `images_uint8`, of 0 to 255. All refuse tensors
    of another rank, which a server would otherwise hand to a convolution that ends the process.

    TF Hub's interface for models that are trained on, a function `__call__(images,
    training)`, `variables`, `trainable_variables` and `regularization_losses`, is what Keras
    saves of itself.

    Args:
        model: the first of `make_export_models`, or what `load` returns.
        folder: that exists.
    """
    endpoints_model = make_endpoints_model(model)
    head = getattr(model, "projection_head", None)
    spec = tf.TensorSpec(_BATCH_SHAPE, tf.float32, name="images")
    bytes_spec = tf.TensorSpec(_BATCH_SHAPE, tf.uint8, name="images_uint8")

    @tf.function(autograph=False, input_signature=[spec])
    def serving_default(images):
        return {"features": model(_checked(images), training=False)}

    @tf.function(autograph=False, input_signature=[bytes_spec])
    def serving_uint8(images):
        images = tf.ensure_shape(images, _BATCH_SHAPE)
        return {"features": model(tf.cast(images, tf.float32) / 255.0, training=False)}

    @tf.function(autograph=False, input_signature=[spec])
    def embed(images):
        return {"embedding": head(model(_checked(images), training=False))}

    @tf.function(autograph=False, input_signature=[spec])
    def endpoints(images):
        return endpoints_model(_checked(images), training=False)

    signatures = {
        "serving_default": serving_default,
        "serving_uint8": serving_uint8,
        "endpoints": endpoints,
    }
    if head is not None:
        signatures["embed"] = embed
    with quiet():
        model.save(folder, save_format="tf", signatures=signatures)
    (folder / model_card.EXTRA_ASSETS).mkdir()


def _checked(images):
    """The images; an error in their place where they are no batch, or no floats in [0, 1]."""
    images = tf.ensure_shape(images, _BATCH_SHAPE)
    in_range = tf.logical_not(tf.reduce_max(images) > _FAR_ABOVE_ONE)  # NaN passes.
    message = "images are floats in [0, 1]: divide by 255, or call the signature serving_uint8"
    with tf.control_dependencies([tf.debugging.Assert(in_range, [message])]):
        return tf.identity(images)


def open_model(directory):
    """Opens a SavedModel of Keras, which `trust` has looked through where it may be anybody's.

    Returns:
        `tf.keras.Model`.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        return tf.keras.models.load_model(directory, compile=False)
    except (OSError, ValueError, IndexError, tf.errors.OpError) as error:
        raise InputError(
            f"The model in {directory} cannot be read ({errors.first_line(error)}): export it "
            "again."
        ) from error


def load(directory):
    """Opens an export to be exported anew: the first of `make_export_models`, as it was.

    Args:
        directory: of a SavedModel that `export` wrote.

    Returns:
        `tf.keras.Model`.

    Raises:
        InputError: if it cannot be read, or is no such model.
    """
    model = open_model(directory)
    for layer in getattr(model, "submodules", []):  # Those of the projection head, too.
        if isinstance(layer, tf.keras.layers.InputLayer):
            # Newer versions of Keras write it down, and older ones do not take it.
            getattr(layer, "_config", {}).pop("optional", None)
    if not _find_stages(model):
        raise InputError(
            f"The SavedModel in {directory} is not one that this package wrote: there is nothing "
            "to be exported from it."
        )
    return model


def read_card(directory):
    """The card of an export, or {} for a SavedModel from elsewhere."""
    return model_card.read(directory)


def read_training_state(directory):
    """What `export` was given for training to go on from, {name: array}, or {} without any.

    Raises:
        InputError: if the file is damaged.
    """
    path = pathlib.Path(directory) / _TRAINING_STATE
    if not path.exists():
        return {}
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            return dict(arrays)
    except _NO_ARRAYS as error:
        raise InputError(
            f"{path} is damaged ({errors.first_line(error)}): delete it to begin without its key "
            "encoder and queue, or export the model again."
        ) from error


def _copy_backbone(backbone, images):
    """Repeats the backbone's layers, weights included, on top of a Keras tensor.

    Returns:
        {stage: map}, each from a layer of the stage's name.
    """
    names = set(_RESERVED)

    def copy_layer(layer):
        name = layer.name
        while name in names:  # Of a model inside the model, or one that we look for.
            name += "_"
        names.add(name)
        return layer_copies.stock_layer(layer, name=name)

    # They do nothing: they give the maps names that `get_layer` finds in any backbone.
    followers = {
        id(maps): tf.keras.layers.Activation("linear", name=stage)
        for stage, maps in backbone.output.items()
    }
    copies = {id(backbone.input): images}
    return layer_copies.rebuild(backbone.output, copies, copy_layer, followers=followers)
