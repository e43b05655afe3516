"""The key encoder: a slowly moving average of the query encoder."""

import tensorflow as tf


class MomentumEncoder(tf.Module):
    """An encoder whose parameters follow another's and never see a gradient.

    It starts as a copy of the query encoder. Batch norm's moving statistics are
    its own, fed by the keys that pass through it, as in MoCo (arXiv:1911.05722).

    Args:
        make_encoder: function of no arguments that returns an encoder.
        query_encoder: the encoder to follow, made by the same function.
    """

    def __init__(self, make_encoder, query_encoder):
        super().__init__(name="momentum_encoder")
        self.encoder = make_encoder()
        self.encoder.set_weights(query_encoder.get_weights())
        self._pairs = list(zip(self.encoder.trainable_variables, query_encoder.trainable_variables))

    def __call__(self, images, training=None):
        """[batch, height, width, 3] -> {level: [batch, dim]}, cut off from the gradient."""
        embeddings = self.encoder(images, training=training)
        return {level: tf.stop_gradient(value) for level, value in embeddings.items()}

    def update(self, decay):
        """Moves each trainable parameter: key = decay * key + (1 - decay) * query."""
        for key, query in self._pairs:
            key.assign_sub((1.0 - decay) * (key - query))
