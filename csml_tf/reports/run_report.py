"""The report of a run: read this to see which parts it has, and in which order."""

import dataclasses
import html
import pathlib
from typing import Optional

from csml_tf import whole_files
from csml_tf.data import catalog
from csml_tf.data.sources import base
from csml_tf.errors import InputError
from csml_tf.evaluation.frozen_encoder import FrozenEncoder
from csml_tf.export import trust
from csml_tf.reports import (
    canvas,
    confusion,
    curves,
    feature_map,
    map_images,
    measurements,
    nearest,
    page,
    part,
    projector,
    reference_runs,
    run_record,
    trained_features,
)
from csml_tf.reports.part import LeftOut, Part

PAGE = "report.html"
_NO_IMAGES = "--noimages was given: leave it away to see this part."


@dataclasses.dataclass(frozen=True)
class _Data:
    """What the parts with images work on.

    Attributes:
        pretrain: `ImageSource` that the run trained on.
        test: `trained_features.ImageFeatures` of held-out images, or None.
        train: the same of training images, or None.
        share_training: whether the run has trained on the held-out images too.
        weights: SHA-256 of the exported encoder, or None.
        no_features: why there are no features; None where there are.
    """

    pretrain: base.ImageSource
    test: Optional[trained_features.ImageFeatures]
    train: Optional[trained_features.ImageFeatures]
    share_training: bool
    weights: Optional[str]
    no_features: Optional[str]


def write(
    model_dir,
    output,
    dataset=None,
    data_dir=None,
    images=True,
    draw_map=True,
    max_train_images=50_000,
    seed=0,
):
    """Writes the page of a run, `report.html`, and its pictures one by one beside it.

    Args:
        model_dir: the run's directory; the run may be in progress.
        output: folder of the report; made when missing.
        dataset: data set string; None takes that of the run.
        data_dir: where TFDS finds its data sets; None takes TFDS' own default.
        images: whether to draw the parts that need the images.
        draw_map: whether to make the map and the projector's files.
        max_train_images: how many training images are searched for the nearest ones.
        seed: of all draws.

    Returns:
        One line about the page.

    Raises:
        InputError: if there is no run, no finished epoch, or no data, or the report cannot be
            written.
    """
    if max_train_images < nearest.NUM_NEAREST:
        raise InputError(
            f"--train_images must be at least {nearest.NUM_NEAREST}, got {max_train_images}."
        )
    record = run_record.read(model_dir)
    canvas.prepare(output)
    output = pathlib.Path(output)
    dataset = dataset or record.dataset
    data = None
    if images:
        data = _open(record, dataset, data_dir, max_train_images, seed)
    cards, faults = measurements.read(record.directory.path)
    band = reference_runs.find(record)

    makers = {}
    if band is not None:
        makers["Beside reference runs"] = lambda: _beside_references(record, band, output)
    makers |= {
        "Curves": lambda: _curves(record, output),
        "Accuracy": lambda: _accuracy(record, output),
        "Health": lambda: _health(record, output),
        "Neighbors": lambda: _neighbors(record, data, output, seed),
        "Nearest to unseen images": lambda: _held_out(data, output, seed),
        "Map of the features": lambda: _map(data, output, draw_map, seed),
        "Confusion": lambda: _confusion(data, cards, output, seed),
        "Measurements": lambda: measurements.to_html(
            cards, faults, model_dir, dataset, data.weights if data else None
        ),
        "Settings": lambda: _settings(record),
    }
    parts, left_out = [], []
    for title, make in makers.items():
        try:
            parts.append(Part(title, make()))
        except LeftOut as reason:
            parts.append((title, str(reason)))
            left_out.append(title.lower())
    path = output / PAGE
    whole_files.write(path, page.render(record, _tiles(record), parts), canvas.ADVICE)
    done = f"{path}: {len(parts) - len(left_out)} parts about {record.name}, {record.progress()}"
    if left_out:
        done += f"; left out, and the page says why: {', '.join(left_out)}"
    return done if band is None else f"{done}. {reference_runs.judge(record.rows, band).text}"


