"""What was measured with the zoo's encoders and recipes: `results.json`, checked."""

import dataclasses
import json
import pathlib
import statistics

KINDS = ("knn", "linear")
_PATH = pathlib.Path(__file__).with_name("results.json")


@dataclasses.dataclass(frozen=True)
class Result:
    """Top-1 accuracies in [0, 1] of one recipe under one protocol, one for each run.

    Attributes:
        id: of the `Entry`.
        bindings: what the runs changed of the recipe.
        kind: one of `KINDS`.
        protocol: all that a reader needs to compare, in words.
        encoder: of the trained encoder of each run.
        untrained: of the same network before training; empty where it was not measured.
        raw_pixels: in place of features; empty where it was not measured.

    Raises:
        ValueError: if one of them cannot be right.
    """

    id: str
    bindings: tuple[str, ...]
    kind: str
    protocol: str
    encoder: tuple[float, ...]
    untrained: tuple[float, ...] = ()
    raw_pixels: tuple[float, ...] = ()

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"{self.id}: kind must be one of {KINDS}, got {self.kind!r}.")
        if not self.encoder:
            raise ValueError(f"{self.id}: a result has at least one run.")
        if not all(0 <= top1 <= 1 for top1 in self.encoder + self.untrained + self.raw_pixels):
            raise ValueError(f"{self.id}: accuracies are from 0 to 1.")


def read():
    """-> a tuple of all `Result`s, in the order of the file."""
    rows = json.loads(_PATH.read_text(encoding="utf-8"))
    return tuple(
        Result(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()})
        for row in rows
    )


def summary(top1):
    """Accuracies of several runs in words: their mean and sample standard deviation.

    Args:
        top1: accuracies in [0, 1].

    Example:
        >>> summary([0.764, 0.766, 0.768])
        '76.60 ± 0.20 % (3 runs)'
        >>> summary([0.986]), summary([])
        ('98.60 % (1 run)', 'not measured')
    """
    if not top1:
        return "not measured"
    mean = 100 * statistics.fmean(top1)
    if len(top1) == 1:
        return f"{mean:.2f} % (1 run)"
    return f"{mean:.2f} ± {100 * statistics.stdev(top1):.2f} % ({len(top1)} runs)"
