"""A sheet of images, each with those that are nearest to it."""

import dataclasses

from csml_tf.reports import canvas, palette

_CELL_INCHES = 1.15
_LINE_INCHES = 0.12
_FONT_SIZE = 7
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
        for cell, (image, similarity) in zip([axes[0], *axes[2:]], _cells(row)):
            frame = None if image is row.anchor else _frame(row.anchor, image)
            _draw_image(cell, image, frame, _caption(image, similarity))
    grid[0, 0].set_title(first_title, fontsize=_FONT_SIZE + 1)
    for rank, axes in enumerate(grid[0, 2:], start=1):
        axes.set_title(f"{other_title} {rank}", fontsize=_FONT_SIZE + 1)
    return figure


def _cells(row):
    """[(image, its similarity to the anchor or None)], the anchor first."""
    similarities = row.similarities or [None] * len(row.nearest)
    return [(row.anchor, None), *zip(row.nearest, similarities)]


def _caption(image, similarity):
    text = image.describe()
    return text if similarity is None else f"{text}\n{similarity:.3f}"


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
