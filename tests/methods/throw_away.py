"""A method of a screen, written against `method.Method` alone."""

import tensorflow as tf

from csml_tf.methods.method import Method
from csml_tf.methods.momentum_encoder import MomentumEncoder
from csml_tf.models.encoder import MultiLevelEncoder


class CosinePull(Method):
    """Pulls a query towards its keys by their cosine: no queue, no negatives."""

    def __init__(self, make_encoder=MultiLevelEncoder, ema_decay=0.99, seed=0):
        super().__init__()
        del seed
        self.query_encoder = make_encoder()
        self.key_encoder = MomentumEncoder(make_encoder, self.query_encoder)
        self.encoders = {"query": self.query_encoder, "key": self.key_encoder.encoder}
        self.ema_decay = ema_decay

    def prepare(self, make_function, accumulation_steps):
        self.key_encoder.prepare(make_function, accumulation_steps)

    def before_step(self, progress, epoch):
        self.key_encoder.update(self.ema_decay)

    def targets(self, views, seed):
        return self.key_encoder.embed_all(views, seed)

    def loss(self, queries, positives, weights, in_batch):
        return {
            level: tf.reduce_sum(
                weights * (1.0 - tf.einsum("nd,ncd->nc", query, positives[level])), axis=1
            )
            for level, query in queries.items()
        }
