from unittest import mock

import numpy as np
from absl.testing import absltest

from csml_tf import similarity
from csml_tf.reports import embedding
from csml_tf.reports.part import LeftOut


def make_groups(num_images=30, num_groups=3):
    """(features of unit length, number of the group of each)."""
    groups = np.arange(num_images) % num_groups
    noise = np.random.default_rng(0).normal(size=[num_images, num_groups])
    return similarity.l2_normalize(9 * np.eye(num_groups)[groups] + noise), groups


class EmbedTest(absltest.TestCase):
    def check_groups(self, found, groups):
        positions = found.positions
        self.assertEqual(positions.shape, (len(groups), 2))
        self.assertEqual(positions.min(axis=0).tolist(), [0, 0])
        self.assertAlmostEqual(positions.max(), 1, places=6)
        distances = np.linalg.norm(positions[:, None] - positions, axis=2)
        np.fill_diagonal(distances, np.inf)
        nearest = distances.argmin(axis=1)
        self.assertGreater(np.mean(groups[nearest] == groups), 0.9)

    def test_like_lies_with_like(self):
        values, groups = make_groups()
        found = embedding.embed(values, seed=0)
        self.check_groups(found, groups)
        self.assertEqual(found.placed.tolist(), [*range(30)])
        self.assertEqual(found.describe(), "t-SNE of 30 images, perplexity 9.66667, 500 iterations")
        np.testing.assert_array_equal(embedding.embed(values, seed=0).positions, found.positions)

    def test_no_more_than_the_most_take_part(self):
        values, groups = make_groups(300)
        with mock.patch.object(embedding, "MAX_IMAGES", 60):
            found = embedding.embed(values, seed=0)
        self.check_groups(found, groups)
        self.assertLen(set(found.placed.tolist()), 60)
        self.assertLen({*map(tuple, found.positions)}, 300)
        self.assertEndsWith(
            found.describe(), "500 iterations; 240 more lie where the 5 nearest of these do"
        )

    def test_says_when_its_time_was_up(self):
        values, _ = make_groups()
        with mock.patch.object(embedding, "MAX_SECONDS", 0):
            text = embedding.embed(values, seed=0).describe()
        self.assertEndsWith(text, "1 iterations of 500, as many as 0 seconds allowed")

    def test_too_few(self):
        with self.assertRaisesRegex(LeftOut, "9 images are too few .*at least 10"):
            embedding.embed(np.eye(9), seed=0)

    def test_collapsed_features(self):
        found = embedding.embed(np.full([12, 4], 0.5, np.float32), seed=0)
        self.assertTrue(np.isfinite(found.positions).all())

    def test_perplexity_fits_few_images(self):
        self.assertEqual(embedding.perplexity(1000), 30)
        self.assertEqual(embedding.perplexity(10), 3)


if __name__ == "__main__":
    absltest.main()
