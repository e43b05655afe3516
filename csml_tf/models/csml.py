"""CsMl: contrastive learning with cross-image positives at several depths."""

import functools
import time

import tensorflow as tf

from csml_tf import draws, losses
from csml_tf.augment import cutmix
from csml_tf.models import (
    cross_replica,
    csml_settings,
    encoder,
    key_bank,
    key_queue,
    momentum_encoder,
    running_means,
)
from csml_tf.models.csml_settings import NEIGHBOR_KEYS, QUERY_KINDS

# The views of one anchor, as the input pipeline names them.
ANCHOR_VIEWS = ("query", "key")
NEIGHBOR_VIEWS = ("neighbor_query", "neighbor_key")

# A query kind beside `QUERY_KINDS`, of an anchor that has small views.
_SMALL = "small"

# What a batch has beside its views where there is a bank, [batch] int64 each.
INDEX_NAMES = ("anchor_index", "neighbor_index")

# Folded into the seed of a step, so that no two draws of a step share one.
_BOX_STREAM = 0
_SHUFFLE_STREAM = 1


class CsMl(tf.keras.Model):
    """Trains a query encoder against the keys of a momentum encoder and a queue.

    For an anchor x and one of its nearest neighbours x+, every level of the
    encoder gets

        loss_level = mean over queries of
            image:    L(q;  {(k,  own), (k+, other)})
            neighbor: L(q+; {(k+, own), (k,  other)})
            mixed:    L(m;  {(k,  a),   (k+, 1 - a)})
            small:    L(s;  {(k,  own), (k+, other)}) for each small view s of x
        loss = sum over levels of level_weights[level] * loss_level

    where L is `losses.multi_positive_info_nce`, m the CutMix of q and q+, a the
    area fraction of q in m, and (own, other) is `positive_weights`, but (1, 0)
    while `epoch` is below `neighbor_warmup_epochs` (arXiv:2012.02733). Small views are
    the multi-crop of arXiv:2006.09882; that each counts as much as any other query is
    our choice.

    Batches of pairs are a cheaper way to the same: the batch holds x and x+ side by side, each
    the other's neighbour and both of them anchors. One pass over the queries of the batch
    then serves as image and as neighbor, and one over its keys gives k and k+, since the
    other one's key is there already; the CutMix is of both in turn. The loss is the mean of
    the loss above over the two roles,

        loss_level = mean over the images x of the batch of
            (2 * L(x; ..) + L(m; ..) + sum of L(s; ..)) / (2 + 1 + number of small views)

    at 7 forward passes of an image instead of 11, a query's counted as 3. All keys of the batch
    are enqueued, since all are those of anchors. Our option.

    MoCo v1 and v2 are this class with `query_kinds=("image",)` and
    `positive_weights=(1.0, 0.0)`; they need the anchor's two views only.

    Under a strategy the loss is that of the global batch: every replica adds its share,
    draws are those of the whole batch, the keys of all replicas enter every queue, and
    the groups of batch norm are groups of the global batch. So the same batch gives the
    same step on one replica or many, but for rounding.

    Args:
        make_encoder: function of no arguments that returns a `MultiLevelEncoder`;
            called twice, for queries and for keys.
        num_negatives: keys in the queue of each level.
        ema_decay: of the key encoder per step, in [0, 1].
        temperature: of the loss, above 0.
        level_weights: {level: weight of its loss}; None weighs every level by 1.
        query_kinds: those of `QUERY_KINDS` that are trained.
        positive_weights: (own, other), each at least 0.
        neighbor_warmup_epochs: epochs without neighbours as positives, because they
            are not meaningful yet. 11 in the authors' code, for 200 epochs.
        cutmix_warmup_epochs: epochs without mixed queries: the loss is the mean over the others,
            and a step costs that much less. 0 in the authors' code, where they count from the
            start.
        cutmix_alpha: the area fraction is drawn from Beta(alpha, alpha).
        cutmix_box_per_image: False cuts one box for the whole batch, as the authors
            do; True draws one for each image (our option).
        pairs: whether batches are pairs, see above: images 2 i and 2 i + 1 are neighbours.
            Needs both of the query kinds "image" and "neighbor".
        num_small_views: small views of each anchor, queries only; 0 for none.
        neighbor_keys: "view", or "bank" to take k+ from a `KeyBank` of the newest key that
            each image had as an anchor, at 10 forward passes instead of 11; what has had none
            yet counts nothing in the loss. Not for pairs, which have k+ for nothing. Our option.
        num_images: of the training set; needed for a bank.
        photometric: function of (view name, crops, uniforms) that makes images of a view
            whose colours the input pipeline left to the device; None where it makes
            finished images.
        accumulation_steps: equal parts in which a replica takes its share of the batch, one
            after the other, so that the activations of one part at a time need memory. The
            step stays the same, but for the moving statistics of batch norm, which move
            once per part.
        seed: int; with the step it decides every draw inside the step.
        **kwargs: as for `tf.keras.Model`.

    Raises:
        ValueError: if an argument is outside the above, or batch norm's groups do not
            fall on replicas and parts as whole groups.
    """

    def __init__(
        self,
        make_encoder=encoder.MultiLevelEncoder,
        num_negatives=65536,
        ema_decay=0.999,
        temperature=0.2,
        level_weights=None,
        query_kinds=QUERY_KINDS,
        positive_weights=(0.5, 0.5),
        neighbor_warmup_epochs=11,
        cutmix_warmup_epochs=0,
        cutmix_alpha=2.0,
        cutmix_box_per_image=False,
        pairs=False,
        num_small_views=0,
        neighbor_keys=NEIGHBOR_KEYS[0],
        num_images=None,
        photometric=None,
        accumulation_steps=1,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.query_encoder = make_encoder()
        self.key_encoder = momentum_encoder.MomentumEncoder(make_encoder, self.query_encoder)
        self.level_weights = csml_settings.check_level_weights(
            level_weights, self.query_encoder.levels
        )
        csml_settings.check_numbers(
            positive_weights, ema_decay, temperature, cutmix_alpha, accumulation_steps
        )
        csml_settings.check_query_kinds(query_kinds, pairs, cutmix_warmup_epochs, num_small_views)
        for each in (self.query_encoder, self.key_encoder.encoder):
            each.divide_batch(cross_replica.num_replicas(), accumulation_steps)
        self.queues = {
            level: key_queue.KeyQueue(num_negatives, dim, (seed, index), name=f"{level}_queue")
            for index, (level, dim) in enumerate(self.query_encoder.head_dims.items())
        }
        self.num_negatives = num_negatives
        self.ema_decay = ema_decay
        self.temperature = temperature
        # In pairs the queries of images are those of neighbours, too.
        kinds = tuple(kind for kind in query_kinds if not (pairs and kind == "neighbor"))
        self.query_kinds = kinds + ((_SMALL,) if num_small_views else ())
        self.pairs = pairs
        self.num_small_views = num_small_views
        self.neighbor_keys = neighbor_keys
        self.photometric = photometric
        self.positive_weights = tuple(positive_weights)
        self.neighbor_warmup_epochs = neighbor_warmup_epochs
        self.cutmix_warmup_epochs = cutmix_warmup_epochs
        self.cutmix_alpha = cutmix_alpha
        self.cutmix_box_per_image = cutmix_box_per_image
        self.accumulation_steps = accumulation_steps
        self.seed = seed
        csml_settings.check_neighbor_keys(neighbor_keys, num_images, pairs, self.uses_neighbors)
        self.banks = {
            level: key_bank.KeyBank(num_images, dim, name=f"{level}_bank")
            for level, dim in self.query_encoder.head_dims.items()
            if neighbor_keys == "bank"
        }
        # Set by whoever runs the epochs; counts from 0.
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")
        # Time that `fit` has spent waiting for its next batch, seconds.
        self.input_wait_s = 0.0
        # The loss and its parts, over the steps of an epoch.
        levels = self.query_encoder.levels
        self.means = running_means.RunningMeans(
            ["loss", *(_part(level, kind) for level in levels for kind in self.query_kinds)]
        )
        self.built = True

    @property
    def kinds_in_use(self):
        """Those of `query_kinds` that this epoch trains; what waits costs nothing."""
        # The device is asked for the epoch only where that makes a difference.
        if self.cutmix_warmup_epochs and int(self.epoch.numpy()) < self.cutmix_warmup_epochs:
            return tuple(kind for kind in self.query_kinds if kind != "mixed")
        return self.query_kinds

    @property
    def mean_losses(self):
        """{name: float mean over the epoch so far} of the loss and its parts in use."""
        return self._parts_in_use(self.means.result(), self.kinds_in_use)

    @property
    def uses_neighbors(self):
        """Whether an anchor comes with one of its neighbours."""
        of_anchors_alone = {*self.query_kinds} <= {"image", _SMALL}
        return self.pairs or not of_anchors_alone or self.positive_weights[1] > 0

    @property
    def view_names(self):
        """Names of the views that `train_step` takes."""
        of_neighbors = NEIGHBOR_VIEWS if self.uses_neighbors and not self.pairs else ()
        if self.neighbor_keys == "bank":
            of_neighbors = tuple(name for name in of_neighbors if not name.endswith("key"))
        return ANCHOR_VIEWS + of_neighbors + self.small_view_names

    @property
    def small_view_names(self):
        """Those of `view_names` that are small."""
        return tuple(f"{_SMALL}_{number}" for number in range(self.num_small_views))

    @property
    def trainable_weights(self):
        """Those of the query encoder: the key encoder is never trained by gradient."""
        return self.query_encoder.trainable_weights

    @property
    def shared_state(self):
        """{name: variable} of what all replicas have to hold alike, bit for bit."""
        encoders = {"query": self.query_encoder, "key": self.key_encoder.encoder}
        weights = {  # With a number, since those of two heads have the same names.
            f"{variable.name} (number {number}) of the {name} encoder": variable
            for name, each in encoders.items()
            for number, variable in enumerate(each.trainable_variables, start=1)
        }
        keys = {
            variable.name: variable
            for held in (*self.queues.values(), *self.banks.values())
            for variable in held.variables
        }
        return {**keys, **weights}

    @property
    def metrics(self):
        """None of Keras': see `means`."""
        return []

    def reset_metrics(self):
        """Called by `fit` at the beginning of an epoch."""
        self.means.reset()

    def call(self, images, training=None):
        """[batch, height, width, 3] -> {level: [batch, dim]} by the query encoder."""
        return self.query_encoder(images, training=training)

    def compile(self, optimizer, jit_compile=False, **kwargs):
        """As `tf.keras.Model.compile`.

        Args:
            optimizer: Keras optimizer; in a `LossScaleOptimizer` for float16.
            jit_compile: whether XLA compiles the step: the whole of it on one replica, all
                passes through the encoders on several. A TPU always compiles.
            **kwargs: as for `tf.keras.Model.compile`.

        Raises:
            ValueError: if it cannot be compiled, because replicas meet inside the encoders.
        """
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        one_replica = cross_replica.num_replicas() == 1
        if jit_compile and not one_replica and self.query_encoder.bn_groups == 1:
            raise ValueError(
                "jit_compile cannot compile batch norm over all replicas: choose BN_GROUPS as a "
                f"multiple of the {cross_replica.num_replicas()} replicas, or JIT_COMPILE = False."
            )
        self._embed_keys = functools.partial(self.key_encoder, training=True)
        self._level_losses_and_gradients = self._measure_levels
        # Functions of their own are traced once for all kinds; but replicas cannot meet
        # inside of one, as batch norm has them do where groups span replicas.
        if one_replica or self.query_encoder.bn_groups > 1:
            # AutoGraph would search our code and that of Keras for control flow on tensors, which
            # has none: ten seconds of a run's start.
            options = {"autograph": False}
            if jit_compile and not one_replica:
                options["jit_compile"] = True
            self._embed_keys = tf.function(self._embed_keys, **options)
            self._level_losses_and_gradients = tf.function(self._measure_levels, **options)

    def make_train_function(self, force=False):
        """As Keras' own, but the wait for the input is told apart, in `input_wait_s`."""
        if self.train_function is not None and not force:
            return self.train_function
        strategy = self.distribute_strategy
        step = self.train_step
        if self.jit_compile and strategy.num_replicas_in_sync == 1:
            step = tf.function(step, autograph=False, jit_compile=True)

        def distributed_step(views, kinds):
            logs = strategy.run(functools.partial(step, query_kinds=kinds), args=(views,))
            return {name: strategy.experimental_local_results(log)[0] for name, log in logs.items()}

        if not self.run_eagerly:
            distributed_step = tf.function(distributed_step, autograph=False)

        def train_function(iterator):
            started = time.perf_counter()
            views = next(iterator)
            self.input_wait_s += time.perf_counter() - started
            return distributed_step(views, self.kinds_in_use)

        self.train_function = train_function
        return train_function

    def average_moving_statistics(self):
        """Gives all replicas the mean of batch norm's moving statistics.

        In training each replica moves them by its own images; a replica uses its own copy in
        inference, so this comes before inference on several. Called outside of a step.
        """
        if self.distribute_strategy.num_replicas_in_sync > 1:
            with self.distribute_strategy.scope():
                self._average_moving_statistics()

    @tf.function(autograph=False)
    def _average_moving_statistics(self):
        for each in (self.query_encoder, self.key_encoder.encoder):
            for variable in each.non_trainable_variables:
                variable.assign(variable.read_value())  # To read is to take the mean.

    def train_step(self, views, query_kinds=None):
        """One step, in the order of the paper's code.

        Args:
            views: {name in `view_names`: [batch, height, width, 3] normalised images}, or
                {name: arguments of `photometric` after the name} where there is one; and what
                `INDEX_NAMES` says where there is a bank.
            query_kinds: those to train; None for `kinds_in_use`, which a graph cannot ask for.

        Returns:
            {name: mean over the epoch so far, over all replicas} of the loss and its parts.
        """
        kinds = self.kinds_in_use if query_kinds is None else query_kinds
        iteration = self.optimizer.iterations
        indices = {
            name: cross_replica.all_gather(tf.cast(views[name], tf.int32))
            for name in INDEX_NAMES
            if self.banks
        }
        if self.photometric is not None:
            views = {name: self.photometric(name, *views[name]) for name in self.view_names}
        self.key_encoder.update(self.ema_decay)
        all_keys = self._encode_keys(views, indices, self._step_seed(iteration, _SHUFFLE_STREAM))
        keys = {level: cross_replica.own_part(key) for level, key in all_keys.items()}
        queries = self.make_queries(views, iteration, kinds)

        gradients, step_losses = self._train_queries(queries, keys)
        variables = self.query_encoder.trainable_variables
        if isinstance(self.optimizer, tf.keras.mixed_precision.LossScaleOptimizer):
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        self.optimizer.apply_gradients(zip(gradients, variables))
        for level, queue in self.queues.items():
            # The anchors' keys only, of all replicas; never those of neighbours alone.
            queue.enqueue(all_keys[level][:, 0])
        for level, bank in self.banks.items():
            bank.write(indices["anchor_index"], all_keys[level][:, 0])
        return self._parts_in_use(self.means.update(step_losses), kinds)

    def _step_seed(self, iteration, stream):
        return draws.fold_in([self.seed, self.seed], iteration, stream)

    def _encode_keys(self, views, indices, seed):
        """-> {level: [global batch, num_positives, dim]}: the keys k and, where in use, k+."""
        key_views = [name for name in self.view_names if name.endswith("key")]
        batches = []
        for stream, name in enumerate(key_views):
            if self.query_encoder.bn_groups > 1:
                batch = momentum_encoder.embed_shuffled(
                    self._embed_in_parts, views[name], draws.fold_in(seed, stream)
                )
            else:  # One group has the same statistics in any order.
                batch = tf.nest.map_structure(
                    cross_replica.all_gather, self._embed_in_parts(views[name])
                )
            batches.append(batch)
        if self.pairs:
            batches.append(tf.nest.map_structure(_swap_pairs, batches[0]))
        if self.banks:
            rows = indices["neighbor_index"]
            batches.append({level: bank.read(rows) for level, bank in self.banks.items()})
        return {
            level: tf.stack([batch[level] for batch in batches], axis=1) for level in self.queues
        }

    def _embed_in_parts(self, images):
        parts = [self._embed_keys(part) for part in tf.split(images, self.accumulation_steps)]
        return {level: tf.concat([part[level] for part in parts], 0) for level in self.queues}

    def _train_queries(self, queries, keys):
        """Measures the loss of every query against this replica's keys, and adds it up.

        Returns:
            This replica's share of the gradients of the whole loss, multiplied by the
            optimizer's loss scale where it has one; and {name in `means`: this replica's loss}.
        """
        shares = self._query_shares(queries)
        gradients = None
        step_losses = dict.fromkeys(self.means.names, 0.0)
        finished = list(keys.values())
        for kind, (images, weights) in queries.items():
            share = shares[kind] / self.accumulation_steps
            # Of 1 or more images per anchor: small views come together.
            count = self.num_small_views if kind == _SMALL else 1
            own_keys = {level: tf.repeat(key, count, axis=0) for level, key in keys.items()}
            for part_images, *others in self._split((images, own_keys, weights)):
                # One pass after the other: a step holds the activations of one backward
                # pass, not of all.
                with tf.control_dependencies(finished):
                    part_images = tf.identity(part_images)
                level_losses, part_gradients = self._level_losses_and_gradients(
                    part_images, *others, share
                )
                for level, level_loss in level_losses.items():
                    step_losses[_part(level, kind)] += level_loss / self.accumulation_steps
                    step_losses["loss"] += self.level_weights[level] * level_loss * share
                if gradients is None:
                    gradients = part_gradients
                else:
                    gradients = [a + b for a, b in zip(gradients, part_gradients)]
                # To wait for a function's own output is to wait for its assignments only,
                # which the forward pass makes; behind an identity it is to wait for the
                # gradient. Nor has a function's output a device, which collectives ask for.
                finished = [tf.identity(gradient) for gradient in gradients]
        return finished, step_losses

    def _query_shares(self, kinds):
        """{query kind: its share of the loss, a scalar tensor}."""
        sizes = dict.fromkeys(kinds, 1.0)
        if self.pairs:
            sizes["image"] = 2.0  # The image's query and its neighbour's.
        if _SMALL in sizes:
            sizes[_SMALL] = float(self.num_small_views)
        total = sum(sizes.values())
        # Tensors, because a function is traced for every other number of Python's.
        return {
            kind: tf.convert_to_tensor(size / total, tf.float32) for kind, size in sizes.items()
        }

    def _split(self, tensors):
        """Nested tensors of one batch -> `accumulation_steps` of the same structure."""
        flat = [tf.split(tensor, self.accumulation_steps) for tensor in tf.nest.flatten(tensors)]
        return [tf.nest.pack_sequence_as(tensors, part) for part in zip(*flat)]

    def _parts_in_use(self, values, kinds):
        parts = {_part(level, kind) for level in self.query_encoder.levels for kind in kinds}
        return {name: value for name, value in values.items() if name in {"loss", *parts}}

    def make_queries(self, views, iteration, query_kinds=None):
        """What a step compares with the keys.

        Args:
            views: {name in `view_names`: [batch, height, width, 3] normalised images}.
            iteration: scalar int64, number of the step from 0; decides the boxes of CutMix.
            query_kinds: as for `train_step`.

        Returns:
            {query kind: (images, weights)}: [n, height, width, 3], n a multiple of the
            batch, and the weights of their positives, [n, num_positives].
        """
        kinds = self.kinds_in_use if query_kinds is None else query_kinds
        batch, height, width, _ = views["query"].shape
        in_warmup = self.epoch < self.neighbor_warmup_epochs
        own, other = tf.unstack(tf.where(in_warmup, [1.0, 0.0], list(self.positive_weights)))
        of_anchor = tf.stack([[own, other] if self.uses_neighbors else [own]])
        queries = {"image": (views["query"], of_anchor)}
        if "neighbor" in kinds:
            queries["neighbor"] = (views["neighbor_query"], tf.stack([[other, own]]))
        if "mixed" in kinds:
            images = views["query"]
            partners = _swap_pairs(images) if self.pairs else views["neighbor_query"]
            boxes = self._draw_boxes(iteration, batch, height, width)
            kept = cutmix.area_fractions(boxes, height, width)
            mixed = cutmix.cutmix(images, partners, boxes)
            queries["mixed"] = (mixed, tf.stack([kept, 1.0 - kept], axis=1))
        if _SMALL in kinds:
            small = [views[name] for name in self.small_view_names]
            # Anchor by anchor, so that groups of batch norm are groups of anchors.
            shape = [batch * len(small), *small[0].shape[1:]]
            queries[_SMALL] = (tf.reshape(tf.stack(small, axis=1), shape), of_anchor)
        return {
            kind: (images, tf.broadcast_to(weights, [images.shape[0], weights.shape[1]]))
            for kind, (images, weights) in queries.items()
            if kind in kinds
        }

    def _draw_boxes(self, iteration, batch, height, width):
        """CutMix boxes of this replica's images, [batch, 4], or of all images, [1, 4]."""
        all_images = batch * cross_replica.num_replicas()
        boxes = cutmix.random_boxes(
            self._step_seed(iteration, _BOX_STREAM),
            all_images if self.cutmix_box_per_image else 1,
            height,
            width,
            self.cutmix_alpha,
        )
        return cross_replica.own_part(boxes) if self.cutmix_box_per_image else boxes

    def _measure_levels(self, images, keys, weights, share):
        """One query kind: {level: its loss}, and the gradients of its share of the total."""
        with tf.GradientTape() as tape:
            embeddings = self.query_encoder(images, training=True)
            level_losses = {
                level: tf.reduce_mean(
                    losses.multi_positive_info_nce(
                        embeddings[level],
                        keys[level],
                        queue.keys,
                        self._leave_out_missing(keys[level], weights),
                        self.temperature,
                    )
                )
                for level, queue in self.queues.items()
            }
            loss = tf.add_n(
                [self.level_weights[level] * value for level, value in level_losses.items()]
            )
            # The optimizer adds up the gradients of all replicas.
            loss *= share / cross_replica.num_replicas()
            if isinstance(self.optimizer, tf.keras.mixed_precision.LossScaleOptimizer):
                loss = self.optimizer.get_scaled_loss(loss)
        gradients = tape.gradient(
            loss,
            self.query_encoder.trainable_variables,
            # Without a level there, the last stages are outside the loss.
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return level_losses, gradients

    def _leave_out_missing(self, keys, weights):
        """Weights of positives, [n, num_positives], without those that no bank has yet."""
        if not self.banks:
            return weights
        return tf.where(key_bank.has_key(keys), weights, 0.0)


def _swap_pairs(values):
    """[batch, ...] -> the same with rows 2 i and 2 i + 1 in each other's place."""
    pairs = tf.reshape(values, [values.shape[0] // 2, 2, *values.shape[1:]])
    return tf.reshape(pairs[:, ::-1], values.shape)


def _part(level, kind):
    """Name of a part of the loss, in logs and metrics."""
    return f"loss_{level}_{kind}"
