"""Mining: the nearest neighbors of every training image, by the key encoder's features."""

import numpy as np

from csml_tf import features, progress, similarity


def mine_neighbors(encoder, source, center_view, num_neighbors, batch_size=256, share_rows=None):
    """Exact nearest neighbors of each image among all others of the source.

    As the authors' code does: inference mode, global average pooling of the last
    stage before the head, unit length, one centre view without augmentation.

    Args:
        encoder: `MultiLevelEncoder`; the key encoder's.
        source: `sources.base.ImageSource` of the training images.
        center_view: `augment.view.CenterView`.
        num_neighbors: per image, from 1 to len(source) - 1.
        batch_size: images per forward pass.
        share_rows: of several workers, function of (number of rows, function of a slice of them
            to their rows of the result) to the whole result: each searches for its own rows
            only. None where there is one, which searches for all of them in half the time.

    Returns:
        [len(source), num_neighbors] int32 indices, nearest first, never the image itself.
    """
    found = features.extract_features(
        encoder.pooled_features, source, center_view, batch_size, "mining: features"
    )
    vectors = similarity.l2_normalize(found)

    def search(rows):
        own = np.arange(rows.start, rows.stop)
        with progress.bar(len(own), "mining: neighbors", unit="images") as advance:
            found = similarity.cosine_top_k(vectors[rows], vectors, num_neighbors, own, advance)
        return found[1]

    if share_rows is not None:
        return share_rows(len(vectors), search)
    with progress.bar(len(vectors), "mining: neighbors", unit="images") as advance:
        return similarity.mutual_top_k(vectors, num_neighbors, on_block=advance)[1]
