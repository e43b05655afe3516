"""Kernels in float16, computation in float32: an encoder of half the size."""

import tensorflow as tf

from csml_tf.export import saved_model


class _Float16Kernel:
    """Keeps a layer's kernel as a float16 variable, and casts it each time it is used.

    Everything else stays float32: biases, batch norm and all that is computed. Kernels are
    more than 99 % of a ResNet, and its moving variances would not survive float16.

    `tf.keras.models.load_model` opens a SavedModel with these layers where this class is not
    known: Keras then takes the traced functions that lie in it.
    """

    def add_weight(self, name=None, shape=None, dtype=None, **kwargs):
        return super().add_weight(name, shape, tf.float16 if name == "kernel" else dtype, **kwargs)

    @property
    def kernel(self):
        return tf.cast(self.float16_kernel, tf.float32)

    @kernel.setter
    def kernel(self, variable):
        self.float16_kernel = variable


class Float16KernelConv2D(_Float16Kernel, tf.keras.layers.Conv2D):
    """`tf.keras.layers.Conv2D` with a float16 kernel."""


class Float16KernelDense(_Float16Kernel, tf.keras.layers.Dense):
    """`tf.keras.layers.Dense` with a float16 kernel."""


_HALVES = {
    tf.keras.layers.Conv2D: Float16KernelConv2D,
    tf.keras.layers.Dense: Float16KernelDense,
}


def halve(model):
    """An export model with its kernels rounded to float16; see `_Float16Kernel`.

    It is frozen: gradients and steps of fine-tuning would be lost in float16 variables. So
    it makes features in inference mode, whatever `training` says.

    Args:
        model: as `saved_model.load` returns it.

    Returns:
        `tf.keras.Model` with its `projection_head`, if `model` has one.
    """
    # Without its head, of which `clone_model` would make a second one in float32.
    half = _halve_layers(saved_model.without_head(model))
    head = getattr(model, "projection_head", None)
    if head is not None:
        half.projection_head = _halve_layers(head)
    half.trainable = False
    return half


def _halve_layers(model):
    def copy(layer):
        kind = _HALVES.get(type(layer), type(layer))
        return kind.from_config(layer.get_config())

    half = tf.keras.models.clone_model(model, clone_function=copy)
    half.set_weights(model.get_weights())
    return half
