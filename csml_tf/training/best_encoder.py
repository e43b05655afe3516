"""The encoder of the epoch that kNN has measured best, kept while the run goes on."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np
from absl import logging

from csml_tf import whole_files
from csml_tf.errors import first_line
from csml_tf.training.run_directory import RunDirectory

_MEASURE = "knn_top1"
_FILE = "best_encoder.npz"
_EPOCH = "epoch"


class BestEncoder:
    """Weights of an encoder on disk; of equally good epochs the last.

    Args:
        directory: of the run.
    """

    def __init__(self, directory: RunDirectory):
        self._directory = directory
        self._path = directory.checkpoints / _FILE

    def offer(self, row: dict[str, Any], encoder: Any) -> None:
        """Keeps the encoder if no earlier epoch was better.

        Args:
            row: figures of its epoch, not yet in `metrics.jsonl`; without a kNN accuracy nothing
                is kept.
            encoder: `MultiLevelEncoder`.
        """
        best = self.find()
        if _MEASURE not in row or (best is not None and row[_MEASURE] < best[_MEASURE]):
            return
        with whole_files.new_file(self._path) as temporary, temporary.open("wb") as file:
            weights = {str(place): weight for place, weight in enumerate(encoder.get_weights())}
            np.savez(file, **{_EPOCH: row[_EPOCH], **weights})

    def find(self) -> dict[str, Any] | None:
        """The row of `metrics.jsonl` of the best epoch; None where none was measured."""
        rows = [row for row in self._directory.read_metrics() if _MEASURE in row]
        return max(reversed(rows), key=lambda row: row[_MEASURE], default=None)

    def load(self, encoder: Any) -> dict[str, Any] | None:
        """Gives an encoder the weights of the best epoch, if that was not the last.

        Returns:
            The row of that epoch; None, and the encoder stays, where the last is the best, none
            was measured, or its weights are not there.
        """
        best = self.find()
        if best is None or best[_EPOCH] == self._directory.read_metrics()[-1][_EPOCH]:
            return None
        if not self._path.is_file():
            return None
        try:
            with self._path.open("rb") as file, np.load(file) as kept:
                if int(kept[_EPOCH]) != best[_EPOCH]:
                    return None
                weights = [kept[str(place)] for place in range(len(kept.files) - 1)]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            logging.warning(
                "The encoder of the best epoch, %d, cannot be read (%s) and is left out.",
                *(best[_EPOCH], first_line(error)),
            )
            return None
        encoder.set_weights(weights)
        return best
