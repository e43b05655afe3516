"""Mining: the nearest neighbors of every training image, by the key encoder's features."""

from csml_tf import features, progress, similarity


def mine_neighbors(encoder, source, center_view, num_neighbors, batch_size=256):
    """Exact nearest neighbors of each image among all others of the source.

    As the authors' code does: inference mode, global average pooling of the last
    stage before the head, unit length, one centre view without augmentation.

    Args:
        encoder: `MultiLevelEncoder`; the key encoder's.
        source: `sources.base.ImageSource` of the training images.
        center_view: `augment.view.CenterView`.
        num_neighbors: per image, from 1 to len(source) - 1.
        batch_size: images per forward pass.

    Returns:
        [len(source), num_neighbors] int32 indices, nearest first, never the image itself.
    """
    found = features.extract_features(
        encoder.pooled_features, source, center_view, batch_size, "mining: features"
    )
    vectors = similarity.l2_normalize(found)
    with progress.bar(len(vectors), "mining: neighbors", unit="images") as advance:
        _, neighbor_indices = similarity.mutual_top_k(vectors, num_neighbors, on_block=advance)
    return neighbor_indices
