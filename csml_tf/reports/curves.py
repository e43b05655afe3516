"""The charts of a run over its epochs, out of the rows of its metrics.jsonl."""

import math

from csml_tf.reports import palette
from csml_tf.reports.chart import Chart, Curve
from csml_tf.reports.part import LeftOut

_TOTAL = "#333333"
_KIND_COLORS = {
    "image": palette.COLORS[0],
    "neighbor": palette.COLORS[6],
    "mixed": palette.COLORS[4],
    "small": palette.COLORS[5],
    "image_2": palette.COLORS[9],
    "neighbor_2": palette.COLORS[1],
}
_PART = "loss_"
_BASELINES = "knn_baselines"
_BASELINE_NAMES = {"pixels": "raw pixels", "color_histogram": "color histogram"}

# (name in a row, title of its chart, factor).
LOSS = ("loss", "loss, all levels", 1)
KNN = ("knn_top1", "kNN top-1, %", 100)
LINEAR = ("linear_top1", "linear probe top-1, %", 100)
HEALTH = (
    ("effective_rank", "effective rank of the embeddings", 1),
    ("stranger_cosine", "mean cosine of strangers", 1),
    ("queue_entropy_share", "entropy in the queue, % of the most", 100),
)
SPEED = (
    ("learning_rate", "learning rate", 1),
    ("images_per_sec", "images per second", 1),
    ("input_wait_fraction", "waiting for input, % of the time", 100),
)
NEIGHBORS = (
    ("neighbor_purity", "purity of the neighbors, %", 100),
    ("neighbor_churn", "churn of the neighbors, %", 100),
    ("neighbor_recall", "recall of an approximate search, %", 100),
    ("mining_seconds", "seconds of mining", 1),
)


def losses(rows, neighbors_from=None, band=None):
    """The whole loss, and one chart per level with those parts of it that differ from it.

    Args:
        rows: of `metrics.jsonl`.
        neighbors_from: epoch from 1 from which the neighbors' keys are positives, for a line
            there; None for no line.
        band: `reference_runs.Band` around the whole loss, or None.

    Returns:
        List of `Chart`.
    """
    end = rows[-1]["epoch"]
    mark = neighbors_from if neighbors_from is not None and neighbors_from <= end else None
    total = points(rows, "loss")
    levels = {}
    for name in _names(rows):
        if name.startswith(_PART) and points(rows, name) != total:
            level, _, kind = name[len(_PART) :].partition("_")
            levels.setdefault(level, []).append((kind, name))
    around = {} if band is None else band.loss
    charts = [Chart(LOSS[1], [Curve(total, _TOTAL)], end, band=around, mark=mark)]
    for level, members in levels.items():
        several = len(members) > 1
        parts = [
            Curve(points(rows, name), color, kind if several else "")
            for kind, name in members
            for color in [_KIND_COLORS.get(kind, palette.COLORS[8])]
        ]
        title = f"loss, {level}" if several else f"loss, {level}, {members[0][0]}"
        charts.append(Chart(title, parts, end, mark=mark))
    return charts


def speed(rows):
    """Learning rate, images per second, and the share of the time that waited for input."""
    return _charts(rows, SPEED, from_zero=True)


def accuracy(rows, band=None):
    """Accuracy by kNN, and that of a linear probe where the run has measured it.

    Args:
        rows: of `metrics.jsonl`; the newest `knn_baselines` in them, {name: accuracy in
            [0, 1]}, are dashed lines.
        band: `reference_runs.Band`, or None.

    Raises:
        LeftOut: if neither was measured.
    """
    charts = []
    if KNN[0] in _names(rows):
        levels = {
            _BASELINE_NAMES.get(name, name.replace("_", " ")): 100 * value
            for name, value in baselines(rows).items()
        }
        around = {} if band is None else band.knn_top1
        around = {epoch: (100 * low, 100 * high) for epoch, (low, high) in around.items()}
        charts += _charts(rows, [KNN], levels=levels, band=around)
    charts += _charts(rows, [LINEAR])
    if not charts:
        raise LeftOut(
            "No accuracy was measured during this run: that needs a data set with labels, and an "
            "epoch that MONITOR_EVERY_EPOCHS divides."
        )
    return charts


def baselines(rows):
    """{name: kNN accuracy in [0, 1]} of what needs no training, as last measured; {} if never."""
    for row in reversed(rows):
        if isinstance(row.get(_BASELINES), dict):
            return {name: value for name, value in row[_BASELINES].items() if _is_number(value)}
    return {}


def health(rows):
    """How spread out the embeddings are: their rank, how alike strangers are, the queue's entropy.

    Raises:
        LeftOut: if the run has not measured it.
    """
    charts = _charts(rows, HEALTH)
    if not charts:
        raise LeftOut("This run was trained by a csml_tf that did not measure it.")
    return charts


def neighbors(rows):
    """Purity, churn and recall of the mined neighbors, and the seconds that mining took.

    Raises:
        LeftOut: if the run mines no neighbors, or has not by now.
    """
    charts = _charts(rows, NEIGHBORS)
    if not charts:
        raise LeftOut(
            "This run mines no neighbors: its recipe has none, as MoCo's; CsMl's recipes do."
        )
    return charts


def points(rows, name, factor=1):
    """[(epoch, value)] of one figure, where it is a finite number."""
    return [(row["epoch"], row[name] * factor) for row in rows if _is_number(row.get(name))]


def _charts(rows, figures, **options):
    """A chart for each figure that the run has measured."""
    return [
        Chart(title, [Curve(found)], rows[-1]["epoch"], **options)
        for name, title, factor in figures
        for found in [points(rows, name, factor)]
        if found
    ]


def _names(rows):
    """Names of all figures, in the order of their first epoch."""
    return list(dict.fromkeys(n for row in rows for n, v in row.items() if _is_number(v)))


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
