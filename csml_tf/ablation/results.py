"""`results.json` of an ablation: all that its tables are made of."""

import dataclasses
import json
import pathlib
from typing import Optional

from csml_tf import whole_files
from csml_tf.errors import InputError
from csml_tf.training.run_directory import RunDirectory

_FILE = "results.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all runs of an ablation have in common.

    Attributes:
        gin_bindings: tuple of overrides of every recipe.
        dataset: data set string; None where each recipe's own is taken.
    """

    gin_bindings: tuple = ()
    dataset: Optional[str] = None

    def describe(self):
        """The settings in a few words."""
        return f"gin_bindings {list(self.gin_bindings)} and dataset {self.dataset}"


class Results:
    """The runs of an ablation by recipe and seed, kept in a file after each change.

    An entry is {"recipe", "seed", "model_dir", "curve", "protocols"}, or with "failed", a
    sentence, in place of what is missing. "curve" is as of `read_curve`, "protocols" {name:
    card}.

    Args:
        directory: folder of the ablation.
        settings: `Settings`; None takes those of the file.

    Raises:
        InputError: if the file is of other settings, missing without any, or damaged.
    """

    def __init__(self, directory, settings=None):
        self._path = pathlib.Path(directory, _FILE)
        self.entries = {}
        self.settings = settings
        if self._path.exists():
            self._read(settings)
        elif settings is None:
            raise InputError(
                f"There is no ablation in {directory}, which has no {_FILE}: give --output a "
                "folder that csml-tf ablate has written."
            )

    def _read(self, settings):
        try:
            content = json.loads(self._path.read_text())
            there = Settings(tuple(content["gin_bindings"]), content["dataset"])
            self.entries = {(run["recipe"], run["seed"]): run for run in content["runs"]}
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(
                f"{self._path} is damaged ({error!r}): delete it, and repeat."
            ) from error
        if settings not in (None, there):
            raise InputError(
                f"{self._path} is of runs with {there.describe()}, not {settings.describe()}: "
                "choose another --output."
            )
        self.settings = there

    def exit_code(self):
        """0, or 1 where a run has failed."""
        return int(any("failed" in entry for entry in self.entries.values()))

    def lacks(self, recipe, seed, protocols):
        """Those of the protocols that a run is not measured by yet."""
        done = self.entries.get((recipe, seed), {}).get("protocols", {})
        return [name for name in protocols if name not in done]

    def put(self, entry):
        """Adds an entry, or replaces that of the same recipe and seed, and writes the file."""
        self.entries[entry["recipe"], entry["seed"]] = entry
        content = {
            "gin_bindings": list(self.settings.gin_bindings),
            "dataset": self.settings.dataset,
            "runs": list(self.entries.values()),
        }
        whole_files.write(self._path, json.dumps(content, indent=2) + "\n")


def read_curve(model_dir):
    """What a run had cost and reached after each of its epochs.

    Args:
        model_dir: run directory.

    Returns:
        list of {"epoch": from 1, "knn_top1": in [0, 1] or None, "seconds": of training and
        mining by then, the measuring of kNN left out, "forward_units": by then, one for each
        image that was mined included, "step_units": the same without mining, "anchors": by
        then, "images_per_sec": of the epoch or None}.
    """
    curve = []
    seconds = units = mined = anchors = 0
    for row in RunDirectory(model_dir).read_metrics():
        measuring = ("knn_seconds", "knn_baselines_seconds")
        seconds += row["seconds"] - sum(row.get(name, 0.0) for name in measuring)
        units += row["forward_units"]
        mined += row.get("mined_images", 0)
        anchors += row["anchors"]
        curve.append(
            {
                "epoch": row["epoch"],
                "knn_top1": row.get("knn_top1"),
                "seconds": seconds,
                "forward_units": units + mined,
                "step_units": units,
                "anchors": anchors,
                "images_per_sec": row["images_per_sec"],
            }
        )
    return curve
