"""A chart of curves over the epochs: what it shows as plain values, and how it is drawn."""

import dataclasses
from typing import Optional

from csml_tf.reports import canvas, palette, part

_WIDTH, _HEIGHT = 3.5, 2.45
# Of entries that stand beside each other in a legend, and of the letters in them.
_LEGEND_COLUMNS = 3
_LEGEND_LETTERS = 40
_LEGEND_LINE = 0.17
# Between the middles of two words over dashed lines, as a share of the height.
_LEVEL_GAP = 0.085
_LEVEL_COLOR = "#555555"
_MANY_POINTS = 40


@dataclasses.dataclass(frozen=True)
class Curve:
    """One line of a chart.

    Attributes:
        points: list of (place on the horizontal axis, value).
        color: of the line, "#rrggbb".
        label: what the line is, plain text; "" where the chart's title says it.
        dashes: matplotlib's line style.
    """

    points: list
    color: str = palette.COLORS[0]
    label: str = ""
    dashes: str = "-"


@dataclasses.dataclass(frozen=True)
class Chart:
    """Curves that share their axes.

    Attributes:
        title: what the values are, and their unit, plain text.
        curves: list of `Curve`.
        end: right end of the horizontal axis, which begins at 0 unless it is logarithmic.
        levels: {what it is: value} of dashed horizontal lines.
        band: {place: (lowest, highest)} of a shaded range; {} for none.
        mark: place of a dotted vertical line, or None.
        from_zero: whether the vertical axis begins at 0.
        across: what the horizontal axis is, and its unit.
        legend: whether the labels of the curves are written below.
        logarithmic: whether the horizontal axis is; it then begins at its first point.
    """

    title: str
    curves: list
    end: float
    levels: dict = dataclasses.field(default_factory=dict)
    band: dict = dataclasses.field(default_factory=dict)
    mark: Optional[float] = None
    from_zero: bool = False
    across: str = "epoch"
    legend: bool = True
    logarithmic: bool = False


def draw(charts):
    """Charts beside each other.

    Args:
        charts: list of `Chart`, at least one.

    Returns:
        `matplotlib.figure.Figure`.
    """
    lines = max(len(_legend_rows(chart)) for chart in charts)
    with canvas.style():
        figure = canvas.figure(_WIDTH * len(charts), _HEIGHT + _LEGEND_LINE * lines)
        for axes, chart in zip(figure.subplots(1, len(charts), squeeze=False)[0], charts):
            _draw(axes, chart)
        canvas.lay_out(figure)
        return figure


def to_html(charts, caption):
    """Charts for a page, each a picture of its own: a narrow window shows them below each other.

    Args:
        charts: list of `Chart`, at least one.
        caption: of all of them, plain text.
    """
    pictures = [
        part.image(canvas.svg_uri(draw([chart])), f"{chart.title}, by {chart.across}")
        for chart in charts
    ]
    return (
        f'<figure class="charts"><div>{"".join(pictures)}</div>{part.figcaption(caption)}</figure>'
    )


def _draw(axes, chart):
    for curve in chart.curves:
        # Marks, because a curve of one epoch has no line, and kNN may be rare.
        marker = "o" if len(curve.points) <= _MANY_POINTS else None
        look = {"color": curve.color, "linestyle": curve.dashes, "label": curve.label}
        if curve.points:
            axes.plot(*zip(*curve.points), marker=marker, markersize=3, **look)
    if chart.band:
        lows, highs = zip(*chart.band.values())
        axes.fill_between([*chart.band], lows, highs, color=palette.COLORS[0], alpha=0.2, lw=0)
    axes.set_title(chart.title)
    axes.set_xlabel(chart.across)
    if chart.logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    else:
        axes.xaxis.get_major_locator().set_params(integer=chart.across == "epoch")
        axes.set_xlim(0, max([chart.end, *chart.band]) * 1.02)
    axes.ticklabel_format(axis="y", useOffset=False)
    if chart.from_zero:
        axes.set_ylim(bottom=0)
    if chart.mark is not None:
        axes.axvline(chart.mark, color=palette.UNKNOWN[0], linestyle=":")
    _draw_levels(axes, chart.levels)
    rows = _legend_rows(chart)
    if rows:
        columns = max(map(len, rows))
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.24)}
        axes.legend(ncols=columns, fontsize=8, columnspacing=1, handlelength=1.4, **place)


def _draw_levels(axes, levels):
    """Dashed lines with their words at the right end, each over its line where there is room."""
    for value in levels.values():
        axes.axhline(value, color=_LEVEL_COLOR, linestyle="--", linewidth=0.9)
    if levels:
        axes.set_ylim(*_with_room(axes.get_ylim(), len(levels)))
    low, high = axes.get_ylim()
    place = float("inf")
    for name, value in sorted(levels.items(), key=lambda level: -level[1]):
        above = (value - low) / (high - low) + _LEVEL_GAP / 2
        place = min(above, place - _LEVEL_GAP)
        axes.text(
            *(0.985, place, f"{name} {value:.1f}"),
            transform=axes.transAxes,
            **{"ha": "right", "va": "center", "fontsize": 7.5, "color": _LEVEL_COLOR},
            bbox={"facecolor": "white", "alpha": 0.8, "pad": 0.6, "linewidth": 0},
        )


def _with_room(limits, count):
    """Limits of an axis, lower by what the words of all levels may need below the lowest line."""
    low, high = limits
    return low - (high - low) * _LEVEL_GAP * (count - 1), high


def _legend_rows(chart):
    """The labels as they stand below the chart, row by row."""
    labels = [curve.label for curve in chart.curves if curve.label and curve.points]
    if not chart.legend or not labels:
        return []
    columns = max(1, min(_LEGEND_COLUMNS, _LEGEND_LETTERS // (max(map(len, labels)) + 4)))
    return [labels[i : i + columns] for i in range(0, len(labels), columns)]
