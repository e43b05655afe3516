"""The contrastive loss of CsMl and MoCo, as pure functions of tensors."""

import tensorflow as tf


def multi_positive_info_nce(queries, positives, negatives, weights, temperature):
    """InfoNCE with several weighted positives that share one set of negatives.

    Each positive competes with the negatives only, never with its sibling
    positives, so adding a second positive cannot make the first one harder:

        loss[i] = -sum_p weights[i, p] * log(e[i, p] / (e[i, p] + sum_n e[i, n]))
        e[i, x] = exp(dot(queries[i], x) / temperature)

    One positive of weight 1 gives MoCo's loss, arXiv:1911.05722 eq. 1. The
    weighted form follows CsMl, arXiv:2012.02733.

    Args:
        queries: [batch, dim] float, unit length; the gradient flows through them.
        positives: [batch, num_positives, dim] float, unit length.
        negatives: [num_negatives, dim] float, unit length; the key queue.
        weights: [batch, num_positives] float, at least 0; rows may have any sum.
        temperature: float above 0, no unit.

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
    log_strangers = tf.reduce_logsumexp(negative_logits, axis=1, keepdims=True)
    # -log(e / (e + s)) = softplus(log s - log e): no overflow, no [b, p, n] tensor.
    losses = weights * tf.nn.softplus(log_strangers - positive_logits)
    return tf.reduce_sum(losses, axis=1)
