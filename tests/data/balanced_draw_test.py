import numpy as np
from absl.testing import absltest, parameterized

from csml_tf.data import balanced_draw


class DrawTest(parameterized.TestCase):
    @parameterized.product(share=[0.05, 0.1, 0.37, 0.8], seed=[0, 1])
    def test_every_class_gives_its_share_to_within_an_image(self, share, seed):
        sizes = [200, 73, 9, 118]
        labels = np.random.default_rng(5).permutation(np.repeat([0, 2, 3, 7], sizes))
        is_drawn = balanced_draw.draw(len(labels), share, labels, seed)
        self.assertEqual(is_drawn.sum(), round(share * 400))
        for label, size in zip([0, 2, 3, 7], sizes):
            self.assertLessEqual(abs(is_drawn[labels == label].sum() - share * size), 1.0)

    def test_equal_classes_give_equally(self):
        labels = np.arange(1000) % 10
        is_drawn = balanced_draw.draw(1000, 0.03, labels)
        self.assertEqual(np.bincount(labels[is_drawn]).tolist(), [3] * 10)

    def test_classes_of_one_image_do_not_push_in(self):
        labels = np.minimum(np.arange(100), 10)  # Ten images alone, and ninety of one class.
        for seed in range(5):
            is_drawn = balanced_draw.draw(100, 0.1, labels, seed)
            self.assertBetween(is_drawn[labels == 10].sum(), 8, 10)

    def test_every_image_is_drawn_as_often(self):
        labels = np.repeat([0, 1], [30, 10])
        times = sum(balanced_draw.draw(40, 0.2, labels, seed) for seed in range(2000))
        # 400 of 2000 draws, deviation sqrt(2000 * 0.2 * 0.8) = 18.
        self.assertBetween(times.min(), 400 - 90, 400)
        self.assertBetween(times.max(), 400, 400 + 90)

    def test_a_function_of_the_seed(self):
        first, again, other = (balanced_draw.draw(100, 0.3, None, seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        self.assertTrue((first != other).any())

    def test_at_least_one(self):
        self.assertEqual(balanced_draw.draw(9, 1e-6).sum(), 1)


if __name__ == "__main__":
    absltest.main()
