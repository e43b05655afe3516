import types

import numpy as np
import tensorflow as tf

from csml_tf.augment.center_view import CenterView
from csml_tf.reports import trained_features
from tests.reports.nearest_test import make_source


class ExtractTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        view = CenterView(4, mean=(0.0,) * 3, std=(1.0,) * 3)

        def encode(images):
            return tf.stack([255 * images[:, 0, 0, 0], 3 + 0 * images[:, 0, 0, 0]], axis=1)

        self.encoder = types.SimpleNamespace(encode=lambda: encode, center_view=view)

    def test_unit_length_in_order(self):
        source = make_source(30)
        found = trained_features.extract(self.encoder, source, 30, seed=0)
        self.assertIs(found.source, source)
        expected = [np.array([i, 3]) / np.hypot(i, 3) for i in range(30)]
        self.assertAllClose(found.values, expected)

    def test_draw(self):
        found = trained_features.extract(self.encoder, make_source(30), 12, seed=1)
        self.assertEqual(found.source.name, "12 of dots, drawn with seed 1")
        indices = [int(found.source.read(i)[0, 0, 0]) for i in range(12)]
        self.assertEqual(indices, sorted(set(indices)))
        self.assertAllClose(found.values[:, 0] / found.values[:, 1] * 3, indices, atol=1e-4)
        other = trained_features.draw(make_source(30), 12, seed=2)
        self.assertNotEqual([int(other.read(i)[0, 0, 0]) for i in range(12)], indices)


if __name__ == "__main__":
    tf.test.main()
