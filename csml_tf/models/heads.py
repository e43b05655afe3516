"""The projection head, which turns pooled features into the embedding of the loss."""

from typing import Callable

import tensorflow as tf

from csml_tf.models import layer_copies


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
        # PyTorch's nn.Linear draws weights and biases uniformly within 1 / sqrt(fan_in).
        bound = feature_dim**-0.5
        uniform = tf.keras.initializers.RandomUniform
        self.dense_layers = []
        for i in range(self.hidden_layers + 1):
            is_last = i == self.hidden_layers
            dense = tf.keras.layers.Dense(
                self.output_dim if is_last else feature_dim,
                activation=None if is_last else "relu",
                kernel_initializer=uniform(-bound, bound),
                bias_initializer=uniform(-bound, bound),
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
    model = tf.keras.Model(features, embedding, name="projection_head")
    if with_weights:
        model.set_weights(head.get_weights())
    return model
