"""The parts of a run's report that need nothing but what the run has written down."""

import html
import pathlib

from csml_tf import amounts
from csml_tf.reports import canvas, chart, curves, part, reference_runs
from csml_tf.reports.run_record import RunRecord


def tiles(record: RunRecord) -> list:
    """[(figure, what it is, how it was measured)] for the head of the page."""
    newest = record.rows[-1]
    knn = record.knn()
    if knn is None:
        how = "Measured on data sets with labels, every MONITOR_EVERY_EPOCHS epochs."
        found = [("not measured", "kNN top-1", how)]
    else:
        epoch, top1, protocol = knn
        found = [(f"{top1:.2%}", f"kNN top-1 after epoch {epoch}", protocol)]
    found.append(
        (f"{newest['loss']:.3f}", "loss", f"Mean over epoch {newest['epoch']}, all levels.")
    )
    speed = newest.get("images_per_sec")
    if speed is not None:
        wait = newest.get("input_wait_fraction") or 0.0
        how = f"Of the training steps in epoch {newest['epoch']}; {wait:.1%} waited for input."
        found.append((f"{speed:,.0f}", "images per second", how))
    return found


def losses_and_speed(record: RunRecord, band, output: pathlib.Path) -> str:
    """HTML of the loss, its parts and the speed; a picture of each beside the page.

    Args:
        record: of the run.
        band: `reference_runs.Band`, or None.
        output: folder of the report.
    """
    rows = record.rows
    neighbors_from = None
    warmup = record.setting("CrossSamples.neighbor_warmup_epochs")
    if warmup and any("mining_seconds" in row for row in rows):
        neighbors_from = warmup + 1
    charts = curves.losses(rows, neighbors_from, band)
    caption = "The loss is a mean over the steps of each epoch."
    if len(charts) > 1:
        caption += (
            " Its parts are by level of the network and by kind of query: a view of the image, "
            "of its neighbor (_2: the other view, where both are queries), their mix (CutMix), "
            "small views."
        )
    if band is not None:
        caption += f" {_about(band)}"
    if any("queue_entropy_share" in row for row in rows):
        caption += " While the queue fills with real keys the loss may grow, which is normal."
    if neighbors_from is not None:
        start = "From" if neighbors_from > rows[-1]["epoch"] else "Dotted: from"
        caption += f" {start} epoch {neighbors_from} on, neighbors count as positives."
    body = _drawn(charts, output / "losses.png", caption)
    caption = (
        "Learning rate; anchors per second of the training steps alone; share of that time in "
        "which the model waited for its next batch."
    )
    return body + _drawn(curves.speed(rows), output / "speed.png", caption)


def accuracy(record: RunRecord, band, output: pathlib.Path) -> str:
    """As `losses_and_speed`, of accuracies; raises `LeftOut` if there are none."""
    charts = curves.accuracy(record.rows, band)
    knn = record.knn()
    caption = "Accuracy of the query encoder on held-out images during training."
    if knn is not None:
        caption += f" kNN: {knn[2]}."
        if band is not None:
            caption += f" {_about(band)}"
        if curves.baselines(record.rows):
            caption += " Dashed: the same kNN without any training."
    return _drawn(charts, output / "accuracy.png", caption)


def health(record: RunRecord, output: pathlib.Path) -> str:
    """As `losses_and_speed`, of the embeddings' spread; raises `LeftOut` if there is none."""
    caption = (
        "Without labels, of the keys in the queue or of a few images, at the last level. The rank "
        "is of the directions that the embeddings use: near 1 they have collapsed. Strangers are "
        "two different images; a cosine near 1 is collapse, too. The entropy is of how a key "
        "weighs the others in the loss: 100 % where none is nearer than another."
    )
    return _drawn(curves.health(record.rows), output / "health.png", caption)


def neighbors(record: RunRecord, output: pathlib.Path) -> str:
    """As `losses_and_speed`, of the mined neighbors; raises `LeftOut` if there are none."""
    caption = (
        "Purity: share of all mined neighbors that have their anchor's class, for which labels "
        "are read only here. Churn: share of the neighbors that the mining before did not have. "
        "Recall: share of the exact neighbors of some images that an approximate search has found."
    )
    return _drawn(curves.neighbors(record.rows), output / "neighbors.png", caption)


def verdict(record: RunRecord, band) -> str:
    """HTML of how the run stands beside the reference runs."""
    found = reference_runs.judge(record.rows, band)
    where = "The range of the reference runs is the band in the charts of loss and kNN below."
    return part.paragraph(found.text, "" if found.healthy else "warning") + part.paragraph(where)


def settings(record: RunRecord) -> str:
    """HTML of the whole configuration."""
    return (
        "<details><summary>config.gin: every setting that was in effect</summary>"
        f"<pre>{html.escape(record.directory.config.read_text(encoding='utf-8'))}</pre></details>"
    )


def _about(band):
    how_many = amounts.count(band.num_runs, "run")
    return (
        f"The band is the range of {how_many} of the same recipe and bindings, and "
        f"{reference_runs.LOSS_MARGIN:.0%} of the loss and {100 * reference_runs.KNN_MARGIN:g} "
        "points of kNN more on either side."
    )


def _drawn(charts, path, caption):
    """Charts as one PNG beside the page, and one by one in it."""
    canvas.save(chart.draw(charts), path)
    return chart.to_html(charts, caption)
