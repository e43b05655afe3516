"""Linear classifiers trained side by side on the same features, each as if alone."""

import tensorflow as tf

_SGD_MOMENTUM = 0.9
_INITIAL_STD = 0.01


class LinearHeads(tf.Module):
    """One linear layer and softmax for each of several learning rates.

    Every head begins with the same weights, sees the same batches, and takes the step of
    `torch.optim.SGD` with momentum and without weight decay:

        buffer = SGD_MOMENTUM * buffer + gradient of the mean cross-entropy
        weight = weight - learning_rate * buffer

    The heads know nothing of each other, so one is what it would be without the others, but
    for the rounding of the matrix products.

    Args:
        feature_dim: length of the features.
        num_classes: int.
        num_heads: int.
        seed: int, of the weights, drawn from N(0, 0.01); biases are 0.
        name: of the module.

    Attributes:
        kernel: [feature_dim, num_heads, num_classes] variable.
        bias: [num_heads, num_classes] variable.
    """

    def __init__(self, feature_dim, num_classes, num_heads, seed, name="linear_heads"):
        super().__init__(name=name)
        one = tf.random.stateless_normal([feature_dim, 1, num_classes], [seed, seed])
        self.kernel = tf.Variable(tf.tile(_INITIAL_STD * one, [1, num_heads, 1]), name="kernel")
        self.bias = tf.Variable(tf.zeros([num_heads, num_classes]), name="bias")
        self._buffers = [
            tf.Variable(tf.zeros_like(variable), trainable=False, name=f"{name}_buffer")
            for variable, name in ((self.kernel, "kernel"), (self.bias, "bias"))
        ]

    def logits(self, features):
        """[batch, feature_dim] float32 -> [batch, num_heads, num_classes]."""
        dim, num_heads, num_classes = self.kernel.shape
        flat = tf.reshape(self.kernel, [dim, num_heads * num_classes])
        return tf.reshape(features @ flat, [-1, num_heads, num_classes]) + self.bias

    def step(self, features, labels, weights, learning_rates):
        """One step of every head.

        Args:
            features: [batch, feature_dim] float32.
            labels: [batch] integer.
            weights: [batch, num_heads] float32, at least 0, of each image in the mean of each
                head's loss; 0 hides the image from that head.
            learning_rates: [num_heads] float32.
        """
        dim, num_heads, num_classes = self.kernel.shape
        weights = tf.math.divide_no_nan(weights, tf.reduce_sum(weights, axis=0))
        truth = tf.one_hot(labels, num_classes)[:, None]
        # Of softmax and cross-entropy together: the gradient by the logits.
        errors = weights[..., None] * (tf.nn.softmax(self.logits(features)) - truth)
        flat = tf.reshape(errors, [-1, num_heads * num_classes])
        kernel_gradient = tf.matmul(features, flat, transpose_a=True)
        gradients = (
            tf.reshape(kernel_gradient, [dim, num_heads, num_classes]),
            tf.reduce_sum(errors, axis=0),
        )
        rates = learning_rates[:, None]
        for variable, buffer, gradient in zip((self.kernel, self.bias), self._buffers, gradients):
            moved = _SGD_MOMENTUM * buffer + gradient
            buffer.assign(moved)
            variable.assign_sub(rates * moved)

    def top_classes(self, features, count):
        """The classes that each head finds likeliest.

        Args:
            features: [batch, feature_dim] float32.
            count: of classes, at most num_classes.

        Returns:
            [batch, num_heads, count] int32, best first.
        """
        return tf.math.top_k(self.logits(features), count).indices
