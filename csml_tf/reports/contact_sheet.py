"""A sheet of images, each with those that are nearest to it."""

import dataclasses

from csml_tf.reports import canvas, palette

_CELL_INCHES = 1.3
_CAPTION_INCHES = 0.42
# An empty column sets the images apart from their neighbours.
_GAP = 0.25


@dataclasses.dataclass(frozen=True)
class SheetRow:
    """One image and its nearest.

    Attributes:
        anchor: `data.originals.Original`.
        nearest: list of `Original`, nearest first, as many in each row.
        similarities: list of cosines in [-1, 1], or None where they are not known.
    """

    anchor: object
    nearest: list
    similarities: object = None


def draw(rows, first_title, other_title):
    """Draws the sheet.

    The frame of a nearest image says whether it has its anchor's class; without labels there
    are none.

    Args:
        rows: list of `SheetRow`.
        first_title: over the anchors.
        other_title: over the nearest images, with their rank behind it.

    Returns:
        `matplotlib.figure.Figure`.
    """
    num_nearest = len(rows[0].nearest)
    height = (_CELL_INCHES + _CAPTION_INCHES) * len(rows) + 0.3
    figure = canvas.figure(_CELL_INCHES * (1 + _GAP + num_nearest), height)
    widths = [1, _GAP, *[1] * num_nearest]
    grid = figure.subplots(
        len(rows), len(widths), squeeze=False, gridspec_kw={"width_ratios": widths}
    )
    for axes, row in zip(grid, rows):
        axes[1].axis("off")
        _draw_image(axes[0], row.anchor, None, None)
        similarities = row.similarities or [None] * num_nearest
        for cell, image, similarity in zip(axes[2:], row.nearest, similarities):
            _draw_image(cell, image, _frame(row.anchor, image), similarity)
    grid[0, 0].set_title(first_title, fontsize=8)
    for rank, axes in enumerate(grid[0, 2:], start=1):
        axes.set_title(f"{other_title} {rank}", fontsize=8)
    return figure


def _frame(anchor, image):
    if anchor.label is None or image.label is None:
        return None
    return palette.SAME if image.label == anchor.label else palette.OTHER


def _draw_image(axes, image, frame, similarity):
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
    caption = image.describe()
    axes.set_xlabel(
        caption if similarity is None else f"{caption}\n{similarity:.3f}", fontsize=6, labelpad=2
    )
