"""Mining: the nearest neighbours of every training image, by the key encoder's features."""

from csml_tf import features, progress, similarity

# What neighbours are told by.
LAYERS = ("features", "embedding")


def mine_neighbors(encoder, source, center_view, num_neighbors, batch_size=256, layer="features"):
    """Exact nearest neighbours of each image among all others of the source.

    As the authors' code does: inference mode, global average pooling of the last
    stage before the head, unit length, one centre view without augmentation.

    Args:
        encoder: `MultiLevelEncoder`; the key encoder's.
        source: `sources.base.ImageSource` of the training images.
        center_view: `augment.view.CenterView`.
        num_neighbors: per image, from 1 to len(source) - 1.
        batch_size: images per forward pass.
        layer: "features", as above, or "embedding", the deepest level's (our option).

    Returns:
        [len(source), num_neighbors] int32 indices, nearest first, never the image itself.
    """
    encode = encoder.pooled_features if layer == "features" else encoder.embedding
    found = features.extract_features(encode, source, center_view, batch_size, "mining: features")
    found = similarity.l2_normalize(found)
    with progress.bar(len(source), "mining: neighbors", unit="images") as advance:
        _, neighbor_indices = similarity.mutual_top_k(found, num_neighbors, on_block=advance)
    return neighbor_indices
