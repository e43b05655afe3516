"""The parts of a run's report that show images, or are made of their features."""

import pathlib
from typing import Optional

from csml_tf import whole_files
from csml_tf.reports import (
    canvas,
    confusion,
    contact_sheet,
    embedding,
    explorer,
    feature_map,
    map_images,
    nearest,
    part,
    projector,
)
from csml_tf.reports.part import LeftOut
from csml_tf.reports.run_images import RunImages
from csml_tf.reports.run_record import RunRecord

_NO_IMAGES = "--noimages was given: leave it away to see this part."


def neighbors(
    record: RunRecord, images: Optional[RunImages], output: pathlib.Path, seed: int
) -> str:
    """HTML of training images with their mined neighbors; a picture of it beside the page.

    Args:
        record: of the run.
        images: of the run, or None where they are not wanted.
        output: folder of the report.
        seed: of the draw.

    Raises:
        LeftOut: if there are none.
    """
    if images is None:
        raise LeftOut(_NO_IMAGES)
    fingerprint = record.setting("DATA_FINGERPRINT")
    checkpoints = record.directory.checkpoints
    sheet, caption = nearest.mined(checkpoints, images.pretrain, fingerprint, seed)
    return _sheet(sheet, output / "neighbor_sheet.png", caption)


def held_out(images: Optional[RunImages], output: pathlib.Path, seed: int) -> str:
    """As `neighbors`, of held-out images with their nearest training images."""
    images = _with_features(images)
    sheet, caption = nearest.of_held_out(images.test, images.train, seed, images.share_training)
    return _sheet(sheet, output / "held_out_sheet.png", caption)


def looked_up(images: Optional[RunImages], output: pathlib.Path) -> str:
    """As `neighbors`, of images that somebody brought with their nearest training images."""
    images = _with_features(images)
    sheet, caption = nearest.of_queries(images.queries, images.train)
    return _sheet(sheet, output / "query_sheet.png", caption)


def feature_maps(
    record: RunRecord,
    images: Optional[RunImages],
    output: pathlib.Path,
    draw_map: bool,
    with_explorer: bool,
    seed: int,
) -> str:
    """HTML of the map; beside the page its picture, the projector's files and the explorer.

    Args:
        record: of the run.
        images: as for `neighbors`.
        output: folder of the report.
        draw_map: whether it is wanted at all.
        with_explorer: whether to write the explorer, too.
        seed: of the draws and of t-SNE.

    Raises:
        LeftOut: if it is not wanted, or there are no features or too few.
    """
    if not draw_map:
        raise LeftOut("--nomap was given: leave it away to see this part.")
    images = _with_features(images)
    limit = explorer.MAX_IMAGES if with_explorer else embedding.MAX_IMAGES
    gathered = map_images.gather(images.test, images.train, limit, seed)
    where = embedding.embed(gathered.values, seed)
    link = ""
    if with_explorer:
        text = explorer.render(record.name, gathered, where)
        whole_files.write(output / explorer.FILE, text, canvas.ADVICE)
        link = (
            f'<p><a href="{explorer.FILE}">Explorer of {len(gathered):,} images</a>, '
            "in this report's folder: zoom, nearest images, choosing with a lasso.</p>"
        )
    shown, positions = gathered.take(where.placed), where.positions[where.placed]
    canvas.save(feature_map.draw(positions, shown), output / "map.png")
    projector.write(shown, output / "projector")
    count = shown.sets.count("held-out")
    caption = (
        f"{count:,} held-out and {len(shown) - count:,} training images by their features (layer "
        f'"features", {shown.values.shape[1]} numbers each, unit length; seed {seed}): '
        f"{where.describe()}. Point at a dot to see its image, at a class to see it alone. Near "
        "dots have similar features; how far groups lie from each other, and how large they are, "
        "means little. The same images for TensorBoard's projector, from this report's folder:"
    )
    figure = f"<figure>{feature_map.to_html(positions, shown)}{part.figcaption(caption)}</figure>"
    return f"{link}{figure}{part.command('tensorboard --logdir=projector')}"


def confusions(images: Optional[RunImages], cards: list, output: pathlib.Path, seed: int) -> str:
    """HTML of the confusion matrix, of a measurement or else by a probe.

    Args:
        images: as for `neighbors`.
        cards: list of `measurements.Measurement`.
        output: folder of the report.
        seed: of the draw of images for the probe.

    Raises:
        LeftOut: if there is neither.
    """
    own = images.weights if images else None
    cards = [measured for measured in cards if own in (None, measured.card.encoder["sha256"])]
    found = confusion.of_cards(cards)
    if found is None:
        images = _with_features(images)
        found = confusion.by_probe(images.test, images.train, seed)
    matrix, caption = found
    class_names = images.test.source.class_names if images and images.test else None
    figure = confusion.draw(matrix, class_names)
    canvas.save(figure, output / "confusion.png")
    caption = f"Each row is a true class and adds up to 100 %. {caption}"
    least_px = confusion.least_px(len(matrix))
    return part.picture(canvas.svg_uri(figure), "Confusion matrix", caption, least_px)


def _with_features(images):
    if images is None:
        raise LeftOut(_NO_IMAGES)
    if images.no_features is not None:
        raise LeftOut(images.no_features)
    return images


def _sheet(sheet: contact_sheet.ContactSheet, path, caption):
    """A sheet as one PNG beside the page, and image by image in it."""
    canvas.save(sheet.draw(), path)
    return sheet.to_html(caption)
