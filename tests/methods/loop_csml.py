"""The training step of CsMl as loops in NumPy, from its definition."""

import numpy as np
import tensorflow as tf

from csml_tf.models import encoder

SMALL_VIEWS = ("small_0", "small_1")


def loop_cutmix(images, partners, boxes):
    """-> (mixed images, share of `images` left in each)."""
    mixed, kept = images.copy(), np.ones(len(images))
    if partners is None:
        return mixed, kept
    for i in range(len(images)):
        top, left, bottom, right = boxes[i % len(boxes)]
        mixed[i, top:bottom, left:right] = partners[i, top:bottom, left:right]
        kept[i] = 1 - (bottom - top) * (right - left) / np.prod(images.shape[1:3])
    return mixed, kept


def loop_info_nce(queries, positives, weights, negatives, temperature):
    """-> (mean loss over the batch, its gradient with respect to the queries)."""
    loss, gradient = 0.0, np.zeros(queries.shape)
    for i, query in enumerate(queries):
        strangers = np.exp(negatives @ query / temperature)
        for weight, positive in zip(weights[i], positives[i]):
            hit = np.exp(query @ positive / temperature)
            total = hit + strangers.sum()
            loss -= weight * np.log(hit / total) / len(queries)
            # Softmax over [positive | queue], less 1 at the positive.
            pull = (hit / total - 1) * positive + strangers @ negatives / total
            gradient[i] += weight * pull / temperature / len(queries)
    return loss, gradient


class LoopCsMl:
    """The whole state of a run as arrays, and one step of it.

    Only the encoder's outputs and its vector-Jacobian product are TensorFlow's.
    """

    def __init__(
        self,
        model,
        head_dims,
        make_backbone,
        kinds,
        own,
        other,
        level_weights,
        sgd,
        pairs=False,
    ):
        self.pairs = pairs
        # How many queries of the loss each pass over the images of a kind stands for.
        self.times = {"image": 2 if pairs else 1}
        self.encoder = encoder.MultiLevelEncoder(make_backbone, head_dims)
        self.kinds, self.own, self.other = kinds, own, other
        self.level_weights = level_weights
        self.learning_rate, self.sgd_momentum, self.weight_decay = sgd
        base = model.base
        self.ema_decay, self.temperature = base.ema_decay, base.temperature
        self.queries = [v.numpy() for v in base.query_encoder.trainable_variables]
        self.keys = [v.numpy() for v in base.key_encoder.encoder.trainable_variables]
        self.buffers = [np.zeros_like(value) for value in self.queries]
        self.queues = {level: base.queues[level].keys.numpy().copy() for level in head_dims}
        self.cursor = 0

    def encode(self, parameters, images):
        for variable, value in zip(self.encoder.trainable_variables, parameters):
            variable.assign(value)
        return {k: v.numpy() for k, v in self.encoder(images, training=True).items()}

    def pull_back(self, images, cotangents):
        with tf.GradientTape() as tape:
            outputs = self.encoder(images, training=True)
        return tape.gradient(
            [outputs[level] for level in cotangents],
            self.encoder.trainable_variables,
            [tf.constant(value, tf.float32) for value in cotangents.values()],
            unconnected_gradients="zero",
        )

    def step(self, views, boxes):
        """-> {"loss": .., "loss_<level>_<kind>": ..}."""
        batch_size = len(views["query"])
        self.keys = [
            self.ema_decay * k + (1 - self.ema_decay) * q for k, q in zip(self.keys, self.queries)
        ]
        names = [name for name in ("key", "neighbor_key") if name in views]
        keys = [self.encode(self.keys, views[name]) for name in names]
        partners = views.get("neighbor_query")
        if self.pairs:
            # 0 and 1 are a pair, 2 and 3, ..
            other_ones = [i + 1 if i % 2 == 0 else i - 1 for i in range(batch_size)]
            keys.append({level: rows[other_ones] for level, rows in keys[0].items()})
            partners = views["query"][other_ones]

        own, other = (self.own, self.other), (self.other, self.own)
        mixed, kept = loop_cutmix(views["query"], partners, boxes)
        queries = {
            "image": [(views["query"], [own] * batch_size)],
            "neighbor": [(views.get("neighbor_query"), [other] * batch_size)],
            "mixed": [(mixed, [(share, 1 - share) for share in kept])],
            "small": [(views[name], [own] * batch_size) for name in SMALL_VIEWS if name in views],
        }
        num_queries = sum(self.times.get(kind, 1) * len(queries[kind]) for kind in self.kinds)
        logs = {"loss": 0.0}
        gradients = [np.zeros_like(value) for value in self.queries]
        for kind in self.kinds:
            share = self.times.get(kind, 1) / num_queries
            # Views of a kind go through batch norm together.
            images = np.concatenate([images for images, _ in queries[kind]])
            embeddings = self.encode(self.queries, images)
            cotangents = {}
            for level, level_weight in self.level_weights.items():
                positives = np.stack([key[level] for key in keys], axis=1)
                losses, cotangents[level] = [], []
                for i, (_, weights) in enumerate(queries[kind]):
                    rows = embeddings[level][i * batch_size : (i + 1) * batch_size]
                    loss, cotangent = loop_info_nce(
                        rows, positives, weights, self.queues[level], self.temperature
                    )
                    losses.append(loss)
                    cotangents[level].append(level_weight * cotangent * share)
                logs[f"loss_{level}_{kind}"] = np.mean(losses)
                logs["loss"] += level_weight * sum(losses) * share
                cotangents[level] = np.concatenate(cotangents[level])
            pulled = self.pull_back(images, cotangents)
            gradients = [a + b.numpy() for a, b in zip(gradients, pulled)]

        for i, gradient in enumerate(gradients):
            decayed = gradient + self.weight_decay * self.queries[i]
            self.buffers[i] = self.sgd_momentum * self.buffers[i] + decayed
            self.queries[i] = self.queries[i] - self.learning_rate * self.buffers[i]
        for row in range(batch_size):
            for level, queue in self.queues.items():
                queue[(self.cursor + row) % len(queue)] = keys[0][level][row]
        self.cursor = (self.cursor + batch_size) % len(queue)
        return logs
