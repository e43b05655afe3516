"""An exported encoder as the protocols see it: any SavedModel with the signatures of ours."""

import hashlib

import tensorflow as tf

from csml_tf.augment.center_view import CenterView
from csml_tf.errors import InputError
from csml_tf.export import saved_model
from csml_tf.models.encoder import pool

LAYERS = ("features", "embedding", "stage1", "stage2", "stage3", "stage4")
_DEFAULT_IMAGE_SIZE = 224
# What an exported encoder promises to take; less only where it was trained with less.
_MIN_IMAGE_SIZE = 32


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
        InputError: if the model cannot be read, or the size is below 32 px and below what it
            was trained with.
    """

    def __init__(self, directory, image_size=None):
        card = saved_model.read_card(directory)
        smallest = min(_MIN_IMAGE_SIZE, card.get("image_size", _MIN_IMAGE_SIZE))
        if image_size is not None and image_size < smallest:
            raise InputError(
                f"This model takes images from {smallest} px up, got {image_size}: raise or leave "
                "out --image_size."
            )
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

    def maps(self, layer):
        """What makes a layer's output, not pooled.

        Args:
            layer: one of `LAYERS`.

        Returns:
            function of [batch, size, size, 3] images in [0, 1] to [batch, dim], or to
            [batch, height, width, channels] for a stage.

        Raises:
            InputError: if the model lacks the layer, or takes no images of this size.
        """
        function = self._loaded.signatures[self._signature_name(layer)]
        return lambda images: function(images)[layer]

    def encode(self, layer="features"):
        """As `maps`, but a stage's map is average-pooled: a function to [batch, dim]."""
        encode_layers = self.encode_layers([layer])
        return lambda images: encode_layers(images)[layer]

    def encode_layers(self, layers):
        """As `encode`, for several layers: a function to {layer: [batch, dim]}.

        The network runs once for all stages and the features, once more for the embedding.
        """
        layers_of = {}
        for layer in layers:
            layers_of.setdefault(self._signature_name(layer), []).append(layer)
        if {"endpoints", "serving_default"} <= set(layers_of) and self._has(
            "endpoints", "features"
        ):
            layers_of["endpoints"] += layers_of.pop("serving_default")

        def encode_layers(images):
            encoded = {}
            for name, own_layers in layers_of.items():
                outputs = self._loaded.signatures[name](images)
                for layer in own_layers:
                    is_map = outputs[layer].shape.rank == 4
                    encoded[layer] = pool(outputs[layer]) if is_map else outputs[layer]
            return encoded

        return encode_layers

    def _signature_name(self, layer):
        name = {"features": "serving_default", "embedding": "embed"}.get(layer, "endpoints")
        if not self._has(name, layer):
            raise InputError(
                f"The model has no signature {name!r} with an output {layer!r}: it has "
                f"{', '.join(sorted(self._loaded.signatures)) or 'none'}; choose another --layer."
            )
        self._check_input(name)
        return name

    def _check_input(self, signature):
        """Raises `InputError` unless it takes batches of `center_view`'s images; ours all do."""
        _, inputs = self._loaded.signatures[signature].structured_input_signature
        size = self.center_view.image_size
        for spec in inputs.values():
            sizes = spec.shape.as_list() if spec.shape.rank == 4 else [0] * 4
            fits = sizes[0] is None and all(
                own in (None, needed) for own, needed in zip(sizes[1:], (size, size, 3))
            )
            if spec.dtype != tf.float32 or not fits:
                raise InputError(
                    f"The model takes {spec.dtype.name} {spec.shape}, which are no batches of RGB "
                    f"images of {size} px in float32: choose another --image_size, or export it "
                    "again."
                )

    def _has(self, signature, output):
        signatures = self._loaded.signatures
        return signature in signatures and output in signatures[signature].structured_outputs

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
