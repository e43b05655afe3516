"""The losses of the base methods, each with several weighted positives, as pure functions."""

import tensorflow as tf


def multi_positive_info_nce(queries, positives, negatives, weights, temperature, is_negative=None):
    """InfoNCE with several weighted positives that share one set of negatives.

    Each positive competes with the negatives only, never with its sibling
    positives, so adding a second positive cannot make the first one harder:

        loss[i] = -sum_p weights[i, p] * log(e[i, p] / (e[i, p] + sum_n e[i, n]))
        e[i, x] = exp(dot(queries[i], x) / temperature)

    One positive of weight 1 gives MoCo's loss, arXiv:1911.05722 eq. 1. The
    weighted form follows CsMl, arXiv:2012.02733. With the other images of the batch
    as negatives it is SimCLR's NT-Xent, arXiv:2002.05709 eq. 1.

    Args:
        queries: [batch, dim] float, unit length; the gradient flows through them.
        positives: [batch, num_positives, dim] float, unit length.
        negatives: [num_negatives, dim] float, unit length; the key queue, for example.
        weights: [batch, num_positives] float, at least 0; rows may have any sum.
        temperature: float above 0, no unit.
        is_negative: [batch, num_negatives] bool, which of them count for each query; None
            for all. A query without any has a loss of 0.

    Returns:
        [batch] loss in nats, not reduced: the caller knows the global batch size.

    Raises:
        ValueError: if `temperature` is not above 0.

    Example:
        >>> axes = tf.eye(3)  # One query, its own direction as key, two strangers.
        >>> loss = multi_positive_info_nce(
        ...     axes[:1], axes[None, :1], axes[1:], tf.ones([1, 1]), temperature=1.0)
        >>> round(float(loss[0]), 4)  # log(1 + 2 / e)
        0.5514
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}.")
    positive_logits = tf.einsum("bd,bpd->bp", queries, positives) / temperature
    negative_logits = tf.matmul(queries, negatives, transpose_b=True) / temperature
    if is_negative is not None:
        negative_logits = tf.where(is_negative, negative_logits, negative_logits.dtype.min)
    log_strangers = tf.reduce_logsumexp(negative_logits, axis=1, keepdims=True)
    # -log(e / (e + s)) = softplus(log s - log e): no overflow, no [b, p, n] tensor.
    losses = weights * tf.nn.softplus(log_strangers - positive_logits)
    return tf.reduce_sum(losses, axis=1)


def multi_positive_distance(queries, positives, weights):
    """The squared distance of unit vectors to several weighted positives: BYOL's loss.

        loss[i] = sum_p weights[i, p] * |queries[i] - positives[i, p]|^2
                = sum_p weights[i, p] * (2 - 2 * dot(queries[i], positives[i, p]))

    One positive of weight 1 gives arXiv:2006.07733 eq. 2; the weighted sum is ours.

    Args:
        queries: [batch, dim] float, unit length; the gradient flows through them.
        positives: [batch, num_positives, dim] float, unit length.
        weights: [batch, num_positives] float, at least 0; rows may have any sum.

    Returns:
        [batch] float, not reduced.

    Example:
        >>> axes = tf.eye(2)  # Of a query and its own direction, and of one across.
        >>> multi_positive_distance(axes[:1], axes[None], tf.constant([[0.5, 0.5]])).numpy()
        array([1.], dtype=float32)
    """
    cosines = tf.einsum("bd,bpd->bp", queries, positives)
    return tf.reduce_sum(weights * (2.0 - 2.0 * cosines), axis=1)


def multi_code_cross_entropy(scores, codes, weights, temperature):
    """Predicts the codes of several weighted positives: SwAV's loss.

        loss[i] = -sum_p weights[i, p] * sum_k codes[i, p, k] * log softmax(scores[i] / t)[k]

    One positive of weight 1 gives arXiv:2006.09882 eq. 2; the weighted sum is ours.

    Args:
        scores: [batch, num_prototypes] float, of the queries; the gradient flows through them.
        codes: [batch, num_positives, num_prototypes] float, rows that sum to 1.
        weights: [batch, num_positives] float, at least 0; rows may have any sum.
        temperature: float above 0, no unit.

    Returns:
        [batch] float in nats, not reduced.

    Raises:
        ValueError: if `temperature` is not above 0.

    Example:
        >>> codes = tf.constant([[[1.0, 0.0]]])
        >>> loss = multi_code_cross_entropy(tf.zeros([1, 2]), codes, tf.ones([1, 1]), 0.1)
        >>> round(float(loss[0]), 4)  # log(2)
        0.6931
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}.")
    log_shares = tf.nn.log_softmax(scores / temperature, axis=1)
    return -tf.reduce_sum(weights * tf.einsum("bk,bpk->bp", log_shares, codes), axis=1)


def sinkhorn_codes(scores, epsilon, num_iterations, is_used=None):
    """Shares of prototypes for each row, spread so that all prototypes are used alike.

    Sinkhorn-Knopp on exp(scores / epsilon), arXiv:2006.09882 eqs. 3 to 5: each iteration
    scales the prototypes to equal sums over the rows, then the rows to equal sums.

    Args:
        scores: [rows, num_prototypes] float.
        epsilon: above 0; the smaller, the nearer a code is to one prototype.
        num_iterations: at least 1.
        is_used: [rows] bool, which rows take part; None for all. The codes of the others are 0.

    Returns:
        [rows, num_prototypes] float; each row in use sums to 1.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> sinkhorn_codes(tf.constant([[1.0, 0.0], [0.0, 1.0]]), 1.0, 3).numpy().round(4)
        array([[0.7311, 0.2689],
               [0.2689, 0.7311]], dtype=float32)
    """
    if epsilon <= 0 or num_iterations < 1:
        raise ValueError(
            "epsilon must be above 0 and num_iterations at least 1, got "
            f"{epsilon} and {num_iterations}."
        )
    # In logarithms, since a small epsilon leaves nothing of a row's shares in float32.
    logs = tf.convert_to_tensor(scores) / epsilon
    left_out = -float("inf")
    for _ in range(num_iterations):
        if is_used is not None:
            logs = tf.where(is_used[:, None], logs, left_out)
        logs -= tf.reduce_logsumexp(logs, axis=0, keepdims=True)
        logs -= tf.reduce_logsumexp(logs, axis=1, keepdims=True)
    shares = tf.exp(logs)
    return shares if is_used is None else tf.where(is_used[:, None], shares, 0.0)
