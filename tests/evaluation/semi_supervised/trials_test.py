import types

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from sklearn.metrics import top_k_accuracy_score

from csml_tf.augment.center_view import CenterView
from csml_tf.data.sources import memory
from csml_tf.evaluation.semi_supervised import trials


class TopKTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(1, 2, 5, 9)
    def test_matches_scikit_learn(self, k):
        rng = np.random.default_rng(0)
        logits = rng.normal(size=[300, 10])
        labels = rng.integers(0, 10, 300)
        expected = top_k_accuracy_score(labels, logits, k=k, labels=range(10))
        self.assertAlmostEqual(trials.top_k_accuracy(logits, labels, k), expected)

    def test_knowing_nothing_is_no_hit(self):
        for value in (0.0, np.nan):
            self.assertEqual(trials.top_k_accuracy(np.full([4, 3], value), [0, 1, 2, 0], 1), 0.0)


class FakeClassifier:
    """Sees the brightness of an image as its class, but for the first few images."""

    def start(self, weights, seed):
        self.wrong = seed + weights

    def train(self, source, labels, plan, seed, description):
        del source, labels, seed, description
        return 10 * plan.epochs

    def logits(self, images):
        label = tf.cast(tf.round(images[:, 0, 0, 0] * 255.0), tf.int32)
        label = tf.where(tf.range(len(images)) < self.wrong, (label + 5) % 6, label)
        return tf.one_hot(label, 6) + 0.1 * tf.one_hot((label + 1) % 6, 6)


class TrialsTest(tf.test.TestCase):
    def test_rows_and_summary(self):
        labels = np.arange(20) % 6
        images = np.tile(labels.astype(np.uint8)[:, None, None], [1, 2, 2])
        source = memory.MemorySource(images, labels)
        view = CenterView(2, mean=(0.0,) * 3, std=(1.0,) * 3)
        runs = trials.Trials(FakeClassifier(), source, view)
        for seed in (1, 2, 3):
            runs.run("tuned", seed, 0, source, labels, types.SimpleNamespace(epochs=7))
        runs.run(
            "fresh", 1, 9, source.subset(range(4)), labels[:4], types.SimpleNamespace(epochs=8)
        )
        expected = [0.95, 0.9, 0.85, 0.5]
        self.assertAllClose([row["top1"] for row in runs.rows], expected)
        self.assertEqual(
            [list(row.values())[:5] for row in runs.rows],
            [
                ["tuned", 1, 20, 7, 70],
                ["tuned", 2, 20, 7, 70],
                ["tuned", 3, 20, 7, 70],
                ["fresh", 1, 4, 8, 80],
            ],
        )
        tuned, fresh = runs.summary()
        self.assertEqual((tuned["trained"], tuned["runs"]), ("tuned", 3))
        self.assertAllClose((tuned["top1"], tuned["top1_std"]), (0.9, 0.05))
        self.assertEqual((fresh["trained"], fresh["runs"], fresh["top1"]), ("fresh", 1, 0.5))
        self.assertNotIn("top1_std", fresh)
        self.assertIn("top5", tuned)

    def test_no_top5_of_five_classes(self):
        source = memory.MemorySource(np.zeros([3, 2, 2], np.uint8), [0, 1, 2])
        classifier = types.SimpleNamespace(
            start=lambda *_: None,
            train=lambda *_: 1,
            logits=lambda images: tf.zeros([len(images), 5]),
        )
        runs = trials.Trials(classifier, source, CenterView(2))
        runs.run("tuned", 0, None, source, source.labels, types.SimpleNamespace(epochs=1))
        self.assertNotIn("top5", runs.rows[0])
        self.assertNotIn("top5", runs.summary()[0])


if __name__ == "__main__":
    tf.test.main()
