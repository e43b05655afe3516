import unittest.mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from csml_tf.evaluation.linear import logistic_regression

NUM, DIM, CLASSES = 300, 8, 4


def scikit_learn_fit(features, labels, l2):
    model = LogisticRegression(C=1 / (l2 * len(features)), tol=1e-8, max_iter=10_000)
    return model.fit(features.astype("float64"), labels)


class LogisticRegressionTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.labels = rng.integers(0, CLASSES, NUM)
        centers = rng.normal(size=[CLASSES, DIM])
        self.features = (centers[self.labels] + rng.normal(size=[NUM, DIM])).astype("float32")

    def fit(self, l2, **options):
        return logistic_regression.fit(self.features, self.labels, CLASSES, l2, **options)

    @parameterized.parameters(1e-4, 1e-2, 1.0)
    def test_matches_scikit_learn(self, l2):
        fit = self.fit(l2, tolerance=1e-7)
        expected = scikit_learn_fit(self.features, self.labels, l2)
        self.assertTrue(fit.converged)
        self.assertAllClose(fit.kernel, expected.coef_.T, atol=1e-3)
        # Scores are the same up to a number for all classes.
        centered = fit.bias - fit.bias.mean()
        self.assertAllClose(centered, expected.intercept_ - expected.intercept_.mean(), atol=1e-3)
        ranked = np.argsort(-expected.predict_proba(self.features), axis=1)
        self.assertGreater(np.mean(fit.rank(self.features, 3) == ranked[:, :3]), 0.99)

    def test_by_hand(self):
        # One feature, x = 1 and -1, a class each: kernel (a, -a), no bias. The objective,
        # log(1 + exp(-2 a)) + l2 a^2, is least where 1 / (1 + exp(2 a)) = l2 a.
        features = np.float32([[1], [-1]])
        fit = logistic_regression.fit(features, [0, 1], 2, l2=0.1, tolerance=1e-7)
        a = fit.kernel[0, 0]
        self.assertAllClose([fit.kernel[0, 1], 1 / (1 + np.exp(2 * a))], [-a, 0.1 * a], atol=1e-5)

    def test_weights_hide_images(self):
        weights = np.arange(NUM) % 3 > 0
        fit = self.fit(1e-2, weights=weights, tolerance=1e-7)
        kept = logistic_regression.fit(
            self.features[weights], self.labels[weights], CLASSES, 1e-2, tolerance=1e-7
        )
        self.assertAllClose(fit.kernel, kept.kernel, atol=1e-4)

    def test_blocks_change_nothing(self):
        fit = self.fit(1e-2, tolerance=1e-7)
        with unittest.mock.patch.object(logistic_regression, "_BLOCK_NUMBERS", 7 * DIM):
            in_blocks = self.fit(1e-2, tolerance=1e-7)
            ranked = in_blocks.rank(self.features, 2)
        self.assertAllClose(fit.kernel, in_blocks.kernel, atol=1e-4)
        self.assertAllEqual(ranked, in_blocks.rank(self.features, 2))

    def test_start_saves_iterations(self):
        fit = self.fit(1e-2)
        again = self.fit(1e-2, start=fit)
        self.assertLess(again.iterations, 2)
        self.assertAllClose(again.kernel, fit.kernel, atol=1e-4)

    def test_says_that_it_has_not_converged(self):
        fit = self.fit(1e-4, max_iterations=2)
        self.assertFalse(fit.converged)
        self.assertGreater(fit.largest_gradient, 1e-5)

    def test_standardize_matches_scikit_learn(self):
        other = self.features[:5] + 1
        scaler = StandardScaler().fit(self.features.astype("float64"))
        expected = [scaler.transform(x) for x in (self.features, other)]
        logistic_regression.standardize(self.features, other)
        self.assertAllClose(self.features, expected[0], atol=1e-5)
        self.assertAllClose(other, expected[1], atol=1e-5)

    def test_standardize_silences_constant_features(self):
        train, test = np.full([4, 1], 0.1, np.float32), np.float32([[0.5]])
        logistic_regression.standardize(train, test)
        self.assertAllEqual(np.append(train, test), np.zeros(5))


if __name__ == "__main__":
    tf.test.main()
