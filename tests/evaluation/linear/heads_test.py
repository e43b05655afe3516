import numpy as np
import tensorflow as tf

from csml_tf.evaluation.linear.heads import LinearHeads
from csml_tf.training import optim

BATCH, DIM, CLASSES = 6, 4, 3
RATES = (0.1, 1.0, 5.0)


def loop_train(kernel, bias, batches, learning_rate):
    """PyTorch's SGD, momentum 0.9, on the weighted mean cross-entropy, image by image."""
    kernel, bias = np.array(kernel, np.float64), np.array(bias, np.float64)
    kernel_buffer, bias_buffer = np.zeros_like(kernel), np.zeros_like(bias)
    for features, labels, weights in batches:
        kernel_gradient, bias_gradient = np.zeros_like(kernel), np.zeros_like(bias)
        for x, label, weight in zip(features, labels, weights):
            scores = np.exp(x @ kernel + bias)
            error = scores / scores.sum()
            error[label] -= 1
            kernel_gradient += weight / sum(weights) * np.outer(x, error)
            bias_gradient += weight / sum(weights) * error
        kernel_buffer = 0.9 * kernel_buffer + kernel_gradient
        bias_buffer = 0.9 * bias_buffer + bias_gradient
        kernel = kernel - learning_rate * kernel_buffer
        bias = bias - learning_rate * bias_buffer
    return kernel, bias


def make_batches(num_batches=5):
    rng = np.random.default_rng(0)
    return [
        (
            rng.normal(size=[BATCH, DIM]).astype("float32"),
            rng.integers(0, CLASSES, BATCH),
            np.float32(rng.integers(0, 2, [BATCH, len(RATES)]) + np.eye(BATCH, 3)),
        )
        for _ in range(num_batches)
    ]


def make_heads(num_heads=3, seed=0):
    return LinearHeads(DIM, CLASSES, num_heads, seed)


class LinearHeadsTest(tf.test.TestCase):
    def test_matches_loops(self):
        heads = make_heads()
        start = heads.kernel.numpy()
        for batch in make_batches():
            heads.step(*batch, tf.constant(RATES))
        for i, rate in enumerate(RATES):
            own = [(x, labels, weights[:, i]) for x, labels, weights in make_batches()]
            kernel, bias = loop_train(start[:, i], np.zeros(CLASSES), own, rate)
            self.assertAllClose(heads.kernel[:, i], kernel, rtol=1e-4, atol=1e-5)
            self.assertAllClose(heads.bias[i], bias, rtol=1e-4, atol=1e-5)

    def test_each_as_alone_in_keras(self):
        heads = make_heads()
        start = heads.kernel.numpy()
        ones = np.ones([BATCH, len(RATES)], np.float32)
        for features, labels, _ in make_batches():
            heads.step(features, labels, ones, tf.constant(RATES))
        for i, rate in enumerate(RATES):
            dense = tf.keras.layers.Dense(CLASSES)
            dense.build([None, DIM])
            dense.set_weights([start[:, i], np.zeros(CLASSES)])
            optimizer = optim.TorchSGD(rate, l2_weight_decay=0.0)
            loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            for features, labels, _ in make_batches():
                with tf.GradientTape() as tape:
                    value = loss(labels, dense(features))
                gradients = tape.gradient(value, dense.trainable_variables)
                optimizer.apply_gradients(zip(gradients, dense.trainable_variables))
            self.assertAllClose(heads.kernel[:, i], dense.kernel, rtol=1e-4, atol=1e-5)
            self.assertAllClose(heads.bias[i], dense.bias, rtol=1e-4, atol=1e-5)

    def test_a_batch_that_a_head_may_not_see_leaves_it_to_its_momentum(self):
        heads = make_heads(1)
        before = heads.kernel.numpy()
        features, labels, _ = make_batches()[0]
        heads.step(features, labels, np.zeros([BATCH, 1], np.float32), tf.constant([1.0]))
        self.assertAllEqual(heads.kernel, before)

    def test_initial_weights(self):
        heads = LinearHeads(500, 20, 2, seed=3)
        kernel = heads.kernel.numpy()
        self.assertAllEqual(kernel[:, 0], kernel[:, 1])
        self.assertAllClose([kernel.mean(), kernel.std()], [0.0, 0.01], atol=3e-4)
        self.assertAllEqual(heads.bias, np.zeros([2, 20]))
        self.assertNotAllClose(kernel, LinearHeads(500, 20, 2, seed=4).kernel)
        self.assertAllEqual(kernel, LinearHeads(500, 20, 2, seed=3).kernel)

    def test_top_classes(self):
        heads = make_heads(2)
        heads.kernel.assign(np.random.default_rng(1).normal(size=[DIM, 2, CLASSES]))
        heads.bias.assign([[0.0, 1.0, 2.0], [2.0, 0.0, 0.0]])
        (features, _, _) = make_batches(1)[0]
        scores = np.einsum("bd,dhc->bhc", features, heads.kernel) + heads.bias
        expected = np.argsort(-scores, axis=2)[..., :2]
        self.assertAllEqual(heads.top_classes(features, 2), expected)


if __name__ == "__main__":
    tf.test.main()
