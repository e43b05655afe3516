"""Several runs on one page: their curves together, their figures and what sets them apart."""

import html
import itertools
import os
import pathlib

from csml_tf import code_version, places, whole_files
from csml_tf.errors import InputError
from csml_tf.reports import canvas, chart, curves, page, palette, run_record
from csml_tf.reports.chart import Chart, Curve
from csml_tf.reports.part import LeftOut, Part
from csml_tf.reports.run_record import RunRecord

PAGE = "comparison.html"
_DASHES = ("-", "--", ":", "-.")
MAX_RUNS = len(palette.COLORS) * len(_DASHES)
# Of a run's own facts; what the page says of all settings comes by itself.
_FACTS = ("recipe", "data set", "code", "progress", "time", "network")
_MISSING = "–"
_HOUR = 3600


def write(model_dirs: list, output) -> str:
    """Writes `comparison.html`, and its charts as PNG files beside it.

    Args:
        model_dirs: paths of two or more runs; each may be in progress.
        output: folder of the page; made when missing.

    Returns:
        One line about the page.

    Raises:
        InputError: if two of the folders are one and the same, one has no finished epoch, or
            the page cannot be written.
    """
    if len(model_dirs) > MAX_RUNS:
        raise InputError(
            f"At most {MAX_RUNS} runs can be told apart in a chart, got {len(model_dirs)}: give "
            "--model_dir less often."
        )
    _check_different(model_dirs)
    records = dict(zip(_names(model_dirs), map(run_record.read, model_dirs)))
    canvas.prepare(output)
    output = places.at(output)
    parts = []
    for title, make in (
        ("Final figures", lambda: _table(final_figures(records), records)),
        ("Curves", lambda: _curves(records, output)),
        ("Settings that differ", lambda: _settings(records)),
        ("Runs", lambda: _table(_facts(records), records)),
    ):
        try:
            parts.append(Part(title, make()))
        except LeftOut as reason:
            parts.append((title, reason))
    path = output / PAGE
    title = f"{len(records)} runs side by side"
    text = page.render(title, f"{', '.join(records)}.", "", parts)
    whole_files.write(path, text, canvas.ADVICE)
    return f"{path}: {len(records)} runs side by side, {', '.join(records)}"


def final_figures(records: dict) -> dict:
    """{what it is: [text, one of each run]}, of the figures that any of the runs has.

    Args:
        records: {name: `RunRecord`}.
    """
    each = [_figures_of(record) for record in records.values()]
    names = dict.fromkeys(itertools.chain.from_iterable(each))
    return {name: [figures.get(name, _MISSING) for figures in each] for name in names}


def differing_settings(records: dict) -> dict:
    """{name: [value as it is written in config.gin, one of each run]} where they are not alike.

    Args:
        records: {name: `RunRecord`}.
    """
    each = [record.settings for record in records.values()]
    names = sorted(set().union(*each), key=lambda name: ("." in name, name))
    found = {name: [settings.get(name, _MISSING) for settings in each] for name in names}
    return {name: values for name, values in found.items() if len({*values}) > 1}


def charts(records: dict) -> list:
    """One `Chart` for each figure that any of the runs has measured, a curve for each run.

    Args:
        records: {name: `RunRecord`}.
    """
    figures = [curves.LOSS, curves.KNN, curves.LINEAR, *curves.HEALTH]
    figures += [*curves.NEIGHBORS, *curves.SPEED]
    made = [_chart(records, *figure) for figure in figures]
    by_time = _chart(records, *curves.KNN, across="hours of the run")
    made.insert(2, by_time)
    return [each for each in made if any(curve.points for curve in each.curves)]


def _chart(records, name, title, factor, across="epoch"):
    lines, end = [], 0
    for number, (run, record) in enumerate(records.items()):
        places = {row["epoch"]: row["epoch"] for row in record.rows}
        if across != "epoch":
            passed = itertools.accumulate(row.get("seconds", 0.0) / _HOUR for row in record.rows)
            places = dict(zip(places, passed))
        points = [
            (places[epoch], value) for epoch, value in curves.points(record.rows, name, factor)
        ]
        end = max(end, places[record.rows[-1]["epoch"]])
        dashes, color = divmod(number, len(palette.COLORS))
        lines.append(Curve(points, palette.COLORS[color], run, _DASHES[dashes]))
    return Chart(title, lines, end, across=across, legend=False)


