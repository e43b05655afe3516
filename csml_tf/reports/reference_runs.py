"""Finished runs of the recipes, to tell whether a run of the same recipe goes as they did."""

import ast
import contextlib
import dataclasses
import json
import pathlib
import re
from typing import Optional

from csml_tf import places, whole_files
from csml_tf.errors import InputError
from csml_tf.reports.run_record import RunRecord

FILE = "reference_runs.json"
_PACKAGED = pathlib.Path(__file__).with_name(FILE)
# Bindings that may differ between runs that should end alike, but for chance and rounding. The
# data set is compared by itself: it can be a flag, too.
_FREE = {
    "DATASET",
    "SEED",
    "AUGMENT_ON",
    "JIT_COMPILE",
    "CHECKPOINT_EVERY_STEPS",
    "MONITOR_EVERY_EPOCHS",
    "LINEAR_EVERY_EPOCHS",
}
# Beyond the range of the references: what another seed may do where there are few of them.
KNN_MARGIN = 0.03
LOSS_MARGIN = 0.03


@dataclasses.dataclass(frozen=True)
class Band:
    """What the reference runs were like, epoch by epoch.

    Attributes:
        num_runs: how many there are.
        loss: {epoch: (lowest, highest)}, margins included.
        knn_top1: likewise, in [0, 1], of the epochs where it was measured.
        knn_protocol: by which protocol it was measured; None if never.
    """

    num_runs: int
    loss: dict
    knn_top1: dict
    knn_protocol: Optional[str]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How a run stands beside the references.

    Attributes:
        healthy: whether the newest figures lie inside the band; more accuracy than theirs
            is inside.
        text: one sentence with the figures.
    """

    healthy: bool
    text: str


def find(record: RunRecord, path=_PACKAGED) -> Optional[Band]:
    """The band of the runs whose recipe, bindings, data set and epochs a run shares.

    Bindings that make no difference to the result do not count, nor does their order.

    Args:
        record: `run_record.RunRecord`.
        path: of the file of reference runs.

    Returns:
        `Band`, or None if there are none.
    """
    for entry in _read(path):
        if _is_of(record, entry):
            return _make_band(entry["runs"])
    return None


def judge(rows: list, band: Band) -> Verdict:
    """Compares the newest figures of a run with the band.

    Args:
        rows: of `metrics.jsonl`.
        band: `Band`.

    Returns:
        `Verdict`.
    """
    comparisons = [_compare_loss(rows, band), _compare_knn(rows, band)]
    comparisons = [each for each in comparisons if each is not None]
    if not comparisons:
        return Verdict(True, "No epoch has a figure that the reference runs have, too.")
    healthy = all(inside for inside, _ in comparisons)
    figures = "; ".join(text for _, text in comparisons)
    opening = "Goes as the reference runs went" if healthy else "Not as the reference runs went"
    return Verdict(healthy, f"{opening}: {figures}.")


def add(record: RunRecord, folder) -> str:
    """Adds a finished run to the file in a folder, in place of one with the same seed.

    Args:
        record: `run_record.RunRecord`.
        folder: that holds the file, or will.

    Returns:
        One line about it.

    Raises:
        InputError: if the run is not finished, or the file cannot be read or written.
    """
    epochs = record.setting("pretrain.epochs")
    if record.rows[-1]["epoch"] != epochs:
        raise InputError(
            f"{record.name} is {record.progress()}: a reference is a whole run, let "
            "csml-tf train finish it."
        )
    path = places.at(folder, FILE)
    protocol = record.knn()
    run = {
        "seed": record.setting("pretrain.seed"),
        "code": record.notes.get("Code", "not recorded"),
        "knn_protocol": None if protocol is None else protocol[2],
        "loss": [round(row["loss"], 5) for row in record.rows],
        "knn_top1": {
            row["epoch"]: round(row["knn_top1"], 5)
            for row in record.rows
            if row.get("knn_top1") is not None
        },
    }
    entries = _read(path) if path.exists() else []
    entry = next((each for each in entries if _is_of(record, each)), None)
    if entry is None:
        entry = {**_describe(record), "runs": []}
        entries.append(entry)
    others = [each for each in entry["runs"] if each["seed"] != run["seed"]]
    entry["runs"] = sorted([*others, run], key=lambda each: each["seed"])
    whole_files.write(path, _to_json(entries), "choose another --output")
    bindings = ", ".join(f"{name} = {value}" for name, value in entry["bindings"].items())
    recipe = " with ".join(filter(None, [entry["recipe"], bindings]))
    return f"{path}: {len(entry['runs'])} runs of {recipe}"


def _describe(record):
    """What a run shares with those that it can be compared with."""
    recipe, _, overrides = record.notes.get("Recipe", record.name).partition(" with ")
    bindings = _read_bindings(overrides)
    if "INIT_FROM" in record.settings:  # Weights that the run began with.
        bindings["INIT_FROM"] = record.settings["INIT_FROM"]
    return {
        "recipe": recipe,
        "bindings": bindings,
        "dataset": record.dataset,
        "epochs": record.setting("pretrain.epochs"),
    }


def _is_of(record, entry):
    return all(entry[name] == value for name, value in _describe(record).items())


def _read_bindings(text):
    """{name: value} out of "A = 1, B = ('a', 'b')", spelt one way, without the free ones."""
    bindings = {}
    for binding in filter(None, re.split(r",\s*(?=[\w./]+\s*=)", text)):
        name, _, value = (part.strip() for part in binding.partition("="))
        with contextlib.suppress(ValueError, SyntaxError):  # A reference, @CsMl or %EPOCHS.
            value = repr(ast.literal_eval(value))
        bindings[name] = value
    return {name: value for name, value in bindings.items() if name not in _FREE}


def _to_json(entries):
    """The file's text: a line for each run."""
    texts = []
    for entry in entries:
        head = json.dumps({name: value for name, value in entry.items() if name != "runs"})
        runs = ",\n".join(f"  {json.dumps(run)}" for run in entry["runs"])
        texts.append(f' {head[:-1]}, "runs": [\n{runs}\n ]}}')
    return "[\n" + ",\n".join(texts) + "\n]\n"


