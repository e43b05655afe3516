"""Positives from other images: neighbors, CutMix, their weights, and when they begin to count."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from csml_tf.augment import cutmix

# What may serve as a query: a view of the anchor, of its neighbor, their CutMix.
QUERY_KINDS = ("image", "neighbor", "mixed")

# The views of one anchor, as the input pipeline names them.
ANCHOR_VIEWS = ("query", "key")
NEIGHBOR_VIEWS = ("neighbor_query", "neighbor_key")

# Kinds of a symmetric method's second view, and of small views.
_SECOND = {"image": "image_2", "neighbor": "neighbor_2"}
_SMALL = "small"


class Query(NamedTuple):
    """The queries of one kind in a step.

    Attributes:
        images: [n, height, width, 3], n a multiple of the batch.
        weights: [n, columns] of the positives, as for `method.Method.loss`.
        share: scalar, of the kind in the loss; all shares add up to 1.
        family_size: scalar int32, images of the batch side by side that are relatives: 2 in a
            batch of pairs, else 1.
        per_anchor: how many of the images belong to one anchor; they come together.
    """

    images: tf.Tensor
    weights: tf.Tensor
    share: tf.Tensor
    family_size: tf.Tensor
    per_anchor: int = 1


class CrossSamples:
    """The queries of a step and their positives, for any base method.

    For an anchor x and one of its nearest neighbors x+ the loss is the mean over the queries

        image:    L(q;  {(k,  own), (k+, other)})
        neighbor: L(q+; {(k+, own), (k,  other)})
        mixed:    L(m;  {(k,  a),   (k+, 1 - a)})
        small:    L(s;  {(k,  own), (k+, other)}) for each small view s of x

    where L is the base method's loss with weighted positives, m the CutMix of q and q+, a the
    area fraction of q in m, and (own, other) is `positive_weights`, but (1, 0) while the epoch
    is below `neighbor_warmup_epochs` (arXiv:2012.02733). Small views are the multi-crop of
    arXiv:2006.09882; that each counts as much as any other query is our choice. A symmetric
    method has further queries image_2 and neighbor_2, of the views behind k and k+ against the
    targets of q and q+ (our choice).

    Batches of pairs are a cheaper way to the same: the batch holds x and x+ side by side, each
    the other's neighbor and both of them anchors. One pass over the queries of the batch
    then serves as image and as neighbor, and one over its keys gives k and k+, since the
    other one's key is there already; the CutMix is of both in turn. The loss is the mean of
    the loss above over the two roles,

        mean over the images x of the batch of
            (2 * L(x; ..) + L(m; ..) + sum of L(s; ..)) / (2 + 1 + number of small views)

    at 7 forward passes of an image instead of 11, a query's counted as 3. Our option. In an
    epoch that neither counts nor mixes neighbors the batches hold different images instead.

    The base method alone is `query_kinds=("image",)` and `positive_weights=(1.0, 0.0)`.

    Args:
        query_kinds: those of `QUERY_KINDS` that are trained.
        positive_weights: (own, other), each at least 0.
        neighbor_warmup_epochs: epochs without neighbors as positives, because they
            are not meaningful yet. 11 in the authors' code, for 200 epochs.
        cutmix_warmup_epochs: epochs without mixed queries: the loss is the mean over the others,
            and a step costs that much less. 0 in the authors' code, where they count from the
            start.
        cutmix_alpha: the area fraction is drawn from Beta(alpha, alpha); one box serves the
            whole batch, as in the authors' code.
        pairs: whether batches are pairs, see above: images 2 i and 2 i + 1 are neighbors.
            Needs both of the query kinds "image" and "neighbor".
        num_small_views: small views of each anchor, queries only; 0 for none.

    Raises:
        ValueError: if an argument is outside the above, or leaves nothing to train on.
    """

    def __init__(
        self,
        query_kinds: tuple[str, ...] = QUERY_KINDS,
        positive_weights: tuple[float, float] = (0.5, 0.5),
        neighbor_warmup_epochs: int = 11,
        cutmix_warmup_epochs: int = 0,
        cutmix_alpha: float = 2.0,
        pairs: bool = False,
        num_small_views: int = 0,
    ):
        if len(positive_weights) != 2 or min(positive_weights) < 0:
            raise ValueError(
                f"positive_weights must be (own, other), each at least 0, got {positive_weights}."
            )
        if cutmix_alpha <= 0:
            raise ValueError(f"cutmix_alpha must be above 0, got {cutmix_alpha}.")
        _check_query_kinds(query_kinds, pairs, cutmix_warmup_epochs, num_small_views)
        self.positive_weights = tuple(positive_weights)
        self.neighbor_warmup_epochs = neighbor_warmup_epochs
        self.cutmix_warmup_epochs = cutmix_warmup_epochs
        self.cutmix_alpha = cutmix_alpha
        self.pairs = pairs
        self.num_small_views = num_small_views
        # In pairs the queries of images are those of neighbors, too.
        kinds = tuple(kind for kind in query_kinds if not (pairs and kind == "neighbor"))
        self._kinds = kinds + ((_SMALL,) if num_small_views else ())

    @property
    def uses_neighbors(self) -> bool:
        """Whether an anchor comes with one of its neighbors."""
        of_anchors_alone = {*self._kinds} <= {"image", _SMALL}
        return self.pairs or not of_anchors_alone or self.positive_weights[1] > 0

    @property
    def view_names(self) -> tuple[str, ...]:
        """Names of the views that a batch has."""
        of_neighbors = NEIGHBOR_VIEWS if self.uses_neighbors and not self.pairs else ()
        return ANCHOR_VIEWS + of_neighbors + self.small_view_names

    @property
    def small_view_names(self) -> tuple[str, ...]:
        """Those of `view_names` that are small."""
        return tuple(f"{_SMALL}_{number}" for number in range(self.num_small_views))

    def kinds(self, both_views: bool = False) -> tuple[str, ...]:
        """All kinds of queries of a run; `both_views` for a symmetric method."""
        second = [_SECOND[kind] for kind in self._kinds if both_views and kind in _SECOND]
        return (*self._kinds, *second)

    def kinds_in_use(self, epoch: int, both_views: bool = False) -> tuple[str, ...]:
        """Those that an epoch trains; what waits costs nothing."""
        waits = epoch < self.cutmix_warmup_epochs
        return tuple(k for k in self.kinds(both_views) if not (waits and k == "mixed"))

    def counts_neighbors(self, epoch: int) -> bool:
        """Whether neighbors are positives of images in an epoch."""
        return self.positive_weights[1] > 0 and epoch >= self.neighbor_warmup_epochs

    def draws_pairs(self, epoch):
        """Whether the batches of an epoch, an integer or a scalar, hold neighbors side by side.

        As long as they would be of no use they do harm: a network that is young has neighbors that
        look alike, and a batch with as many different images tells it more (docs/methods.md).
        """
        begins = []
        if self.positive_weights[1] > 0:
            begins.append(self.neighbor_warmup_epochs)
        if "mixed" in self._kinds:
            begins.append(self.cutmix_warmup_epochs)
        return self.pairs and bool(begins) and epoch >= min(begins)

    def target_views(self, both_views: bool = False) -> tuple[str, ...]:
        """The views that targets are made of, in the order of the columns of `weights`.

        In pairs the columns are twice as many: `with_partners` makes the others.
        """
        views = ("key", "query") if both_views else ("key",)
        if not self.uses_neighbors or self.pairs:
            return views
        return tuple(name for view in views for name in (view, f"neighbor_{view}"))

    def with_partners(self, targets):
        """{level: [batch, views, dim]} -> in pairs, each column followed by the other one's."""
        if not self.pairs:
            return targets
        return {
            level: tf.reshape(
                tf.stack([columns, _swap_pairs(columns)], axis=2),
                [columns.shape[0], -1, columns.shape[2]],
            )
            for level, columns in targets.items()
        }

    def anchor_columns(self, both_views: bool = False) -> tuple[int, ...]:
        """The columns, of those that `with_partners` makes, that are of the anchors themselves."""
        of_a_view = 2 if self.uses_neighbors else 1
        return (0, of_a_view) if both_views else (0,)

    def kinds_of_targets(self) -> tuple[str, ...]:
        """The query kind that is the target's own view, for each column of `target_views`."""
        own = {"query": "image", "key": "image_2"}
        own.update({"neighbor_query": "neighbor", "neighbor_key": "neighbor_2"})
        return tuple(own[name] for name in self.target_views(both_views=True))

    def queries(self, views, kinds, epoch, seed, both_views=False) -> dict[str, Query]:
        """What a step compares with the targets.

        Args:
            views: {name in `view_names`: [batch, height, width, 3] normalized images}.
            kinds: those to make, of `kinds`.
            epoch: scalar integer, from 0.
            seed: [2] integer, of this step and alike on all replicas: it decides the box.
            both_views: whether the method is symmetric.
        """
        views_of = {"image": "query", "neighbor": "neighbor_query"}
        views_of.update({"image_2": "key", "neighbor_2": "neighbor_key"})
        is_early = epoch < self.neighbor_warmup_epochs
        own, other = tf.unstack(tf.where(is_early, [1.0, 0.0], list(self.positive_weights)))
        nothing = tf.zeros_like(own)
        family_size = tf.where(self.draws_pairs(epoch), 2, 1)
        made = {}
        for kind in kinds:
            per_anchor, is_second = 1, kind in _SECOND.values()
            of_anchor = [own, other] if self.uses_neighbors else [own]
            if kind == "mixed":
                images, of_anchor = self._mix(views, seed)
            elif kind == _SMALL:
                per_anchor = self.num_small_views
                images = self._small_images(views)
            else:
                images = views[views_of[kind]]
                if kind.startswith("neighbor"):
                    of_anchor = [other, own]
            # A small view has both targets of a symmetric method as positives, by halves.
            halves = both_views and kind == _SMALL
            weights = [weight / 2 if halves else weight for weight in of_anchor]
            if both_views:
                others = weights if halves else [nothing] * len(weights)
                weights = [*others, *weights] if is_second else [*weights, *others]
            shape = [images.shape[0], len(weights)]
            rows = tf.broadcast_to(tf.stack(weights)[None], shape)
            share = self.shares(kinds, both_views)[kind]
            made[kind] = Query(images, rows, share, family_size, per_anchor)
        return made

    def _mix(self, views, seed):
        images = views["query"]
        partners = _swap_pairs(images) if self.pairs else views["neighbor_query"]
        _, height, width, _ = images.shape
        box = cutmix.random_boxes(seed, 1, height, width, self.cutmix_alpha)
        kept = cutmix.area_fractions(box, height, width)[0]
        return cutmix.cutmix(images, partners, box), [kept, 1.0 - kept]

    def _small_images(self, views):
        small = [views[name] for name in self.small_view_names]
        # Anchor by anchor, so that groups of batch norm are groups of anchors.
        shape = [small[0].shape[0] * len(small), *small[0].shape[1:]]
        return tf.reshape(tf.stack(small, axis=1), shape)

    def shares(self, kinds, both_views: bool = False):
        """{query kind: its share of the loss, a scalar tensor}."""
        # In pairs an image's query is its neighbor's, too.
        twice = ("image", "image_2") if self.pairs else ()
        sizes = {kind: 2.0 if kind in twice else 1.0 for kind in kinds}
        if _SMALL in sizes:
            # Compared with both targets: each comparison counts alike, as in arXiv:2006.09882.
            sizes[_SMALL] = self.num_small_views * (2.0 if both_views else 1.0)
        total = sum(sizes.values())
        # Tensors, because a function is traced for every other number of Python's.
        return {kind: tf.constant(size / total, tf.float32) for kind, size in sizes.items()}


