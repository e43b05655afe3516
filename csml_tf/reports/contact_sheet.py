"""A contact sheet: images, each with those that are nearest to it."""

import dataclasses
import html
import os

from csml_tf.data.originals import Original
from csml_tf.reports import canvas, map_images, palette, part

_CELL_INCHES = 1.15
_LINE_INCHES = 0.12
_FONT_SIZE = 7
# An empty column sets the images apart from their neighbors.
_GAP = 0.25
# Before compression: a photograph beyond it is a JPEG in the page, of which there are many.
_MAX_PNG_BYTES = 64 * 64 * 3


@dataclasses.dataclass(frozen=True)
class SheetRow:
    """One image and its nearest.

    Attributes:
        anchor: `data.originals.Original`.
        nearest: list of `Original`, nearest first, as many in each row.
        similarities: list of cosines in [-1, 1], or None where they are not known.
    """

    anchor: Original
    nearest: list
    similarities: object = None

    def cells(self):
        """[(image, its similarity to the anchor or None, colour of its frame or None)].

        The anchor comes first. The frame of a nearest image says whether it has its anchor's
        class; without labels there are none.
        """
        similarities = self.similarities or [None] * len(self.nearest)
        return [
            (self.anchor, None, None),
            *(
                (image, cosine, self._frame(image))
                for image, cosine in zip(self.nearest, similarities)
            ),
        ]

    def _frame(self, image):
        if self.anchor.label is None or image.label is None:
            return None
        return palette.SAME if image.label == self.anchor.label else palette.OTHER


@dataclasses.dataclass(frozen=True)
class ContactSheet:
    """Rows of images, and what to call them.

    Attributes:
        rows: list of `SheetRow`.
        first_title: what the anchors are, plain text.
        other_title: what the others are, before their rank.
    """

    rows: list
    first_title: str
    other_title: str

    def draw(self):
        """The sheet as a `matplotlib.figure.Figure`."""
        num_nearest = len(self.rows[0].nearest)
        cells = [cell for row in self.rows for cell in row.cells()]
        lines = max(_caption(image, cosine).count("\n") + 1 for image, cosine, _ in cells)
        height = (_CELL_INCHES + _LINE_INCHES * lines) * len(self.rows) + 0.3
        figure = canvas.figure((_CELL_INCHES + 0.1) * (1 + _GAP + num_nearest), height)
        figure.get_layout_engine().set(w_pad=0.05, h_pad=0.03, wspace=0, hspace=0)
        widths = [1, _GAP, *[1] * num_nearest]
        grid = figure.subplots(
            len(self.rows), len(widths), squeeze=False, gridspec_kw={"width_ratios": widths}
        )
        for axes, row in zip(grid, self.rows):
            axes[1].axis("off")
            for cell, (image, cosine, frame) in zip([axes[0], *axes[2:]], row.cells()):
                _draw_image(cell, image, frame, _caption(image, cosine))
        for axes, title in zip([grid[0, 0], *grid[0, 2:]], self._titles()):
            axes.set_title(title, fontsize=_FONT_SIZE + 1)
        return figure

    def to_html(self, caption):
        """The sheet for a page, as many images beside each other as the window has room for.

        Args:
            caption: of the whole sheet, plain text.
        """
        rows = []
        for row in self.rows:
            cells = [_cell(*cell, title) for cell, title in zip(row.cells(), self._titles())]
            rows.append(f'<div class="row">{"".join(cells)}</div>')
        return f'<figure class="sheet">{"".join(rows)}{part.figcaption(caption)}</figure>'

    def _titles(self):
        ranks = range(1, len(self.rows[0].nearest) + 1)
        return [self.first_title, *(f"{self.other_title} {rank}" for rank in ranks)]


def _caption(image, cosine):
    text = image.describe()
    return text if cosine is None else f"{text}\n{cosine:.3f}"


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


def _cell(image, cosine, frame, title):
    """One image with its rank, class and file, which the window may cut; pointing shows them."""
    first = f"#{image.index}" if image.label is None else f"#{image.index}, {image.label}"
    lines = [title if cosine is None else f"{title}: {cosine:.3f}", first]
    whole = "\n".join(lines if image.path is None else [*lines, image.path])
    if image.path is not None:
        lines.append(os.path.basename(image.path))
    uri = canvas.data_uri(*map_images.encode_small(image.pixels, _MAX_PNG_BYTES))
    style = "" if frame is None else f' style="border-color:{frame}"'
    spans = "".join(f"<span>{html.escape(line)}</span>" for line in lines)
    return (
        f'<div class="cell" title="{html.escape(whole)}"><div class="frame"{style}>'
        f"{part.image(uri, whole)}</div>{spans}</div>"
    )
