"""An exported encoder as the protocols see it: any SavedModel with the signatures of ours."""

import hashlib

import tensorflow as tf

from csml_tf.augment.center_view import CenterView
from csml_tf.errors import InputError
from csml_tf.evaluation import folded_graph
from csml_tf.export import saved_model
from csml_tf.models.encoder import pool

LAYERS = ("features", "embedding", "stage1", "stage2", "stage3", "stage4")
_DEFAULT_IMAGE_SIZE = 224


class FrozenEncoder:
    """Makes features of images, in inference mode, and is never trained.

    Args:
        directory: folder of the SavedModel.
        image_size: pixels; None takes the size it was trained with, or 224.

    Attributes:
        id: str, of the model's card, or the name of its folder.
        directory: str.
        center_view: `CenterView` of its images: RGB in [0, 1], since an exported model
            normalises inside.

    Raises:
        InputError: if the model cannot be read or the size is not at least 1 px.
    """

    def __init__(self, directory, image_size=None):
        if image_size is not None and image_size < 1:
            raise InputError(f"The image size must be at least 1 px, got {image_size}.")
        card = saved_model.read_card(directory)
        self.directory = str(directory)
        self.id = card.get("id", self.directory)
        self.center_view = CenterView(
            image_size or card.get("image_size", _DEFAULT_IMAGE_SIZE),
            None if image_size else card.get("resize_size"),
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        )
        try:
            self._loaded = tf.saved_model.load(self.directory)
        except (OSError, ValueError, tf.errors.OpError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"The model in {directory} cannot be read ({reason}): export it again."
            ) from error
        self._functions = {}

    def maps(self, layer):
        """What makes a layer's output, not pooled; of the weights as they are at the first call.

        Args:
            layer: one of `LAYERS`.

        Returns:
            function of [batch, size, size, 3] images in [0, 1] to [batch, dim], or to
            [batch, height, width, channels] for a stage.

        Raises:
            InputError: if the model lacks the layer.
        """
        name = {"features": "serving_default", "embedding": "embed"}.get(layer, "endpoints")
        signatures = self._loaded.signatures
        if name not in signatures or layer not in signatures[name].structured_outputs:
            raise InputError(
                f"The model has no signature {name!r} with an output {layer!r}: it has "
                f"{', '.join(sorted(signatures)) or 'none'}; choose another --layer."
            )
        if name not in self._functions:
            self._functions[name] = _make_function(signatures[name])
        function = self._functions[name]
        return lambda images: function(images)[layer]

    def encode(self, layer="features"):
        """As `maps`, but a stage's map is average-pooled: a function to [batch, dim]."""
        make = self.maps(layer)

        def encode(images):
            output = make(images)
            return pool(output) if output.shape.rank == 4 else output

        return encode

    def untrained(self):
        """The function of `encode()`, of the same network with fresh weights."""
        tf.keras.utils.set_random_seed(0)
        trained = tf.keras.models.load_model(self.directory, compile=False)
        model = tf.keras.models.clone_model(trained)
        return tf.function(lambda images: model(images, training=False), reduce_retracing=True)

    def digest(self):
        """Hex SHA-256 of all weights as they are now, moving statistics included."""
        state = hashlib.sha256()
        variables = {
            (variable.name, str(variable.shape)): variable
            for function in self._loaded.signatures.values()
            for variable in function.variables
        }
        for (name, shape), variable in sorted(variables.items(), key=lambda item: item[0]):
            state.update(f"{name} {shape} {variable.dtype.name}".encode())
            state.update(variable.numpy().tobytes())
        return state.hexdigest()


def _make_function(signature):
    """A signature as a function of images, fast where there is one device."""
    if not tf.distribute.has_strategy():
        return folded_graph.fold(signature)
    # Replicas want each their own copy of the weights, which a folded graph has none of. By its
    # name: under a strategy TensorFlow takes the input in no other way.
    (name,) = signature.structured_input_signature[1]
    return lambda images: signature(**{name: images})
