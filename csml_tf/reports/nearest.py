"""The two contact sheets of a report: mined neighbors, and what is nearest to unseen images."""

import dataclasses

import numpy as np

from csml_tf import similarity
from csml_tf.data import originals
from csml_tf.reports import canvas, palette
from csml_tf.reports.part import LeftOut
from csml_tf.training import saved_neighbors

NUM_ROWS = 8
NUM_NEAREST = 5
_MAX_PX = 160
_FRAMES = " Blue frame: the class of the image on the left; orange frame: another class."
_CELL_INCHES = 1.15
_LINE_INCHES = 0.12
_FONT_SIZE = 7
# An empty column sets the images apart from their neighbors.
_GAP = 0.25


@dataclasses.dataclass(frozen=True)
class _SheetRow:
    """One image and its nearest.

    Attributes:
        anchor: `data.originals.Original`.
        nearest: list of `Original`, nearest first, as many in each row.
        similarities: list of cosines in [-1, 1], or None where they are not known.
    """

    anchor: object
    nearest: list
    similarities: object = None


def mined(checkpoints, source, fingerprint, seed):
    """Training images with their neighbors, from the table of the newest checkpoint.

    Args:
        checkpoints: folder of the run's checkpoints.
        source: `ImageSource` of the training images.
        fingerprint: of the images that the run was trained on.
        seed: of the draw of the images.

    Returns:
        (`matplotlib.figure.Figure`, caption).

    Raises:
        LeftOut: if there is no table, or it is of other images.
    """
    found = saved_neighbors.read_newest(checkpoints)
    if found is None:
        raise LeftOut(
            f"There is no neighbor table in {checkpoints}: the recipe mines none, as MoCo's, or "
            "no checkpoint is left; CsMl's recipes write one with every checkpoint."
        )
    table, mined_at_epoch = found
    if mined_at_epoch < 0:
        raise LeftOut("The neighbors are not mined yet: let csml-tf train finish an epoch.")
    if fingerprint != source.fingerprint or len(table) != len(source):
        raise LeftOut(
            f"The images of {source.name} are not those that the run was trained on, so the "
            "numbers in its neighbor table mean nothing here: give the old ones with --dataset "
            "and --data_dir."
        )
    chosen = _draw(len(table), seed)
    reader = originals.Originals(source, _MAX_PX)
    rows = [
        _SheetRow(reader.read(i), [reader.read(j) for j in table[i, :NUM_NEAREST]]) for i in chosen
    ]
    caption = (
        f"{len(chosen)} images of {source.name}, drawn with seed {seed}, and their neighbors as "
        f"the training uses them: the {len(rows[0].nearest)} nearest of {len(table):,} images by "
        "the cosine of the key encoder's pooled features, mined before epoch "
        f"{mined_at_epoch + 1}."
    )
    figure = _draw_sheet(rows, "image", "neighbor")
    return figure, caption + (_FRAMES if source.labels is not None else "")


def of_held_out(test, train, seed, share_training):
    """Held-out images with the training images that are nearest to them.

    Args:
        test: `trained_features.ImageFeatures` of held-out images.
        train: the same of training images.
        seed: of the draw of the images.
        share_training: whether the encoder has trained on the held-out images too.

    Returns:
        (`matplotlib.figure.Figure`, caption).
    """
    chosen = _draw(len(test.source), seed)
    k = min(NUM_NEAREST, len(train.source))
    similarities, indices = similarity.cosine_top_k(test.values[chosen], train.values, k)
    queries = originals.Originals(test.source, _MAX_PX)
    bank = originals.Originals(train.source, _MAX_PX)
    rows = [
        _SheetRow(queries.read(i), [bank.read(j) for j in row], cosines.tolist())
        for i, row, cosines in zip(chosen, indices, similarities)
    ]
    caption = (
        f"{len(chosen)} images (seed {seed}) out of {test.source.name}, and for each the {k} "
        f"nearest of {len(train.source):,} images, {train.source.name}, by the cosine (below) of "
        'the exported encoder\'s pooled features (layer "features").'
    )
    if share_training:
        caption += " The encoder has trained on all images of this folder, without their labels."
    figure = _draw_sheet(rows, "held-out", "training image")
    return figure, caption + (_FRAMES if test.source.labels is not None else "")


def _draw(num_images, seed):
    count = min(NUM_ROWS, num_images)
    return np.sort(np.random.default_rng(seed).choice(num_images, count, replace=False))


def _draw_sheet(rows, first_title, other_title):
    """Draws a sheet of images, each with those that are nearest to it.

    The frame of a nearest image says whether it has its anchor's class; without labels there
    are none.

    Args:
        rows: list of `_SheetRow`.
        first_title: over the anchors.
        other_title: over the nearest images, with their rank behind it.

    Returns:
        `matplotlib.figure.Figure`.
    """
    num_nearest = len(rows[0].nearest)
    lines = max(_caption(*cell).count("\n") + 1 for row in rows for cell in _cells(row))
    height = (_CELL_INCHES + _LINE_INCHES * lines) * len(rows) + 0.3
    figure = canvas.figure((_CELL_INCHES + 0.1) * (1 + _GAP + num_nearest), height)
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.03, wspace=0, hspace=0)
    widths = [1, _GAP, *[1] * num_nearest]
    grid = figure.subplots(
        len(rows), len(widths), squeeze=False, gridspec_kw={"width_ratios": widths}
    )
    for axes, row in zip(grid, rows):
        axes[1].axis("off")
        for cell, (image, cosine) in zip([axes[0], *axes[2:]], _cells(row)):
            frame = None if image is row.anchor else _frame(row.anchor, image)
            _draw_image(cell, image, frame, _caption(image, cosine))
    grid[0, 0].set_title(first_title, fontsize=_FONT_SIZE + 1)
    for rank, axes in enumerate(grid[0, 2:], start=1):
        axes.set_title(f"{other_title} {rank}", fontsize=_FONT_SIZE + 1)
    return figure


def _cells(row):
    """[(image, its similarity to the anchor or None)], the anchor first."""
    similarities = row.similarities or [None] * len(row.nearest)
    return [(row.anchor, None), *zip(row.nearest, similarities)]


def _caption(image, cosine):
    text = image.describe()
    return text if cosine is None else f"{text}\n{cosine:.3f}"


def _frame(anchor, image):
    if anchor.label is None or image.label is None:
        return None
    return palette.SAME if image.label == anchor.label else palette.OTHER


def _draw_image(axes, image, frame, caption):
    axes.imshow(image.pixels)
    axes.set_xticks([])
    axes.set_yticks([])
    # A square cell whatever the image's shape, so that titles and rows are level.
    axes.set_box_aspect(1)
    axes.set_adjustable("datalim")
    if frame is None:
        axes.spines[:].set_visible(False)
    else:
        axes.spines[:].set(color=frame, linewidth=2.5)
    axes.set_xlabel(caption, fontsize=_FONT_SIZE, labelpad=2)
