"""Multinomial logistic regression to its optimum, on features that fit into memory."""

import dataclasses

import numpy as np
import tensorflow as tf
from scipy import optimize

# Logits computed at a time, which bounds the memory beyond the features to some 0.5 GB.
_BLOCK_LOGITS = 2**24
_LINE_SEARCH_STEPS = 50


@dataclasses.dataclass(frozen=True)
class Fit:
    """A trained classifier.

    Attributes:
        kernel: [dim, num_classes] float64.
        bias: [num_classes] float64.
        iterations: of L-BFGS.
        largest_gradient: largest absolute entry of the objective's gradient at the end.
        converged: whether it is at most the tolerance.
    """

    kernel: np.ndarray
    bias: np.ndarray
    iterations: int
    largest_gradient: float
    converged: bool

    def rank(self, features, count):
        """[n, dim] float32 -> [n, count] integer: the likeliest classes, best first."""
        kernel, bias = (tf.constant(array, tf.float32) for array in (self.kernel, self.bias))
        size = _block_size(self.bias)
        blocks = (features[start : start + size] for start in range(0, len(features), size))
        return np.concatenate([tf.math.top_k(b @ kernel + bias, count).indices for b in blocks])


def fit(
    features, labels, num_classes, l2, weights=None, start=None, tolerance=1e-5, max_iterations=1000
):
    """Minimises the mean cross-entropy and an L2 term by L-BFGS.

        sum(weights * cross-entropy) / sum(weights) + l2 / 2 * sum(kernel ** 2)

    The bias is not penalised. With all weights 1 this is scikit-learn's objective for
    C = 1 / (l2 * n). The products are float32, the sums over them float64.

    Args:
        features: [n, dim] float32; quickest if standardised.
        labels: [n] integer in [0, num_classes).
        num_classes: int.
        l2: float above 0.
        weights: [n] float, at least 0; None for all 1.
        start: `Fit` to begin with; None begins with zeros.
        tolerance: on the largest absolute entry of the gradient.
        max_iterations: of L-BFGS.

    Returns:
        `Fit`.
    """
    dim = features.shape[1]
    weights = np.ones(len(features)) if weights is None else np.asarray(weights, np.float64)
    weights = weights / weights.sum()
    size = _block_size(np.empty(num_classes))
    blocks = [
        tuple(tf.convert_to_tensor(array[first : first + size]) for array in arrays)
        for first in range(0, len(features), size)
        for arrays in [(features, np.asarray(labels), weights)]
    ]

    def objective(flat):
        kernel, bias = flat[:-num_classes].reshape([dim, num_classes]), flat[-num_classes:]
        rounded = tf.constant(kernel, tf.float32), tf.constant(bias, tf.float32)
        value, gradient = l2 / 2 * np.sum(kernel**2), np.append(l2 * kernel, np.zeros(num_classes))
        for block in blocks:
            loss, *gradients = _loss_and_gradients(*rounded, *block)
            value += loss.numpy()
            gradient += np.concatenate([part.numpy().ravel() for part in gradients])
        return value, gradient

    first = np.zeros([dim + 1, num_classes])
    if start is not None:
        first = np.vstack([start.kernel, start.bias])
    found = optimize.minimize(
        objective,
        first.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={
            "maxiter": max_iterations,
            "maxfun": 2 * max_iterations,
            "maxls": _LINE_SEARCH_STEPS,
            "gtol": tolerance,
            "ftol": 0.0,  # The gradient alone decides.
        },
    )
    solution = found.x.reshape([dim + 1, num_classes])
    largest = float(np.abs(found.jac).max())
    return Fit(solution[:-1], solution[-1], int(found.nit), largest, largest <= tolerance)


def standardize(train_features, *others):
    """Brings every feature to mean 0 and standard deviation 1 over the training images, in place.

    Features that are the same for all training images become 0.

    Args:
        train_features: [n, dim] float32, overwritten.
        *others: [m, dim] float32 of other images, overwritten by the same transformation.
    """
    mean = train_features.mean(axis=0, dtype=np.float64)
    std = train_features.std(axis=0, dtype=np.float64)
    is_constant = std <= 1e-6 * np.abs(mean)
    scale = np.where(is_constant, 0.0, 1.0 / np.where(is_constant, 1.0, std))
    for features in (train_features, *others):
        features -= mean.astype(np.float32)
        features *= scale.astype(np.float32)


@tf.function(reduce_retracing=True)
def _loss_and_gradients(kernel, bias, features, labels, weights):
    """Weighted sum of the cross-entropies, and its gradients by kernel and bias, float64."""
    log_shares = tf.nn.log_softmax(tf.cast(features @ kernel + bias, tf.float64))
    truth = tf.one_hot(labels, bias.shape[0], dtype=tf.float64)
    loss = -tf.reduce_sum(weights * tf.reduce_sum(truth * log_shares, axis=1))
    errors = weights[:, None] * (tf.exp(log_shares) - truth)
    kernel_gradient = tf.matmul(features, tf.cast(errors, tf.float32), transpose_a=True)
    return loss, tf.cast(kernel_gradient, tf.float64), tf.reduce_sum(errors, axis=0)


def _block_size(bias):
    return max(1, _BLOCK_LOGITS // len(bias))
