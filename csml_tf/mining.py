"""Mining: the nearest neighbours of every training image, by the key encoder's features."""

import numpy as np

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
    return _nearest(similarity.l2_normalize(found), num_neighbors)


def mine_bank(keys, num_neighbors):
    """Exact nearest neighbours by the keys of training, with no pass over the images.

    Our option: keys are of augmented views, in batch norm's training mode, and each of the
    encoder as it was when its image was last an anchor.

    Args:
        keys: [num_images, dim] float32 unit vectors, or zeros for an image that has no key.
        num_neighbors: per image, at least 1.

    Returns:
        [num_images, num_neighbors] int32 indices, nearest first, as `mine_neighbors`; an image
        without a key is its own neighbour and nobody else's. None while there are no more than
        `num_neighbors` keys.
    """
    has_key = np.flatnonzero(keys.any(axis=1))
    if len(has_key) <= num_neighbors:
        return None
    neighbor_indices = np.repeat(np.arange(len(keys), dtype=np.int32)[:, None], num_neighbors, 1)
    neighbor_indices[has_key] = has_key[_nearest(keys[has_key], num_neighbors)]
    return neighbor_indices


def _nearest(vectors, num_neighbors):
    with progress.bar(len(vectors), "mining: neighbors", unit="images") as advance:
        _, neighbor_indices = similarity.mutual_top_k(vectors, num_neighbors, on_block=advance)
    return neighbor_indices
