"""The key encoder: a slowly moving average of the query encoder."""

import functools

import tensorflow as tf

from csml_tf import draws
from csml_tf.models import cross_replica, layer_weights


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
        # In a function, or checkpoints would hold them as part of this object.
        self._followed = lambda: query_encoder.trainable_variables
        self.prepare(lambda function: function, 1)

    def __call__(self, images, training=None):
        """[batch, height, width, 3] -> {level: [batch, dim]}, cut off from the gradient."""
        embeddings = self.encoder(images, training=training)
        return {level: tf.stop_gradient(value) for level, value in embeddings.items()}

    def update(self, decay):
        """Moves each trainable parameter: key = decay * key + (1 - decay) * query."""

        def move(key, query):
            key.assign_sub((1.0 - decay) * (key - query))

        cross_replica.update(self.encoder.trainable_variables, move, self._followed())

    def start_from(self, query_encoder, state, has_head):
        """As `method.Method.start_from`; without a key encoder in `state` a copy of the query's.

        Returns:
            Whether the key encoder was taken from `state`.
        """
        self.encoder.set_weights(query_encoder.get_weights())
        has_key = layer_weights.set_all(self.encoder.backbone, state.key_layers) is None
        if has_key and has_head:
            layer_weights.set_one(self.encoder.heads[self.encoder.levels[-1]], state.key_head)
        return has_key

    def prepare(self, make_function, accumulation_steps):
        """As `method.Method.prepare`."""
        self._embed = make_function(functools.partial(self, training=True))
        self._accumulation_steps = accumulation_steps

    def embed_all(self, views, seed):
        """The embeddings of all replicas' images in training mode, as `method.Method.targets`."""
        batches = []
        for stream, images in enumerate(views.values()):
            if self.encoder.bn_groups > 1:
                order_seed = draws.fold_in(seed, stream)
                batches.append(embed_shuffled(self._embed_in_parts, images, order_seed))
            else:  # One group has the same statistics in any order.
                embedded = self._embed_in_parts(images)
                batches.append(tf.nest.map_structure(cross_replica.all_gather, embedded))
        return {
            level: tf.stack([batch[level] for batch in batches], axis=1)
            for level in self.encoder.levels
        }

    def _embed_in_parts(self, images):
        parts = [self._embed(part) for part in tf.split(images, self._accumulation_steps)]
        return {level: tf.concat([p[level] for p in parts], 0) for level in self.encoder.levels}


def embed_shuffled(embed, images, seed):
    """Embeds the images of all replicas in a random order, and puts the result back in order.

    Batch norm so sees the keys in other groups than the queries, and its statistics cannot
    tell which key is whose: shuffle BN, arXiv:1911.05722, section 3.3.

    Args:
        embed: function of [batch, height, width, 3] to {level: [batch, dim]}.
        images: [batch, height, width, 3] of this replica.
        seed: [2] integer, the same on all replicas.

    Returns:
        {level: [replicas * batch, dim]}, the keys of all replicas.
    """
    order = draws.permutation(images.shape[0] * cross_replica.num_replicas(), seed)
    embeddings = embed(tf.gather(cross_replica.all_gather(images), cross_replica.own_part(order)))
    back = tf.argsort(order)
    return {
        level: tf.gather(cross_replica.all_gather(value), back)
        for level, value in embeddings.items()
    }
