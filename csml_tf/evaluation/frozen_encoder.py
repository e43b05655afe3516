"""An exported encoder as the protocols see it: any SavedModel with the signatures of ours."""

import contextlib
import hashlib

import tensorflow as tf

from csml_tf.augment.center_view import CenterView
from csml_tf.errors import InputError, first_line
from csml_tf.evaluation import folded_graph
from csml_tf.export import saved_model
from csml_tf.models import untrained_copy
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
        except (OSError, ValueError, IndexError, tf.errors.OpError) as error:
            raise InputError(
                f"The model in {directory} cannot be read ({first_line(error)}): export it again."
            ) from error
        self._functions = {}
        self._network = None  # What `untrained` copies; made when asked for.

    def maps(self, layer):
        """What makes a layer's output, not pooled, of the weights as they are now.

        Args:
            layer: one of `LAYERS`.

        Returns:
            function of [batch, size, size, 3] images in [0, 1] to [batch, dim], or to
            [batch, height, width, channels] for a stage.

        Raises:
            InputError: if the model lacks the layer, or takes images of another size.
        """
        all_maps = self.all_maps([layer])
        return lambda images: all_maps(images)[layer]

    def all_maps(self, layers):
        """What makes the outputs of several layers, not pooled, of the weights as they are now.

        Args:
            layers: some of `LAYERS`. One pass of the network makes stages and features;
                "embedding" beside another layer takes a pass of its own.

        Returns:
            function of [batch, size, size, 3] images in [0, 1] to {layer: as of `maps`}.

        Raises:
            InputError: if the model lacks a layer, or takes images of another size.
        """
        names = {layer: self._signature_of(layer) for layer in layers}
        if "features" in names and "endpoints" in names.values():
            endpoints = self._loaded.signatures["endpoints"]
            if "features" in endpoints.structured_outputs:
                names["features"] = "endpoints"
        functions = {name: self._fast_signature(name) for name in names.values()}

        def make(images):
            outputs = {name: function(images) for name, function in functions.items()}
            return {layer: outputs[name][layer] for layer, name in names.items()}

        return make

    def _signature_of(self, layer):
        name = {"features": "serving_default", "embedding": "embed"}.get(layer, "endpoints")
        signatures = self._loaded.signatures
        if name not in signatures or layer not in signatures[name].structured_outputs:
            raise InputError(
                f"The model has no signature {name!r} with an output {layer!r}: it has "
                f"{', '.join(sorted(signatures)) or 'none'}; choose another --layer."
            )
        # A loaded signature does not look at the sizes itself, and may mix up images.
        size = self.center_view.image_size
        for spec in tf.nest.flatten(signatures[name].structured_input_signature):
            takes_batches = spec.shape.rank == 4 and spec.shape[0] is None
            fits = takes_batches and spec.shape.is_compatible_with([None, size, size, 3])
            if spec.dtype != tf.float32 or not fits:
                raise InputError(
                    f"The model takes {spec.dtype.name} {spec.shape}, which are no batches of RGB "
                    f"images of {size} px in float32: choose another --image_size, or export it "
                    "again."
                )
        return name

    def _fast_signature(self, name):
        if name not in self._functions:
            self._functions[name] = _make_function(self._loaded.signatures[name])
        return self._functions[name]

    def encode(self, layer="features"):
        """As `maps`, but a stage's map is average-pooled: a function to [batch, dim]."""
        encode_layers = self.encode_layers([layer])
        return lambda images: encode_layers(images)[layer]

    def encode_layers(self, layers):
        """As `encode`, for several layers: a function to {layer: [batch, dim]}."""
        make = self.all_maps(layers)

        def encode(images):
            outputs = make(images)
            return {
                layer: pool(output) if output.shape.rank == 4 else output
                for layer, output in outputs.items()
            }

        return encode

    def dim(self, layer="features"):
        """Length of a row of what `encode(layer)` returns.

        Raises:
            InputError: if the model lacks the layer, or takes images of another size.
        """
        outputs = self._loaded.signatures[self._signature_of(layer)].structured_outputs
        return outputs[layer].shape[-1]

    def untrained(self, seed=0):
        """The function of `encode()`, of the same network with fresh weights.

        Raises:
            InputError: as `untrained_network`.
        """
        if self._network is None:
            self._network = self.network()
        with self._in_a_sentence():
            model = untrained_copy.make(self._network, seed)
        return tf.function(
            lambda images: model(images, training=False), autograph=False, reduce_retracing=True
        )

    def network(self):
        """A copy to train: `tf.keras.Model` of [batch, size, size, 3] images to [batch, dim].

        Raises:
            InputError: if the SavedModel is not one of a Keras model.
        """
        model = None
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            model = tf.keras.models.load_model(self.directory, compile=False)
        if not isinstance(model, tf.keras.Model) or not model.trainable_variables:
            raise InputError(
                f"The model in {self.directory} has no Keras layers to train: give one that "
                "tf.keras.models.load_model opens."
            )
        return model

    def untrained_network(self, seed=0):
        """As `network`, with fresh weights, which `seed` decides.

        Raises:
            InputError: if the SavedModel is not one of a Keras model whose layers are known.
        """
        network = self.network()
        with self._in_a_sentence():
            network.set_weights(untrained_copy.draw_weights(network, seed))
        return network

    @contextlib.contextmanager
    def _in_a_sentence(self):
        try:
            yield
        except (ValueError, TypeError, NotImplementedError) as error:
            raise InputError(
                f"The layers of the model in {self.directory} cannot be given fresh weights "
                f"({first_line(error)}): give a functional Keras model."
            ) from error

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
