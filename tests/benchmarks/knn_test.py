import json
import math

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.benchmarks import knn
from csml_tf.errors import InputError


class MeasureTest(tf.test.TestCase, parameterized.TestCase):
    def test_fields(self):
        result = knn.measure(n=150, d=9, k=4, repeats=3, seed=0)
        self.assertEqual(json.loads(json.dumps(result)), result)
        spread = result.pop("seconds_spread")
        self.assertEqual(spread["n"], 3)
        self.assertBetween(spread["median"], spread["min"], spread["max"])
        self.assertEqual(result.pop("seconds"), spread["median"])
        self.assertGreater(result.pop("peak_rss_mb"), 10)
        self.assertBetween(result.pop("extra_rss_mb"), 0, 500)
        self.assertEqual(
            result,
            {
                "bench": "knn",
                "n": 150,
                "d": 9,
                "k": 4,
                "approximate": False,
                "clusters": 0,
                "agreement": 1.0,
                "recall": None,
                "tensorflow": tf.__version__,
            },
        )

    def test_approximate(self):
        arguments = {"n": 4000, "d": 16, "k": 3, "repeats": 1, "seed": 0, "approximate": True}
        clustered = knn.measure(**arguments, clusters=100)
        scattered = knn.measure(**arguments)
        self.assertGreater(clustered["recall"], 0.99)
        self.assertLess(scattered["recall"], clustered["recall"])
        self.assertAllClose(scattered["agreement"], scattered["recall"], rtol=0, atol=0.15)

    @parameterized.parameters(
        *({"n": 1}, {"d": 0}, {"k": 0}, {"k": 10}, {"repeats": 0}, {"seed": -1}),
        *({"clusters": -1}, {"clusters": 11}),
    )
    def test_rejects(self, **bad):
        arguments = {"n": 10, "d": 2, "k": 1, "repeats": 1, "seed": 0, **bad}
        name, value = next(iter(bad.items()))
        with self.assertRaisesRegex(InputError, f"--{name} must be .*, got {value}"):
            knn.measure(**arguments)


class MakeFeaturesTest(tf.test.TestCase):
    def test_unit_length_in_all_directions(self):
        features = knn.make_features(20_000, 3, seed=0)
        self.assertEqual((features.shape, features.dtype), ((20_000, 3), np.float32))
        self.assertAllClose(np.linalg.norm(features, axis=1), np.ones(20_000), atol=1e-6)
        # Archimedes: each coordinate of a point on the sphere is uniform in [-1, 1].
        self.assertAllClose(features.mean(axis=0), np.zeros(3), atol=0.02)
        self.assertAllClose(features.std(axis=0), np.full(3, math.sqrt(1 / 3)), atol=0.01)

    def test_clusters(self):
        features = knn.make_features(1200, 64, seed=0, clusters=4)
        self.assertAllClose(np.linalg.norm(features, axis=1), np.ones(1200), atol=1e-6)
        cosines = (features @ features.T).reshape([300, 4, 300, 4]).mean(axis=(0, 2))
        self.assertAllClose(cosines, np.eye(4) * 0.5, atol=0.2)
        self.assertAllClose(np.diag(cosines), np.full(4, 0.5), atol=0.02)

    def test_seed(self):
        self.assertAllEqual(knn.make_features(5, 3, seed=1), knn.make_features(5, 3, seed=1))
        self.assertNotAllEqual(knn.make_features(5, 3, seed=1), knn.make_features(5, 3, seed=2))


class AgreementTest(tf.test.TestCase):
    def test_share_of_those_found(self):
        # Directions of 0, 1, 3, 7 and 15 degrees: the nearest two of each are plain.
        angles = np.radians([0, 1, 3, 7, 15])
        features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype("float32")
        nearest = np.array([[1, 2], [0, 2], [1, 0], [2, 1], [3, 2]])
        self.assertEqual(knn.agreement(features, nearest), 1.0)
        self.assertEqual(knn.agreement(features, nearest[:, ::-1]), 1.0)
        nearest[:2, 1] = [4, 3]
        self.assertAlmostEqual(knn.agreement(features, nearest), 0.8)


if __name__ == "__main__":
    tf.test.main()
