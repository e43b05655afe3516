"""The contact sheets of a report: mined neighbors, what is nearest to unseen images, to queries."""

import os

import numpy as np

from csml_tf import similarity
from csml_tf.data import originals
from csml_tf.reports.contact_sheet import ContactSheet, SheetRow
from csml_tf.reports.part import LeftOut
from csml_tf.training import saved_neighbors

NUM_ROWS = 8
NUM_NEAREST = 5
MAX_QUERIES = 12
_MAX_PX = 160
_FRAMES = " Blue frame: the class of the first image; orange frame: another class."


def mined(checkpoints, source, fingerprint, seed):
    """Training images with their neighbors, from the table of the newest checkpoint.

    Args:
        checkpoints: folder of the run's checkpoints.
        source: `ImageSource` of the training images.
        fingerprint: of the images that the run was trained on.
        seed: of the draw of the images.

    Returns:
        (`ContactSheet`, caption).

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
        SheetRow(reader.read(i), [reader.read(j) for j in table[i, :NUM_NEAREST]]) for i in chosen
    ]
    caption = (
        f"{len(chosen)} images of {source.name}, drawn with seed {seed}, and their neighbors as "
        f"the training uses them: the {len(rows[0].nearest)} nearest of {len(table):,} images by "
        "the cosine of the key encoder's pooled features, mined before epoch "
        f"{mined_at_epoch + 1}."
    )
    return ContactSheet(rows, "image", "neighbor"), caption + (
        _FRAMES if source.labels is not None else ""
    )


def of_held_out(test, train, seed, share_training):
    """Held-out images with the training images that are nearest to them.

    Args:
        test: `trained_features.ImageFeatures` of held-out images.
        train: the same of training images.
        seed: of the draw of the images.
        share_training: whether the encoder has trained on the held-out images too.

    Returns:
        (`ContactSheet`, caption).
    """
    chosen = _draw(len(test.source), seed)
    sheet = _find(test, chosen, train, "held-out", "nearest")
    caption = (
        f"{len(chosen)} images (seed {seed}) out of {test.source.name}, and for each "
        f"{_about(sheet, train)}"
    )
    if share_training:
        caption += " The encoder has trained on all images of this folder, without their labels."
    return sheet, caption + (_FRAMES if test.source.labels is not None else "")


def of_queries(queries, train):
    """Images that somebody brought, with the training images that are nearest to them.

    A query that is one of the training images, by its path, is not its own neighbor.

    Args:
        queries: `trained_features.ImageFeatures` of image files.
        train: the same of training images.

    Returns:
        (`ContactSheet`, caption).
    """
    count = len(queries.source)
    chosen = np.arange(min(count, MAX_QUERIES))
    names = [os.path.abspath(path) for path in train.source.paths or []]
    where = dict(zip(names, range(len(names))))
    own = [where.get(os.path.abspath(queries.source.paths[i]), -1) for i in chosen]
    sheet = _find(queries, chosen, train, "query", "nearest", own)
    shown = f"{count} images" if len(chosen) == count else f"The first {len(chosen)} of {count}"
    return sheet, f"{shown} of {queries.source.name}, and for each {_about(sheet, train)}"


def _find(queries, chosen, train, title, other_title, own=None):
    """The sheet of some of the queries; `own` are their rows in the training images, or -1."""
    is_own = own is not None and max(own) >= 0
    k = min(NUM_NEAREST, len(train.source) - is_own)
    similarities, indices = similarity.cosine_top_k(
        queries.values[chosen], train.values, k, own if is_own else None
    )
    of_queries, bank = (originals.Originals(each.source, _MAX_PX) for each in (queries, train))
    rows = [
        SheetRow(of_queries.read(i), [bank.read(j) for j in row], cosines.tolist())
        for i, row, cosines in zip(chosen, indices, similarities)
    ]
    return ContactSheet(rows, title, other_title)


def _about(sheet, train):
    return (
        f"the {len(sheet.rows[0].nearest)} nearest of {len(train.source):,} images, "
        f"{train.source.name}, by the cosine (below) of the exported encoder's pooled features "
        '(layer "features").'
    )


def _draw(num_images, seed):
    count = min(NUM_ROWS, num_images)
    return np.sort(np.random.default_rng(seed).choice(num_images, count, replace=False))
