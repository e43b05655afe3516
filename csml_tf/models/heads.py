"""The projection head, which turns pooled features into the embedding of the loss."""

from __future__ import annotations

from typing import Callable

import tensorflow as tf

from csml_tf.models import layer_copies
from csml_tf.models.split_batch_norm import SplitBatchNormalization


class ProjectionHead(tf.keras.layers.Layer):
    """Pooled features -> unit vectors: MoCo v2's MLP, or MoCo v1's one linear layer.

    Args:
        output_dim: length of the embedding, 128 in MoCo and CsMl.
        hidden_layers: 1 gives dense, ReLU, dense with a hidden width equal to the
            feature width (arXiv:2003.04297); 0 gives one dense layer (arXiv:1911.05722).
        **kwargs: as for `tf.keras.layers.Layer`.
    """

    def __init__(self, output_dim=128, hidden_layers=1, **kwargs):
        super().__init__(**kwargs)
        self.output_dim = output_dim
        self.hidden_layers = hidden_layers

    def build(self, input_shape):
        feature_dim = input_shape[-1]
        self.dense_layers = []
        for i in range(self.hidden_layers + 1):
            is_last = i == self.hidden_layers
            dense = _torch_dense(
                self.output_dim if is_last else feature_dim,
                feature_dim,
                activation=None if is_last else "relu",
                name=f"dense{i + 1}",
            )
            dense.build([None, feature_dim])
            self.dense_layers.append(dense)
        super().build(input_shape)

    def call(self, features):
        """[batch, feature_dim] float -> [batch, output_dim] float32, unit length."""
        for dense in self.dense_layers:
            features = dense(features)
        return tf.math.l2_normalize(tf.cast(features, tf.float32), axis=1)

    def get_config(self):
        config = {"output_dim": self.output_dim, "hidden_layers": self.hidden_layers}
        return {**super().get_config(), **config}


def make_batch_norm_head(
    stage: str,
    channels: int,
    output_dim: int = 256,
    hidden_dim: int | None = None,
    hidden_layers: int = 1,
    use_bias: bool = True,
    last_batch_norm: str | None = None,
    unit_length: bool = False,
    bn_groups: int = 1,
) -> tf.keras.Model:
    """An MLP with batch norm: the projector and the predictor of SimCLR, BYOL, MoCo v3, SwAV.

    Args:
        stage: name of the level; the model's name.
        channels: length of the features.
        output_dim: length of the embedding.
        hidden_dim: width of the hidden layers; None takes `channels`.
        hidden_layers: dense, batch norm, ReLU each; another dense layer follows.
        use_bias: whether the dense layers have biases.
        last_batch_norm: behind the last dense layer: "full"; "plain", without scale and shift;
            or None for none.
        unit_length: whether the embedding is divided by its length.
        bn_groups: of the global batch, as for `SplitBatchNormalization`.

    Returns:
        `tf.keras.Model`: [batch, channels] float -> [batch, output_dim] float32.

    Raises:
        ValueError: if `last_batch_norm` is none of the three.
    """
    if last_batch_norm not in ("full", "plain", None):
        raise ValueError(
            f"last_batch_norm must be 'full', 'plain' or None, got {last_batch_norm!r}."
        )
    layers = [tf.keras.layers.InputLayer([channels], name="features")]
    length = channels
    for number in range(1, hidden_layers + 1):
        width = hidden_dim or channels
        layers += [
            _torch_dense(width, length, use_bias=use_bias, name=f"dense{number}"),
            _torch_batch_norm(bn_groups, name=f"bn{number}"),
            tf.keras.layers.ReLU(name=f"relu{number}"),
        ]
        length = width
    layers.append(_torch_dense(output_dim, length, use_bias=use_bias, name="dense_last"))
    if last_batch_norm:
        is_full = last_batch_norm == "full"
        layers.append(_torch_batch_norm(bn_groups, scale=is_full, center=is_full, name="bn_last"))
    layers.append(tf.keras.layers.Activation("linear", dtype="float32", name="projection"))
    if unit_length:
        layers.append(tf.keras.layers.UnitNormalization(dtype="float32", name="embedding"))
    return tf.keras.Sequential(layers, name=f"{stage}_head")


def _torch_dense(units, fan_in, **options):
    """Dense as PyTorch's nn.Linear starts: uniform within 1 / sqrt(fan_in), biases included."""
    uniform = tf.keras.initializers.RandomUniform
    bound = fan_in**-0.5
    return tf.keras.layers.Dense(
        units,
        kernel_initializer=uniform(-bound, bound),
        bias_initializer=uniform(-bound, bound),
        **options,
    )


def _torch_batch_norm(bn_groups, **options):
    return SplitBatchNormalization(bn_groups, momentum=0.9, epsilon=1e-5, **options)


def makes_unit_vectors(head: tf.keras.layers.Layer) -> bool:
    """Whether what a head puts out is known to have unit length, by its kind or its last layer."""
    last = head.layers[-1] if isinstance(head, layer_copies.Functional) else head
    return isinstance(last, (ProjectionHead, tf.keras.layers.UnitNormalization))


def export_model(
    head: tf.keras.layers.Layer,
    feature_dim: int,
    copy_layer: Callable = layer_copies.stock_layer,
    with_weights: bool = True,
) -> tf.keras.Model:
    """A copy of a head for an export.

    Args:
        head: `ProjectionHead`, which is copied in stock layers; or another head: a functional
            model is copied layer by layer, any other layer as a whole.
        feature_dim: length of the features.
        copy_layer: as for `layer_copies.rebuild`.
        with_weights: likewise.

    Returns:
        `tf.keras.Model`: [batch, feature_dim] features -> [batch, dim] float32, unit length.
    """
    features = tf.keras.Input([feature_dim], name="features")
    if isinstance(head, ProjectionHead):
        embedding = features
        for dense in head.dense_layers:
            embedding = copy_layer(dense)(embedding)
        embedding = tf.keras.layers.UnitNormalization(axis=-1, name="embedding")(embedding)
    elif isinstance(head, layer_copies.Functional):
        copies = {id(head.inputs[0]): features}
        (embedding,) = layer_copies.rebuild(head.outputs, copies, copy_layer, with_weights)
    else:
        embedding = copy_layer(head)(features)
    if not makes_unit_vectors(head):
        embedding = tf.keras.layers.UnitNormalization(axis=-1, name="unit_length")(embedding)
    model = tf.keras.Model(features, embedding, name="projection_head")
    if with_weights:
        model.set_weights(head.get_weights())
    return model
