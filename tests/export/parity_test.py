import numpy as np
from absl.testing import absltest

from csml_tf.export import parity


class ParityTest(absltest.TestCase):
    def test_matches_loops(self):
        rng = np.random.default_rng(0)
        expected = rng.normal(size=[5, 7])
        found = expected + rng.normal(0, 0.1, [5, 7])
        cosines, differences = [], []
        for a, b in zip(expected, found):
            cosines.append(sum(a * b) / (sum(a**2) * sum(b**2)) ** 0.5)
            differences += [abs(x - y) for x, y in zip(a, b)]
        measured = parity.compare(expected, found, "five rows")
        self.assertAlmostEqual(measured["cosine_min"], min(cosines))
        self.assertAlmostEqual(measured["cosine_mean"], sum(cosines) / 5)
        self.assertAlmostEqual(measured["max_abs_difference"], max(differences))
        self.assertAlmostEqual(measured["max_abs_feature"], np.abs(expected).max())
        self.assertIn("five rows", measured["text"])

    def test_features_of_zeros(self):
        measured = parity.compare(np.zeros([1, 2]), np.zeros([1, 2]), "")
        self.assertEqual(measured["cosine_min"], 0.0)


if __name__ == "__main__":
    absltest.main()
