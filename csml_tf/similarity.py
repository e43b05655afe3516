"""Exact nearest neighbours by cosine similarity, block by block."""

import numpy as np
import tensorflow as tf

# 512 queries against 65,536 bank rows: 128 MiB of similarities at a time.
_QUERY_BLOCK = 512
_BANK_BLOCK = 65536


def cosine_top_k(queries, bank, k, query_indices=None, on_block=None):
    """The k rows of `bank` most similar to each query, nearest first.

    Exact: every similarity is computed. Memory beyond the inputs and outputs is
    one block of similarities, whatever their lengths.

    Args:
        queries: [num_queries, dim] float32, unit length.
        bank: [num_images, dim] float32, unit length.
        k: neighbours per query, from 1 to the number of candidates.
        query_indices: [num_queries] integer or None; where the queries stand in the
            bank. That row is left out of its own neighbours, by its index: another
            row with the same features stays.
        on_block: called after each block with the number of queries in it.

    Returns:
        (similarities [num_queries, k] float32 in [-1, 1], indices [num_queries, k] int32).

    Raises:
        ValueError: if the bank has fewer than k candidates.

    Example:
        >>> axes = np.eye(3, dtype="float32")
        >>> near = np.float32([[0.6, 0.8, 0.0]])
        >>> cosine_top_k(near, axes, k=2)[1].tolist()
        [[1, 0]]
        >>> cosine_top_k(near, axes, k=2, query_indices=[1])[1].tolist()
        [[0, 2]]
    """
    candidates = len(bank) - (query_indices is not None)
    if not 1 <= k <= candidates:
        raise ValueError(f"k must be from 1 to the {candidates} candidates in the bank, got {k}.")
    bank_blocks = [
        (start, tf.constant(bank[start : start + _BANK_BLOCK]))
        for start in range(0, len(bank), _BANK_BLOCK)
    ]
    all_similarities = np.empty([len(queries), k], np.float32)
    all_indices = np.empty([len(queries), k], np.int32)
    for start in range(0, len(queries), _QUERY_BLOCK):
        rows = slice(start, min(start + _QUERY_BLOCK, len(queries)))
        block = tf.constant(queries[rows])
        # -1 is no row of the bank: nothing is left out.
        own = np.full(len(block), -1) if query_indices is None else query_indices[rows]
        own = tf.constant(own, tf.int32)
        best = None
        for offset, bank_block in bank_blocks:
            # As a tensor: a Python number would be traced anew for each k.
            block_k = tf.constant(min(k, len(bank_block)))
            found = _block_top_k(block, bank_block, own - offset, block_k)
            found = (found[0], found[1] + offset)
            best = found if best is None else _merge(best, found, tf.constant(k))
        all_similarities[rows], all_indices[rows] = best[0].numpy(), best[1].numpy()
        if on_block is not None:
            on_block(rows.stop - rows.start)
    return all_similarities, all_indices


def l2_normalize(features):
    """[n, dim] -> [n, dim] float32 of unit length; a zero row stays zero."""
    features = np.asarray(features, np.float32)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(norms, 1e-12)


@tf.function(reduce_retracing=True)
def _block_top_k(queries, bank, own, k):
    similarities = tf.matmul(queries, bank, transpose_b=True)
    in_block = (own >= 0) & (own < tf.shape(bank)[0])
    rows = tf.cast(tf.where(in_block), tf.int32)
    cells = tf.concat([rows, tf.boolean_mask(own, in_block)[:, None]], axis=1)
    left_out = tf.fill([tf.shape(cells)[0]], -np.inf)
    similarities = tf.tensor_scatter_nd_update(similarities, cells, left_out)
    return tf.math.top_k(similarities, k)


@tf.function(reduce_retracing=True)
def _merge(left, right, k):
    similarities = tf.concat([left[0], right[0]], axis=1)
    indices = tf.concat([left[1], right[1]], axis=1)
    # The blocks so far may be shorter than k.
    best, columns = tf.math.top_k(similarities, tf.minimum(k, tf.shape(similarities)[1]))
    return best, tf.gather(indices, columns, batch_dims=1)
