"""Mining: the nearest neighbors of every training image, by an encoder's features."""

import numpy as np

from csml_tf import approximate_search, features, progress, similarity


def mine_neighbors(
    encode,
    source,
    center_view,
    num_neighbors,
    batch_size=256,
    share_rows=None,
    approximate=False,
):
    """Nearest neighbors of each image among all others of the source.

    As the authors' code does: inference mode, global average pooling of the last
    stage before the head, unit length, one centre view without augmentation.

    Args:
        encode: function of a batch of the view's images to [batch, dim] features, such as the key
            encoder's `pooled_features`.
        source: `sources.base.ImageSource` of the training images.
        center_view: `augment.view.CenterView`.
        num_neighbors: per image, from 1 to len(source) - 1.
        batch_size: images per forward pass.
        share_rows: of several workers, function of (number of rows, function of a slice of them
            to their rows of the result) to the whole result: each searches for its own rows
            only. None where there is one, which searches for all of them in half the time.
        approximate: whether `approximate_search` finds them; else they are exact.

    Returns:
        ([len(source), num_neighbors] int32 indices, nearest first, never the image itself; the
        recall of an approximate search, as `approximate_search.measure_recall` has it, or None).

    Raises:
        InputError: if the search is approximate, and FAISS is not installed.
        ValueError: if there are fewer than `num_neighbors` other images, or a feature is not
            finite.
    """
    vectors = features.extract_features(encode, source, center_view, batch_size, "mining: features")
    similarity.l2_normalize_in_place(vectors)
    if approximate:
        return _search_approximately(vectors, num_neighbors, share_rows)

    def search(rows):
        own = np.arange(rows.start, rows.stop)
        with _bar(own) as advance:
            found = similarity.cosine_top_k(vectors[rows], vectors, num_neighbors, own, advance)
        return found[1]

    if share_rows is not None:
        return share_rows(len(vectors), search), None
    with _bar(vectors) as advance:
        return similarity.mutual_top_k(vectors, num_neighbors, on_block=advance)[1], None


def _search_approximately(vectors, num_neighbors, share_rows):
    with progress.bar(len(vectors), "mining: index", unit="images") as advance:
        index = approximate_search.InvertedFile(vectors, advance)

    def search(rows):
        with _bar(range(rows.start, rows.stop)) as advance:
            return index.top_k(num_neighbors, rows, advance)[1]

    if share_rows is not None:
        indices = share_rows(len(vectors), search)
    else:
        indices = search(slice(0, len(vectors)))
    return indices, approximate_search.measure_recall(vectors, indices)


def _bar(rows):
    return progress.bar(len(rows), "mining: neighbors", unit="images")
