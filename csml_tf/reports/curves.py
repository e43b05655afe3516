"""Curves over the epochs of a run, out of the rows of its metrics.jsonl."""

import math

from csml_tf.reports import canvas, palette
from csml_tf.reports.part import LeftOut

_WIDTH = 10.0
_PANEL_HEIGHT = 2.5
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


def losses(rows, neighbors_from=None):
    """The whole loss, and one panel per level with the parts of it.

    Args:
        rows: of `metrics.jsonl`.
        neighbors_from: epoch from 1 from which the neighbors' keys are positives, for a line
            there; None for no line.

    Returns:
        `matplotlib.figure.Figure`.
    """
    parts = [name for name in _names(rows) if name.startswith(_PART)]
    levels = {}
    for name in parts:
        level, _, kind = name[len(_PART) :].partition("_")
        levels.setdefault(level, []).append((kind, name))
    with canvas.style():
        panels = 1 + len(levels)
        figure = canvas.figure(_WIDTH, _PANEL_HEIGHT)
        axes = figure.subplots(1, panels, squeeze=False)[0]
        _draw(axes[0], rows, "loss", _TOTAL)
        axes[0].set_title("loss, all levels")
        for panel, (level, members) in zip(axes[1:], levels.items()):
            for kind, name in members:
                _draw(panel, rows, name, _KIND_COLORS.get(kind, palette.COLORS[8]), kind)
            panel.set_title(level)
            panel.legend(fontsize=8)
        for panel in axes:
            _finish(panel, rows)
            if neighbors_from is not None and neighbors_from <= rows[-1]["epoch"]:
                panel.axvline(neighbors_from, color=palette.UNKNOWN[0], linestyle=":")
        return figure


def speed(rows):
    """Learning rate, images per second, and the share of the time that waited for input.

    Returns:
        `matplotlib.figure.Figure`.
    """
    panels = (
        ("learning_rate", "learning rate", 1),
        ("images_per_sec", "images per second", 1),
        ("input_wait_fraction", "waiting for input, % of the time", 100),
    )
    figure = _panels(rows, panels)
    for axes in figure.axes:
        axes.set_ylim(bottom=0)
    return figure


def accuracy(rows):
    """Accuracy by kNN, and that of a linear probe where the run has measured it.

    Raises:
        LeftOut: if neither was measured.
    """
    panels = (
        ("knn_top1", "kNN top-1, %", 100),
        ("linear_top1", "linear probe top-1, %", 100),
    )
    panels = [panel for panel in panels if panel[0] in _names(rows)]
    if not panels:
        raise LeftOut(
            "No accuracy was measured during this run: that needs a data set with labels, and an "
            "epoch that MONITOR_EVERY_EPOCHS divides."
        )
    return _panels(rows, panels)


def health(rows):
    """How spread out the embeddings are: their rank, how alike strangers are, the queue's entropy.

    Raises:
        LeftOut: if the run has not measured it.
    """
    panels = (
        ("effective_rank", "effective rank of the embeddings", 1),
        ("stranger_cosine", "mean cosine of strangers", 1),
        ("queue_entropy_share", "entropy in the queue, % of the most", 100),
    )
    panels = [panel for panel in panels if panel[0] in _names(rows)]
    if not panels:
        raise LeftOut("This run was trained by a csml_tf that did not measure it.")
    return _panels(rows, panels)


def beside_references(rows, band):
    """Loss and kNN accuracy, over the range of the reference runs.

    Args:
        rows: of `metrics.jsonl`.
        band: `reference_runs.Band`.

    Returns:
        `matplotlib.figure.Figure`.
    """
    panels = (("loss", "loss", 1), ("knn_top1", "kNN top-1, %", 100))
    figure = _panels(rows, panels)
    for axes, (_, _, factor), limits in zip(figure.axes, panels, (band.loss, band.knn_top1)):
        low, high = zip(*limits.values()) if limits else ((), ())
        edges = [[factor * value for value in edge] for edge in (low, high)]
        axes.fill_between([*limits], *edges, color=palette.COLORS[0], alpha=0.2, linewidth=0)
        axes.set_xlim(0, max([*limits, rows[-1]["epoch"]]) * 1.02)
    return figure


def neighbors(rows):
    """Purity and churn of the mined neighbors, and the seconds that mining took.

    Raises:
        LeftOut: if the run mines no neighbors, or has not by now.
    """
    panels = (
        ("neighbor_purity", "purity, %", 100),
        ("neighbor_churn", "churn, %", 100),
        ("mining_seconds", "seconds of mining", 1),
    )
    panels = [panel for panel in panels if panel[0] in _names(rows)]
    if not panels:
        raise LeftOut(
            "This run mines no neighbors: its recipe has none, as MoCo's; CsMl's recipes do."
        )
    return _panels(rows, panels)


def _panels(rows, panels):
    with canvas.style():
        figure = canvas.figure(_WIDTH, _PANEL_HEIGHT)
        axes = figure.subplots(1, max(len(panels), 2), squeeze=False)[0]
        for panel, (name, title, factor) in zip(axes, panels):
            _draw(panel, rows, name, palette.COLORS[0], factor=factor)
            panel.set_title(title)
            _finish(panel, rows)
        for panel in axes[len(panels) :]:
            panel.remove()
        return figure


def _draw(axes, rows, name, color, label=None, factor=1):
    points = [(row["epoch"], row[name] * factor) for row in rows if _is_number(row.get(name))]
    # Marks, because a curve of one epoch has no line, and kNN may be rare.
    marker = "o" if len(points) <= 40 else None
    if points:
        axes.plot(*zip(*points), color=color, marker=marker, markersize=3, label=label)


def _finish(axes, rows):
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlim(0, max(rows[-1]["epoch"], 1) * 1.02)
    axes.ticklabel_format(axis="y", useOffset=False)


def _names(rows):
    """Names of all figures, in the order of their first epoch."""
    return list(dict.fromkeys(n for row in rows for n, v in row.items() if _is_number(v)))


def _is_number(value):
    return isinstance(value, (int, float)) and math.isfinite(value)
