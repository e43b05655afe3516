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


if __name__ == "__main__":
    tf.test.main()
