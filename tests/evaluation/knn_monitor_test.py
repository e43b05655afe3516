import types

import tensorflow as tf
from absl.testing import parameterized

from csml_tf import features
from csml_tf.augment.center_view import CenterView
from csml_tf.data.sources import memory
from csml_tf.evaluation import knn, knn_monitor


class KnnMonitorTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        digits = memory.load_digits()
        sources = digits.subset(range(100)), digits.subset(range(100, 150))
        self.evaluation = knn.KnnEvaluation(*sources, CenterView(8), k=5)

    def test_is_due(self):
        monitor = knn_monitor.KnnMonitor(self.evaluation, every_epochs=3)
        due = [epoch for epoch in range(1, 9) if monitor.is_due(epoch, epochs=8)]
        self.assertEqual(due, [3, 6, 8])

    @parameterized.parameters("features", "embedding")
    def test_measures_the_layer(self, layer):
        def brightness(images):
            return tf.reduce_mean(images, axis=[1, 2])

        pixels, means = features.flatten, brightness
        encoder = types.SimpleNamespace(pooled_features=pixels, embedding=means)
        row = knn_monitor.KnnMonitor(self.evaluation, layer).measure(encoder)
        used = {"features": pixels, "embedding": means}[layer]
        self.assertEqual(row["knn_top1"], self.evaluation.top1(used))
        self.assertIn(f"k=5, temperature=0.1, layer={layer}", row["knn_protocol"])
        self.assertGreater(row["knn_seconds"], 0)

    def test_rejects(self):
        with self.assertRaisesRegex(ValueError, "layer must be one of"):
            knn_monitor.KnnMonitor(self.evaluation, "stage4")
        with self.assertRaisesRegex(ValueError, "every_epochs must be at least 1, got 0"):
            knn_monitor.KnnMonitor(self.evaluation, every_epochs=0)


if __name__ == "__main__":
    tf.test.main()
