import sys
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data import catalog
from csml_tf.data.sources import patches
from csml_tf.errors import InputError

pytest.importorskip("skimage")


class PatchesTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.dataset = catalog.open_dataset("patches")
        cls.train, cls.test = cls.dataset.split("train"), cls.dataset.split("test")

    def test_sizes_and_classes(self):
        self.assertLen(self.train, 15 * 150)
        self.assertLen(self.test, 15 * 50)
        self.assertIs(self.dataset.split("pretrain"), self.train)
        self.assertEqual(self.train.image_shape, (64, 64))
        self.assertIn("chelsea", self.train.class_names)
        np.testing.assert_array_equal(np.bincount(self.train.labels), [150] * 15)
        np.testing.assert_array_equal(np.bincount(self.test.labels), [50] * 15)

    @parameterized.parameters(("train", 0, 119), ("test", 120, 199))
    def test_no_pixel_is_in_both_splits(self, split, first, last):
        """Where each column has a grey level of its own, a patch says where it is from."""
        picture = np.repeat(np.arange(200, dtype=np.uint8)[None, :], 160, axis=0)
        with mock.patch.object(patches, "_in_other_light", lambda patch, rng: patch):
            rng = np.random.default_rng(0)
            cut = [patches._cut(picture, split, rng) for _ in range(50)]
        self.assertBetween(np.min(cut), first, last)
        self.assertBetween(np.max(cut), first, last)

    def test_light_is_drawn_anew(self):
        images = self.test.read(np.arange(len(self.test))).numpy().astype(float)[..., 0]
        means, deviations = images.mean(axis=(1, 2)), images.std(axis=(1, 2))
        self.assertBetween(np.median(means), 115, 140)
        self.assertGreater(means.std(), 10)
        self.assertGreater(deviations.min(), 15)  # Those with a few bright pixels are clipped.
        self.assertLess(deviations.max(), 52)

    def test_patches_are_the_same_each_time(self):
        again = patches.load_patches("test")
        self.assertEqual(again.fingerprint, self.test.fingerprint)

    def test_says_what_to_install(self):
        says = self.assertRaisesRegex(InputError, "scikit-image, which is not installed: pip")
        with mock.patch.dict(sys.modules, {"skimage": None}), says:
            patches.load_patches("test")


if __name__ == "__main__":
    tf.test.main()
