"""Multinomial logistic regression to its optimum, on features that fit into memory."""

import dataclasses

import numpy as np
import tensorflow as tf

# Float64 numbers of a block's features or logits, which bounds the memory beyond the features
# to some 0.5 GB.
_BLOCK_NUMBERS = 2**24
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
        size = _block_size(*self.kernel.shape)
        blocks = (features[start : start + size] for start in range(0, len(features), size))
        return np.concatenate([tf.math.top_k(b @ kernel + bias, count).indices for b in blocks])


def fit(
    features, labels, num_classes, l2, weights=None, start=None, tolerance=1e-5, max_iterations=1000
):
    """Minimises the mean cross-entropy and an L2 term by L-BFGS.

        sum(weights * cross-entropy) / sum(weights) + l2 / 2 * sum(kernel ** 2)

    The bias is not penalised. With all weights 1 this is scikit-learn's objective for
    C = 1 / (l2 * n). Computed in float64: near the optimum the objective's changes are below
    the rounding of float32, and the search for the next step would give up.

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
    size = _block_size(dim, num_classes)
    blocks = [
        tuple(tf.convert_to_tensor(array[first : first + size]) for array in arrays)
        for first in range(0, len(features), size)
        for arrays in [(features, np.asarray(labels), weights)]
    ]

    def objective(flat):
        parameters = flat.reshape([dim + 1, num_classes])
        kernel, bias = parameters[:-1], parameters[-1]
        value, gradient = l2 / 2 * np.sum(kernel**2), np.append(l2 * kernel, np.zeros(num_classes))
        for block in blocks:
            loss, *gradients = _loss_and_gradients(kernel, bias, *block)
            value += loss.numpy()
            gradient += np.concatenate([part.numpy().ravel() for part in gradients])
        return value, gradient

    from scipy import optimize  # It takes half a second to import.

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
    """Weighted sum of the cross-entropies, and its gradients by kernel and bias."""
    features = tf.cast(features, tf.float64)
    log_shares = tf.nn.log_softmax(features @ kernel + bias)
    truth = tf.one_hot(labels, tf.shape(bias)[0], dtype=tf.float64)
    loss = -tf.reduce_sum(weights * tf.reduce_sum(truth * log_shares, axis=1))
    errors = weights[:, None] * (tf.exp(log_shares) - truth)
    return loss, tf.matmul(features, errors, transpose_a=True), tf.reduce_sum(errors, axis=0)


def _block_size(dim, num_classes):
    return max(1, _BLOCK_NUMBERS // max(dim, num_classes))
