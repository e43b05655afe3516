"""What an encoder is worth in labels: accuracies by few labels, beside training from scratch."""

import collections
import math
import pathlib
import re

import numpy as np

from csml_tf.reports import canvas, chart, palette
from csml_tf.reports.chart import Chart, Curve

# (protocol, figure on its card): (what it is called, color, dashes).
_LINES = {
    ("semi_supervised", "top1"): ("fine-tuned", palette.COLORS[0], "-"),
    ("linear_cached", "top1"): ("linear classifier", palette.COLORS[4], "-"),
    ("knn", "top1"): ("kNN", palette.COLORS[5], "-"),
    ("semi_supervised", "from_scratch_top1"): ("from scratch", "#333333", "--"),
    ("linear_cached", "untrained_top1"): ("linear, untrained weights", palette.COLORS[4], ":"),
    ("linear_cached", "color_histogram_top1"): (
        "linear, color histogram",
        palette.COLORS[6],
        ":",
    ),
}
_PRETRAINED = (("semi_supervised", "top1"), ("linear_cached", "top1"))
_SCRATCH = ("semi_supervised", "from_scratch_top1")
_COUNT = re.compile(r"(\d+) of \d+ images, ")


def find(measured):
    """The accuracies of each data set by the number of labels that they learned from.

    Args:
        measured: list of `measurements.Measurement`.

    Returns:
        {(name of the test images, start of the encoder's SHA-256): {(protocol, figure): {number
        of labels: mean top-1, over the cards of that number}}}, where there are two numbers of
        labels or more.
    """
    values = collections.defaultdict(lambda: collections.defaultdict(list))
    for each in measured:
        card = each.card
        count = _COUNT.match(str(card.settings.get("labels", "")))
        for line in _LINES:
            if count and line[0] == card.protocol and line[1] in card.result:
                key = card.data["test"]["name"], card.encoder["sha256"][:8]
                values[key][line, int(count[1])].append(card.result[line[1]])
    found = {}
    for key, of_lines in values.items():
        by_line = collections.defaultdict(dict)
        for (line, count), several in sorted(of_lines.items(), key=lambda item: item[0][1]):
            by_line[line][count] = float(np.mean(several))
        if len({count for _, count in of_lines}) > 1:
            found[key] = {line: by_line[line] for line in _LINES if line in by_line}
    return found


def labels_for(accuracies, accuracy):
    """How many labels reach an accuracy, between two measured numbers by their logarithms.

    Args:
        accuracies: {number of labels: accuracy}.
        accuracy: to be reached.

    Returns:
        float; None where no number that was measured reaches it, or all do.
    """
    points = sorted(accuracies.items())
    if not points or points[0][1] >= accuracy:
        return None
    for (few, low), (many, high) in zip(points, points[1:]):
        if low < accuracy <= high:
            share = (accuracy - low) / (high - low)
            return math.exp((1 - share) * math.log(few) + share * math.log(many))
    return None


def to_html(found, output: pathlib.Path) -> str:
    """A chart of each data set for a page, and as `few_labels.png` beside it.

    Args:
        found: as of `find`, not empty.
        output: folder of the report.
    """
    charts, sentences = [], []
    names = collections.Counter(name for name, _ in found)
    for (name, weights), accuracies in found.items():
        title = "/".join(name.split("/")[-2:])  # A whole path would not fit.
        title += f", encoder {weights}" if names[name] > 1 else ""
        curves = []
        for line, top1 in accuracies.items():
            label, color, dashes = _LINES[line]
            points = [(count, 100 * share) for count, share in top1.items()]
            curves.append(Curve(points, color, label, dashes))
        end = max(place for curve in curves for place, _ in curve.points)
        charts.append(Chart(f"{title}: top-1, %", curves, end, across="labels", logarithmic=True))
        sentences += _worth(accuracies, f"{title}: " if len(found) > 1 else "")
    caption = (
        "Accuracy on the test images by the number of labelled training images; each point is the "
        "mean of the cards in evaluations/ with so many. "
    )
    canvas.save(chart.draw(charts), output / "few_labels.png")
    return chart.to_html(charts, caption + " ".join(sentences))


def _worth(accuracies, about):
    """Yields what the labels are worth that a pretrained encoder is given, in sentences."""
    scratch = accuracies.get(_SCRATCH, {})
    pretrained = {line: accuracies[line] for line in _PRETRAINED if line in accuracies}
    for count in sorted({count for counts in pretrained.values() for count in counts}):
        accuracy, name = max(
            (counts[count], _LINES[line][0])
            for line, counts in pretrained.items()
            if count in counts
        )
        needed = labels_for(scratch, accuracy)
        if needed is not None:
            yield (
                f"{about}With {count} labels it reaches {accuracy:.1%} ({name}), for which "
                f"training from scratch needs about {float(f'{needed:.2g}'):g}."
            )