def _swap_pairs(values):
    """[batch, ...] -> the same with rows 2 i and 2 i + 1 in each other's place."""
    pairs = tf.reshape(values, [values.shape[0] // 2, 2, *values.shape[1:]])
    return tf.reshape(pairs[:, ::-1], values.shape)


def _check_query_kinds(query_kinds, pairs, cutmix_warmup_epochs, num_small_views):
    unknown = sorted(set(query_kinds) - set(QUERY_KINDS))
    if unknown or not query_kinds or len(set(query_kinds)) < len(query_kinds):
        raise ValueError(
            f"query_kinds must be out of {QUERY_KINDS}, each once, got {tuple(query_kinds)}."
        )
    if pairs and not {"image", "neighbor"} <= set(query_kinds):
        raise ValueError(
            "In pairs every image is anchor and neighbor at once, so query_kinds must have both, "
            f"got {tuple(query_kinds)}."
        )
    if num_small_views < 0:
        raise ValueError(f"num_small_views must be at least 0, got {num_small_views}.")
    if cutmix_warmup_epochs < 0:
        raise ValueError(f"cutmix_warmup_epochs must be at least 0, got {cutmix_warmup_epochs}.")
    if cutmix_warmup_epochs and tuple(query_kinds) == ("mixed",) and not num_small_views:
        raise ValueError("Without another query there is no loss while the mixed ones wait.")
