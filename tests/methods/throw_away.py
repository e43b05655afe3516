"""Methods of a screen each, written against `method.Method` alone."""

import tensorflow as tf

from csml_tf.methods.method import Method
from csml_tf.methods.momentum_encoder import MomentumEncoder
from csml_tf.models import heads
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

    def before_step(self, progress):
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


class TinyByol(CosinePull):
    """Symmetric, with a predictor of its own that is trained, and a decay that rises."""

    both_views_are_queries = True

    def __init__(self, make_encoder=MultiLevelEncoder, seed=0):
        super().__init__(make_encoder, seed=seed)
        self.predictors = {}
        for level, dim in self.query_encoder.head_dims.items():
            self.predictors[level] = heads.ProjectionHead(dim, name=f"{level}_predictor")
            self.predictors[level].build([None, dim])

    @property
    def trained_variables(self):
        of_predictors = [v for p in self.predictors.values() for v in p.trainable_variables]
        return self.query_encoder.trainable_variables + of_predictors

    @property
    def shared_variables(self):
        held = [v for p in self.predictors.values() for v in p.trainable_variables]
        return {f"{v.name} (number {i}) of the predictors": v for i, v in enumerate(held)}

    def before_step(self, progress):
        self.key_encoder.update(1.0 - 0.1 * (tf.cos(3.14159265 * progress) + 1.0) / 2.0)

    def loss(self, queries, positives, weights, in_batch):
        predicted = {level: self.predictors[level](query) for level, query in queries.items()}
        return super().loss(predicted, positives, weights, in_batch)


class TinySimclr(Method):
    """NT-Xent over the whole batch; both views have the gradient. Without neighbors only."""

    both_views_are_queries = True
    targets_have_gradient = True

    def __init__(self, make_encoder=MultiLevelEncoder, temperature=0.5, seed=0):
        super().__init__()
        del seed
        self.query_encoder = make_encoder()
        self.encoders = {"query": self.query_encoder}
        self.temperature = temperature

    def loss(self, queries, positives, weights, in_batch):
        losses = {}
        for level, query in queries.items():
            targets = in_batch.targets[level]  # [global batch, 2, dim]: the other view, this one.
            others = tf.reshape(tf.transpose(targets, [1, 0, 2]), [-1, targets.shape[2]])
            logits = tf.matmul(query, others, transpose_b=True) / self.temperature
            # The column that is the query itself has weight 0: no negative, no positive.
            own_column = tf.argmin(weights, axis=1, output_type=tf.int32)
            itself = own_column * targets.shape[0] + in_batch.rows
            mask = tf.one_hot(itself, others.shape[0], on_value=-1e9, off_value=0.0)
            hits = tf.einsum("nd,ncd->nc", query, positives[level]) / self.temperature
            log_all = tf.reduce_logsumexp(logits + mask, axis=1, keepdims=True)
            losses[level] = tf.reduce_sum(weights * (log_all - hits), axis=1)
        return losses
