"""A page of anchors with all that is made of them, as the model gets it."""

import numpy as np
import tensorflow as tf

from csml_tf import places
from csml_tf.data import catalog
from csml_tf.reports import canvas
from csml_tf.training import run_directory, settling

_COLUMN_INCHES = 1.35
_ROW_INCHES = 1.6
_MIN_WIDTH = 0.5
# Of a view's frame, and of its window in the original.
_COLORS = {"query": "tab:blue", "key": "tab:orange", "small": "tab:green"}


def write(output, recipe, model_dir=None, dataset=None, data_dir=None, step=1):
    """Draws a page of anchors, their views, neighbors and mixed images, as `views.png`.

    Args:
        output: folder of the page; made when missing.
        recipe: `runs.Recipe`.
        model_dir: the run directory that the recipe is of: its newest trained epoch is shown.
            None shows what training would begin with, and random images for the neighbors
            that are not mined yet.
        dataset: data set string; None takes the recipe's.
        data_dir: where TFDS finds its data sets; None takes TFDS' own default.
        step: whose batch is shown, of the epoch, from 1.

    Returns:
        One line about the page.

    Raises:
        InputError: if there is no run, no checkpoint or no data, or no page can be written.
    """
    checkpoints = None if model_dir is None else run_directory.find(model_dir).checkpoints
    canvas.prepare(output)
    source = catalog.open_dataset(recipe.choose_dataset(dataset), data_dir).split("pretrain")
    recipe = settling.settle(recipe, source, tf.distribute.get_strategy(), {}, timed=False)
    shown = recipe.collect_step(source, recipe.make_center_view(), checkpoints, step - 1)
    name = recipe.name if model_dir is None else places.at(model_dir).resolve().name
    path = places.at(output, "views.png")
    save_page(shown.anchors, f"{name} on {source.name}\n{shown.describe()}", path)
    return f"{path}: {len(shown.anchors)} anchors of {name}, {shown.describe()}"


def save_page(anchors, title, path):
    """Draws one row per anchor and writes the page.

    The columns: the anchor's original with a frame where each view looks; its views; the
    same of its neighbor; the mixed image, and the shares of the two in it. Columns that
    no anchor has are left out.

    Args:
        anchors: list of `training.step_images.AnchorImages`, or anything alike.
        title: of the page, one line or several.
        path: of the PNG file; its folder exists.

    Raises:
        InputError: as `canvas.save`.
    """
    columns = _columns(anchors[0])
    widths = [width for _, _, width in columns]
    page = canvas.figure(_COLUMN_INCHES * sum(widths), _ROW_INCHES * len(anchors) + 0.6)
    page.suptitle(title, x=0.01, ha="left", fontsize=10)
    grid = page.subplots(
        len(anchors), len(columns), squeeze=False, gridspec_kw={"width_ratios": widths}
    )
    for row, images in zip(grid, anchors):
        for axes, (name, _, _) in zip(row, columns):
            _draw_cell(axes, name, images)
    for axes, (_, column_title, _) in zip(grid[0], columns):
        axes.set_title(column_title, fontsize=8)
    canvas.save(page, path)


def _columns(images):
    """[(name, title, width relative to a query's)] of what an anchor has."""
    size = images.views["query"].shape[0]
    of_anchor = [name for name in images.views if not name.startswith("neighbor_")]
    of_neighbor = [name for name in images.views if name.startswith("neighbor_")]
    names = ["anchor", *of_anchor]
    names += ["neighbor", *of_neighbor] if images.neighbor is not None else []
    names += ["mixed"] if images.mixed is not None else []
    widths = [images.views[name].shape[0] / size if name in images.views else 1 for name in names]
    titles = {"neighbor_query": "neighbor's query", "neighbor_key": "neighbor's key"}
    return [
        (name, titles.get(name, name.replace("_", " ")), max(width, _MIN_WIDTH))
        for name, width in zip(names, widths)
    ]


def _draw_cell(axes, name, images):
    axes.set_xticks([])
    axes.set_yticks([])
    if name in ("anchor", "neighbor"):
        original = getattr(images, name)
        axes.imshow(original.pixels)
        # A square cell whatever the image's shape, so that titles and rows are level.
        axes.set_box_aspect(1)
        axes.set_adjustable("datalim")
        axes.spines[:].set_visible(False)
        axes.set_xlabel(original.describe(), fontsize=6)
        for view_name, window in original.windows.items():
            _draw_window(axes, window, _color(view_name))
    elif name == "mixed":
        axes.imshow(images.mixed)
        share = images.area_fraction
        axes.set_xlabel(f"{share:.0%} query, {1 - share:.0%} neighbor", fontsize=6)
    else:
        axes.imshow(images.views[name])
        axes.spines[:].set(color=_color(name), linewidth=2)


def _draw_window(axes, window, color):
    # Pixel centres are at whole numbers, so the image begins half a pixel before 0.
    top, left, height, width = window - np.array([0.5, 0.5, 0.0, 0.0])
    right, bottom = left + width, top + height
    columns, rows = [left, right, right, left, left], [top, top, bottom, bottom, top]
    axes.plot(columns, rows, color=color, clip_on=False, scalex=False, scaley=False)


def _color(view_name):
    return next(color for kind, color in _COLORS.items() if kind in view_name)
