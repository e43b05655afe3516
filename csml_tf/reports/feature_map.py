"""A map on which images with similar features lie close together."""

import html

import numpy as np

from csml_tf.reports import canvas, map_images, page, palette

_SIDE = 1000
_MARGIN = 20
_LENS_PX = 112
# Around the origin.
_SHAPES = {
    "circle": '<circle r="5.5"/>',
    "square": '<rect x="-4.7" y="-4.7" width="9.4" height="9.4"/>',
    "triangle": '<path d="M0,-6.5L6,4.5H-6Z"/>',
    "diamond": '<path d="M0,-7L6,0L0,7L-6,0Z"/>',
}
_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D"}


def draw(positions, images):
    """The map as a figure of dots.

    Args:
        positions: [n, 2] in [0, 1].
        images: `map_images.MapImages`.

    Returns:
        `matplotlib.figure.Figure`.
    """
    with canvas.style():
        figure = canvas.figure(7, 6)
        axes = figure.subplots()
        for label in np.unique(images.labels):
            color, shape = palette.look(label)
            members = positions[images.labels == label]
            axes.scatter(
                *members.T,
                s=14,
                color=color,
                marker=_MARKERS[shape],
                label=images.class_name(np.flatnonzero(images.labels == label)[0]),
            )
        axes.set(xticks=[], yticks=[])
        axes.invert_yaxis()  # As in the page, where y grows downwards.
        axes.set_aspect("equal")
        if has_legend(images):
            figure.legend(loc="outside right upper", fontsize=8)
        return figure


def has_legend(images):
    """Whether the classes are known, and few enough for each to have a look of its own."""
    known = images.labels[images.labels >= 0]
    return len(known) > 0 and known.max() < palette.NUM_LOOKS


def to_html(positions, images):
    """The map for a page: dots that show their image when pointed at.

    Without scripts a dot still says in words what it is.

    Args:
        positions: [n, 2] in [0, 1].
        images: `map_images.MapImages`.

    Returns:
        HTML, which asks for nothing outside of itself.
    """
    height = round(float(positions[:, 1].max()) * _SIDE) + 2 * _MARGIN
    dots = []
    for i, (x, y) in enumerate(positions * _SIDE + _MARGIN):
        color, shape = palette.look(images.labels[i])
        dots.append(
            f'<use href="#{shape}" x="{x:.1f}" y="{y:.1f}" fill="{color}" '
            f'data-i="{i}" data-c="{images.labels[i]}">'
            f"<title>{html.escape(images.describe(i))}</title></use>"
        )
    shapes = "".join(f'<g id="{name}">{path}</g>' for name, path in _SHAPES.items())
    sprite = map_images.make_sprite(images.thumbnails)
    uri = canvas.data_uri(*map_images.encode_small(sprite))
    size = images.thumbnails.shape[1]
    columns = sprite.shape[0] // size
    rendering = "pixelated" if size < _LENS_PX / 3 else "auto"
    return (
        f'<div class="map" data-columns="{columns}" data-lens="{_LENS_PX}">'
        f'<svg viewBox="0 0 {_SIDE + 2 * _MARGIN} {height}" role="img" '
        f'aria-label="Map of {len(images)} images"><defs>{shapes}</defs>{"".join(dots)}</svg>'
        f'<div class="lens" hidden><div class="thumbnail" style="background-image:url({uri});'
        f"background-size:{columns * _LENS_PX}px;image-rendering:{rendering};"
        f'width:{_LENS_PX}px;height:{_LENS_PX}px"></div><p></p></div></div>'
        f"{_legend(images)}<script>\n{page.read_part('map.js')}</script>"
    )


def _legend(images):
    if not has_legend(images):
        return ""
    entries = []
    for label in np.unique(images.labels):
        color, shape = palette.look(label)
        name = images.class_name(np.flatnonzero(images.labels == label)[0])
        entries.append(
            f'<li data-c="{label}"><svg viewBox="-9 -9 18 18"><use href="#{shape}" '
            f'fill="{color}"/></svg>{html.escape(name)}</li>'
        )
    return f'<ul class="legend">{"".join(entries)}</ul>'
