"""The explorer: one page to look through the images of the map, and to choose some of them."""

import base64
import html
import json

import numpy as np

from csml_tf import similarity
from csml_tf.reports import canvas, map_images, page, palette

FILE = "explorer.html"
MAX_IMAGES = 20_000
_NUM_NEAREST = 8
_GRID = 2**16 - 1  # Positions are whole numbers of 16 bits.
_COSINES = 10_000  # Likewise, in steps of 1 / 10,000.


def render(name, images, embedding):
    """The page as text.

    Args:
        name: of the run, plain text.
        images: `map_images.MapImages`, at least two.
        embedding: `embedding.Embedding` of them.
    """
    count = min(_NUM_NEAREST, len(images) - 1)
    cosines, nearest = similarity.mutual_top_k(images.values, count)
    sprite = map_images.make_sprite(images.thumbnails)
    size = images.thumbnails.shape[1]
    known = sorted({int(label) for label in images.labels})
    first_of = {label: int(np.flatnonzero(images.labels == label)[0]) for label in known}
    data = {
        "size": size,
        "columns": sprite.shape[1] // size,
        "nearestCount": count,
        "classes": [[images.class_name(first_of[label]), *palette.look(label)] for label in known],
        "sets": images.sets,
        "paths": images.paths,
        "positions": _encode(np.round(embedding.positions * _GRID), np.uint16),
        "labels": _encode(np.searchsorted(known, images.labels), np.uint16),
        "nearest": _encode(nearest, np.uint16),
        "cosines": _encode(np.round(cosines * _COSINES), np.int16),
    }
    held_out = images.sets.count("held-out")
    lead = f"{held_out:,} held-out and {len(images) - held_out:,} training images"
    note = (
        f"Positions: {embedding.describe()}. Near dots have similar features; distances between "
        f"groups mean little. Nearest: by the cosine of the whole features ({count} of the "
        f"{len(images):,} images here)."
    )
    uri = canvas.data_uri(*map_images.encode_small(sprite))
    # Without a "<" nothing in a name can end the script that holds it.
    text = json.dumps(data).replace("<", "\\u003c")
    return page.document(
        f"{name}: explorer",
        ["explorer.css"],
        f'<header><h1>{html.escape(name)}</h1><p id="lead">{lead}</p></header>\n'
        f"{page.read_part('explorer.html')}"
        f'<footer>{html.escape(note)}</footer>\n<img id="sprite" alt="" hidden src="{uri}">\n'
        f'<script type="application/json" id="data">{text}</script>\n',
        ["explorer_plane.js", "explorer.js"],
    )


def _encode(values, kind):
    """Whole numbers as base64 of their bytes, little end first."""
    numbers = np.asarray(values).astype(np.dtype(kind).newbyteorder("<"))
    return base64.b64encode(numbers.tobytes()).decode()