def _open(record, dataset, data_dir, max_train_images, seed):
    """The images, and the features that the exported encoder makes of them."""
    try:
        opened = catalog.open_dataset(dataset, data_dir)
        pretrain = opened.split("pretrain")
    except InputError as error:
        raise InputError(
            f"{str(error).rstrip('.')}; --noimages makes a report without images."
        ) from error
    if not record.directory.saved_model.exists():
        sentence = "The run has exported no encoder yet: let csml-tf train finish it."
        return _Data(pretrain, None, None, False, None, sentence)
    try:
        trust.check(record.directory.saved_model)
        encoder = FrozenEncoder(record.directory.saved_model)
    except InputError as error:
        return _Data(pretrain, None, None, False, None, str(error))
    train, test = opened.split("train"), opened.split("test")
    # A drawn test set of a folder, all of whose images are trained on.
    is_drawn = isinstance(test, base.SubsetSource)
    share_training = is_drawn and len(train) + len(test) == len(pretrain)
    weights = encoder.digest()
    test = trained_features.extract(encoder, test, feature_map.MAX_IMAGES, seed)
    train = trained_features.extract(encoder, train, max_train_images, seed)
    return _Data(pretrain, test, train, share_training, weights, None)


def _tiles(record):
    newest = record.rows[-1]
    knn = record.knn()
    tiles = []
    if knn is None:
        how = "Measured on data sets with labels, every MONITOR_EVERY_EPOCHS epochs."
        tiles.append(("not measured", "kNN top-1", how))
    else:
        epoch, top1, protocol = knn
        tiles.append((f"{top1:.2%}", f"kNN top-1 after epoch {epoch}", protocol))
    tiles.append(
        (f"{newest['loss']:.3f}", "loss", f"Mean over epoch {newest['epoch']}, all levels.")
    )
    speed = newest.get("images_per_sec")
    if speed is not None:
        wait = newest.get("input_wait_fraction") or 0.0
        how = f"Of the training steps in epoch {newest['epoch']}; {wait:.1%} waited for input."
        tiles.append((f"{speed:,.0f}", "images per second", how))
    return tiles


def _curves(record, output):
    rows = record.rows
    neighbors_from = None
    warmup = record.setting("CrossSamples.neighbor_warmup_epochs")
    if warmup and any("mining_seconds" in row for row in rows):
        neighbors_from = warmup + 1
    caption = (
        "The loss, a mean over the steps of each epoch, and its parts by level of the network "
        "and by kind of query: a view of the image, of its neighbor (_2: the other view, where "
        "both are queries), their mix (CutMix), small views."
    )
    if any("queue_entropy_share" in row for row in rows):
        caption += " While the queue fills with real keys the loss may grow, which is normal."
    if neighbors_from is not None:
        start = "From" if neighbors_from > rows[-1]["epoch"] else "Dotted: from"
        caption += f" {start} epoch {neighbors_from} on, neighbors count as positives."
    body = _drawn(curves.losses(rows, neighbors_from), output / "losses.png", "Loss", caption)
    caption = (
        "Learning rate; anchors per second of the training steps alone; share of that time in "
        "which the model waited for its next batch."
    )
    return body + _drawn(curves.speed(rows), output / "speed.png", "Speed", caption)


def _accuracy(record, output):
    figure = curves.accuracy(record.rows)
    knn = record.knn()
    caption = "Accuracy of the query encoder on held-out images during training."
    if knn is not None:
        caption += f" kNN: {knn[2]}."
    return _drawn(figure, output / "accuracy.png", "Accuracy by epoch", caption)


def _health(record, output):
    caption = (
        "Without labels, of the keys in the queue or of a few images, at the last level. The rank "
        "is of the directions that the embeddings use: near 1 they have collapsed. Strangers are "
        "two different images; a cosine near 1 is collapse, too. The entropy is of how a key "
        "weighs the others in the loss: 100 % where none is nearer than another."
    )
    figure = curves.health(record.rows)
    return _drawn(figure, output / "health.png", "Spread of the embeddings", caption)


