"""When the neighbors are mined, and what is logged about them."""

import functools
import sys
import time

import tensorflow as tf
from absl import logging

from csml_tf import approximate_search, mining
from csml_tf.data import neighbor_table
from csml_tf.errors import InputError
from csml_tf.training import workers

_SHARES = ("neighbor_purity", "neighbor_churn", "neighbor_recall")


class NeighborRefresh:
    """Mines the neighbor table anew every few epochs, from epoch 0 on.

    Another model may mine in place of the run's own, once and for the whole run, as the teacher
    of BINGO (arXiv:2107.01691) does: its neighbors are as good at the start as at the end.

    Args:
        source: of the training images.
        center_view: `augment.center_view.CenterView` for mining by the run's own encoder.
        num_neighbors: per image; 5 in CsMl.
        every_epochs: between two minings; 5 in CsMl.
        approximate_from: number of images from which the search is approximate, by FAISS; below
            it is exact.
        mine_with: str, the other model, as a recipe names it; None for the run's own encoder.
        open_teacher: function of no arguments that opens the other model, and returns (function
            of a batch of images to [batch, dim] features, `CenterView` of its images). Needed
            before epoch 0 only.

    Raises:
        InputError: if the source has no `num_neighbors` other images, or so many that FAISS is
            needed, and FAISS is not installed.
        ValueError: if a number is below 1.
    """

    def __init__(
        self,
        source,
        center_view,
        num_neighbors=5,
        every_epochs=5,
        approximate_from=2_000_000,
        mine_with=None,
        open_teacher=None,
    ):
        if min(num_neighbors, every_epochs, approximate_from) < 1:
            raise ValueError(
                "num_neighbors, every_epochs and approximate_from must be at least 1, "
                f"got {num_neighbors}, {every_epochs} and {approximate_from}."
            )
        if num_neighbors >= len(source):
            raise InputError(
                f"{source.name} has {len(source)} images, too few for {num_neighbors} neighbors "
                f"each: add images, or lower NUM_NEIGHBORS to {len(source) - 1} or less."
            )
        self._approximate = len(source) >= approximate_from
        if self._approximate:  # Here, not when the first mining has encoded millions of images.
            approximate_search.import_faiss(
                f"Mining {len(source)} images, {approximate_from} or more,",
                f"set APPROXIMATE_MINING_FROM above {len(source)} for an exact search",
            )
        self._source = source
        self._center_view = center_view
        self._num_neighbors = num_neighbors
        self._every_epochs = every_epochs if mine_with is None else sys.maxsize
        self._mine_with = mine_with
        self._open_teacher = open_teacher
        self.table = neighbor_table.NeighborTable(len(source), num_neighbors)

    def is_due(self, epoch):
        """Whether the table has to be mined before this epoch."""
        return epoch % self._every_epochs == 0 and int(self.table.mined_at_epoch) != epoch

    def refresh(self, encoder, epoch):
        """Mines, and returns what is worth logging.

        Args:
            encoder: `MultiLevelEncoder`; the key encoder's. Not looked at where another model
                mines.
            epoch: from 0, the one that begins.

        Returns:
            {"neighbor_churn": share of new neighbors, absent the first time,
            "neighbor_purity": share with the anchor's label, absent without labels,
            "neighbor_recall": share of the exact neighbors of some images that an approximate
            search has found, absent where it is exact,
            "mining_seconds": float, "mined_images": forward passes of one image}.

        Raises:
            InputError: if another model is to mine, and nothing opens it.
        """
        started = time.perf_counter()
        previous = self.table.neighbor_indices.numpy()
        strategy = tf.distribute.get_strategy()
        share_rows = functools.partial(workers.share_rows, strategy)
        encode, center_view = encoder.pooled_features, self._center_view
        if self._mine_with is not None:
            if self._open_teacher is None:
                raise InputError(
                    f"NeighborRefresh.mine_with is {self._mine_with!r}, and nothing opens it: set "
                    "the knob MINE_WITH, or give open_teacher in Python."
                )
            encode, center_view = self._open_teacher()
        current, recall = mining.mine_neighbors(
            *(encode, self._source, center_view, self._num_neighbors),
            share_rows=None if workers.is_alone(strategy) else share_rows,
            approximate=self._approximate,
        )
        logs = {
            "mining_seconds": time.perf_counter() - started,
            "mined_images": len(self._source),
        }
        if int(self.table.mined_at_epoch) >= 0:
            logs["neighbor_churn"] = neighbor_table.churn(previous, current)
        if self._source.labels is not None:
            logs["neighbor_purity"] = neighbor_table.purity(current, self._source.labels)
        if recall is not None:
            logs["neighbor_recall"] = recall
        self.table.assign(current, epoch)
        shares = [f"{name} {logs[name]:.1%}" for name in _SHARES if name in logs]
        logging.info(
            "neighbors mined %s: %s",
            f"before epoch {epoch + 1}" if self._mine_with is None else f"by {self._mine_with}",
            ", ".join([*shares, f"{logs['mining_seconds']:.1f} s"]),
        )
        return logs