def _figures_of(record: RunRecord):
    newest = record.rows[-1]
    figures = {"epochs": f"{newest['epoch']}", "steps": f"{newest['step']:,}"}
    knn = record.knn()
    if knn is not None:
        epoch, top1, protocol = knn
        best = max(record.rows, key=lambda row: row.get("knn_top1") or 0)
        figures["kNN top-1, newest"] = f"{top1:.2%} after epoch {epoch}"
        figures["kNN top-1, best"] = f"{best['knn_top1']:.2%} after epoch {best['epoch']}"
        figures["kNN protocol"] = protocol
    figures |= {
        f"kNN of {name.replace('_', ' ')}": f"{value:.2%}"
        for name, value in curves.baselines(record.rows).items()
    }
    linear = curves.points(record.rows, *curves.LINEAR[::2])
    if linear:
        figures["linear probe top-1"] = f"{linear[-1][1]:.2f}% after epoch {linear[-1][0]}"
    figures["loss"] = f"{newest['loss']:.3f}"
    for name, title, _ in curves.HEALTH[:2]:
        if curves.points([newest], name):
            figures[title] = f"{newest[name]:.3g}"
    seconds = sum(row.get("seconds", 0.0) for row in record.rows)
    figures["time, all"] = run_record.describe_seconds(seconds)
    figures["time, an epoch"] = run_record.describe_seconds(seconds / len(record.rows))
    if newest.get("images_per_sec") is not None:
        figures["images per second"] = f"{newest['images_per_sec']:,.0f}"
    return figures


def _curves(records, output):
    drawn = charts(records)
    width = 3
    for number, chunk in enumerate(range(0, len(drawn), width), start=1):
        canvas.save(chart.draw(drawn[chunk : chunk + width]), output / f"comparison_{number}.png")
    legend = _legend(drawn[0].curves)
    caption = "Each figure by the epochs of the runs that have measured it."
    if len({(record.knn() or [None] * 3)[2] for record in records.values()} - {None}) > 1:
        caption += " The runs measure kNN by different protocols: see above."
    return legend + chart.to_html(drawn, caption)


def _legend(lines):
    dashes = {"-": "none", "--": "7 4", ":": "2 3", "-.": "7 3 2 3"}
    entries = "".join(
        '<li><svg viewBox="0 0 28 10" class="line"><path d="M0,5H28" fill="none" '
        f'stroke="{line.color}" stroke-width="3" stroke-dasharray="{dashes[line.dashes]}"/></svg>'
        f"{html.escape(line.label)}</li>"
        for line in lines
    )
    return f'<ul class="legend">{entries}</ul>'


def _settings(records):
    differing = differing_settings(records)
    if not differing:
        raise LeftOut("All settings are alike.")
    return _table(differing, records)


def _facts(records):
    each = [dict(record.facts()) for record in records.values()]
    rows = {"folder": [str(record.directory.path) for record in records.values()]}
    for name in _FACTS:
        rows[name] = [code_version.shorten(facts.get(name, _MISSING)) for facts in each]
    return {name: texts for name, texts in rows.items() if {*texts} != {_MISSING}}


def _table(rows, records):
    """HTML of a table with a column for each run; a narrow window scrolls it."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in records)
    lines = []
    for name, values in rows.items():
        cells = "".join(f"<td>{html.escape(value)}</td>" for value in values)
        lines.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    return (
        f'<div class="wide"><table class="runs"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _check_different(model_dirs):
    seen = {}
    for path in model_dirs:
        real = os.path.realpath(path)
        if real in seen:
            raise InputError(
                f"{seen[real]} and {path} are the same run: give each --model_dir once."
            )
        seen[real] = path


def _names(model_dirs):
    """The folders' names, with as many folders above them as tell them apart."""
    parts = [pathlib.Path(os.path.realpath(path)).parts for path in model_dirs]
    depth = 1
    while len({path[-depth:] for path in parts}) < len(parts):
        depth += 1
    return [str(pathlib.PurePath(*path[-depth:])) for path in parts]