def _beside_references(record, band, output):
    verdict = reference_runs.judge(record.rows, band)
    how_many = "1 run" if band.num_runs == 1 else f"{band.num_runs} runs"
    caption = (
        f"The band is the range of {how_many} of the same recipe and bindings, and "
        f"{reference_runs.LOSS_MARGIN:.0%} of the loss and {100 * reference_runs.KNN_MARGIN:g} "
        "points of kNN more on either side."
    )
    figure = curves.beside_references(record.rows, band)
    body = part.paragraph(verdict.text, "" if verdict.healthy else "warning")
    return body + _drawn(figure, output / "references.png", "Beside reference runs", caption)


def _neighbors(record, data, output, seed):
    figure = curves.neighbors(record.rows)
    caption = (
        "Purity: share of all mined neighbors that have their anchor's class, for which labels "
        "are read only here. Churn: share of the neighbors that the mining before did not have."
    )
    body = _drawn(figure, output / "neighbors.png", "Purity and churn", caption)
    try:
        if data is None:
            raise LeftOut(_NO_IMAGES)
        fingerprint = record.setting("DATA_FINGERPRINT")
        checkpoints = record.directory.checkpoints
        figure, caption = nearest.mined(checkpoints, data.pretrain, fingerprint, seed)
    except LeftOut as reason:
        return body + part.paragraph(f"Left out, the neighbors' images: {reason}", "left-out")
    path = output / "neighbor_sheet.png"
    return body + _sheet(figure, path, "Images and their neighbors", caption)


def _held_out(data, output, seed):
    _need_features(data)
    figure, caption = nearest.of_held_out(data.test, data.train, seed, data.share_training)
    path = output / "held_out_sheet.png"
    return _sheet(figure, path, "Held-out images and their nearest training images", caption)


def _map(data, output, draw_map, seed):
    if not draw_map:
        raise LeftOut("--nomap was given: leave it away to see this part.")
    _need_features(data)
    shown = map_images.gather(data.test, data.train, feature_map.MAX_IMAGES, seed)
    positions = feature_map.embed(shown.values, seed)
    canvas.save(feature_map.draw(positions, shown), output / "map.png")
    projector.write(shown, output / "projector")
    held_out = shown.sets.count("held-out")
    caption = (
        f"{held_out:,} held-out and {len(shown) - held_out:,} training images by t-SNE of their "
        f'features (layer "features", {shown.values.shape[1]} numbers each, unit length; '
        f"perplexity {feature_map.perplexity(len(shown)):g}, seed {seed}). Point at a dot to see "
        "its image, at a class to see it alone. Near dots have similar features; how far groups "
        "lie from each other, and how large they are, means little. The same images for "
        "TensorBoard's projector: tensorboard --logdir=projector, in this report's folder."
    )
    return f"<figure>{feature_map.to_html(positions, shown)}{part.figcaption(caption)}</figure>"


def _confusion(data, cards, output, seed):
    own = data.weights if data else None
    cards = [measured for measured in cards if own in (None, measured.card.encoder["sha256"])]
    found = confusion.of_cards(cards)
    if found is None:
        _need_features(data)
        found = confusion.by_probe(data.test, data.train, seed)
    matrix, caption = found
    class_names = data.test.source.class_names if data and data.test else None
    figure = confusion.draw(matrix, class_names)
    caption = f"Each row is a true class and adds up to 100 %. {caption}"
    return _drawn(figure, output / "confusion.png", "Confusion matrix", caption, "")


def _settings(record):
    return (
        "<details><summary>config.gin: every setting that was in effect</summary>"
        f"<pre>{html.escape(record.directory.config.read_text(encoding='utf-8'))}</pre></details>"
    )


def _need_features(data):
    if data is None:
        raise LeftOut(_NO_IMAGES)
    if data.no_features is not None:
        raise LeftOut(data.no_features)


def _drawn(figure, path, alternative, caption, klass="curves"):
    """A figure as PNG beside the page, and as SVG in it."""
    canvas.save(figure, path)
    return part.picture(canvas.svg_uri(figure), alternative, caption, klass)


def _sheet(figure, path, alternative, caption):
    """A figure of photographs: the same PNG beside the page and in it."""
    canvas.save(figure, path)
    uri = canvas.data_uri(path.read_bytes(), "image/png")
    return part.picture(uri, alternative, caption, "sheet")
