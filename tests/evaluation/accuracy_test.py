import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from sklearn import metrics

from csml_tf.evaluation import accuracy


class AccuracyTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.labels = rng.integers(0, 7, 60)
        self.scores = rng.normal(size=[60, 7])
        self.ranked = np.argsort(-self.scores, axis=1)

    @parameterized.parameters(1, 3, 5)
    def test_top_k_matches_scikit_learn(self, k):
        expected = metrics.top_k_accuracy_score(self.labels, self.scores, k=k)
        self.assertAlmostEqual(accuracy.top_k(self.ranked[:, :5], self.labels, k), expected)

    def test_confusion_matches_scikit_learn(self):
        actual = accuracy.confusion_matrix(self.labels, self.ranked[:, 0], 7)
        self.assertAllEqual(actual, metrics.confusion_matrix(self.labels, self.ranked[:, 0]))

    def test_confusion_has_rows_of_classes_without_images(self):
        self.assertAllEqual(
            accuracy.confusion_matrix([1], [2], 3), [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
        )


if __name__ == "__main__":
    tf.test.main()
