import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.models import heads


class ProjectionHeadTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(0, 1, 2)
    def test_matches_loops(self, hidden_layers):
        head = heads.ProjectionHead(output_dim=3, hidden_layers=hidden_layers)
        features = np.random.default_rng(0).normal(size=[4, 6]).astype("float32")
        actual = head(features)
        weights = head.get_weights()
        self.assertLen(weights, 2 * (hidden_layers + 1))
        for i, row in enumerate(features):
            for layer in range(hidden_layers + 1):
                row = row @ weights[2 * layer] + weights[2 * layer + 1]
                if layer < hidden_layers:
                    row = np.maximum(row, 0.0)
            self.assertAllClose(actual[i], row / np.sqrt(np.sum(row**2)), rtol=1e-5)

    def test_hidden_layer_is_as_wide_as_the_features(self):
        head = heads.ProjectionHead()
        head.build([None, 12])
        shapes = [weights.shape for weights in head.get_weights()]
        self.assertEqual(shapes, [(12, 12), (12,), (12, 128), (128,)])

    def test_unit_length(self):
        embeddings = heads.ProjectionHead(5)(np.random.default_rng(0).normal(size=[50, 6]))
        self.assertAllClose(tf.norm(embeddings, axis=1), np.ones(50))

    def test_starts_as_linear_layers_of_pytorch(self):
        head = heads.ProjectionHead(128)
        head.build([None, 64])
        for values in head.get_weights():
            self.assertAllInRange(values, -1 / 8, 1 / 8)
            self.assertAllClose(np.std(values), 1 / 8 / np.sqrt(3), rtol=0.2)

    def test_float16_features_give_float32(self):
        head = heads.ProjectionHead(3)
        self.assertEqual(head(tf.ones([2, 4], tf.float16)).dtype, tf.float32)

    def test_config(self):
        head = heads.ProjectionHead(7, hidden_layers=2, name="head")
        again = heads.ProjectionHead.from_config(head.get_config())
        self.assertEqual((again.output_dim, again.hidden_layers, again.name), (7, 2, "head"))


class BatchNormHeadTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(last=(None, "plain", "full"), use_bias=(True, False))
    def test_matches_numpy(self, last, use_bias):
        head = heads.make_batch_norm_head(
            "stage4", 5, output_dim=3, hidden_dim=7, use_bias=use_bias, last_batch_norm=last
        )
        rng = np.random.default_rng(0)
        for variable in head.trainable_variables:
            variable.assign(rng.normal(size=variable.shape))
        features = rng.normal(size=[6, 5]).astype("float32")
        weights = {v.name.split(":")[0]: v.numpy() for v in head.trainable_variables}

        def dense(x, name):
            return x @ weights[f"{name}/kernel"] + weights.get(f"{name}/bias", 0.0)

        def batch_norm(x, name):
            x = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
            return x * weights.get(f"{name}/gamma", 1.0) + weights.get(f"{name}/beta", 0.0)

        hidden = np.maximum(batch_norm(dense(features, "dense1"), "bn1"), 0.0)
        expected = dense(hidden, "dense_last")
        if last:
            expected = batch_norm(expected, "bn_last")
        self.assertAllClose(head(features, training=True), expected, rtol=1e-3, atol=1e-4)
        self.assertEqual("bn_last/gamma" in weights, last == "full")

    @parameterized.parameters(True, False)
    def test_export_has_unit_length(self, unit_length):
        head = heads.make_batch_norm_head("stage4", 5, 3, unit_length=unit_length)
        features = np.random.default_rng(0).normal(size=[6, 5]).astype("float32")
        exported = heads.export_model(head, 5)
        expected = tf.math.l2_normalize(head(features, training=False), axis=1)
        self.assertAllClose(exported(features), expected, rtol=1e-5)
        self.assertEqual(heads.makes_unit_vectors(head), unit_length)
        types = {type(layer).__name__ for layer in exported.layers}
        self.assertNotIn("SplitBatchNormalization", types)

    def test_another_layer_as_head(self):
        head = tf.keras.layers.Dense(3)
        features = np.random.default_rng(0).normal(size=[6, 5]).astype("float32")
        expected = tf.math.l2_normalize(head(features), axis=1)
        self.assertAllClose(heads.export_model(head, 5)(features), expected, rtol=1e-5)
        self.assertFalse(heads.makes_unit_vectors(head))

    def test_rejects(self):
        with self.assertRaisesRegex(ValueError, "'full', 'plain' or None, got 'half'"):
            heads.make_batch_norm_head("stage4", 5, 3, last_batch_norm="half")


if __name__ == "__main__":
    tf.test.main()