def _read(path):
    try:
        return json.loads(places.at(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"The reference runs in {path} cannot be read ({error}): install the package again."
        ) from error


def _make_band(runs):
    loss, knn = {}, {}
    for epoch in range(1, len(runs[0]["loss"]) + 1):
        losses = [run["loss"][epoch - 1] for run in runs]
        loss[epoch] = (min(losses) * (1 - LOSS_MARGIN), max(losses) * (1 + LOSS_MARGIN))
        key = str(epoch)  # JSON has no other names.
        found = [run["knn_top1"][key] for run in runs if key in run["knn_top1"]]
        if found:
            knn[epoch] = (max(min(found) - KNN_MARGIN, 0.0), min(max(found) + KNN_MARGIN, 1.0))
    return Band(len(runs), loss, knn, runs[0]["knn_protocol"])


def _compare_loss(rows, band):
    row = _newest(rows, "loss", band.loss)
    if row is None:
        return None
    (low, high), value = band.loss[row["epoch"]], row["loss"]
    text = f"after epoch {row['epoch']} the loss is {value:.3f}, theirs {low:.3f} to {high:.3f}"
    return low <= value <= high, text


def _compare_knn(rows, band):
    row = _newest(rows, "knn_top1", band.knn_top1)
    if row is None or row.get("knn_protocol") != band.knn_protocol:
        return None
    (low, high), value = band.knn_top1[row["epoch"]], row["knn_top1"]
    text = f"after epoch {row['epoch']} kNN top-1 is {value:.2%}, theirs {low:.2%} to {high:.2%}"
    return value >= low, text


def _newest(rows, name, band):
    """The last row that has a figure of an epoch of the band, or None."""
    for row in reversed(rows):
        if row.get(name) is not None and row["epoch"] in band:
            return row
    return None
