import sys
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest

from csml_tf.data import catalog
from csml_tf.data.sources import patches
from csml_tf.errors import InputError

pytest.importorskip("skimage")


class PatchesTest(absltest.TestCase):
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

    def test_no_pixel_is_in_both_splits(self):
        """Where each column of a picture has a grey level of its own, a patch says its place."""
        picture = np.repeat(np.arange(200, dtype=np.uint8)[None, :], 160, axis=0)
        picture = np.repeat(picture[..., None], 3, axis=2)
        rng = np.random.default_rng(0)
        for split, (lowest, highest) in {"train": (0, 119), "test": (120, 199)}.items():
            cut = [patches._cut(picture, split, rng) for _ in range(50)]
            self.assertGreaterEqual(np.min(cut), lowest)
            self.assertLessEqual(np.max(cut), highest)

    def test_patches_are_the_same_each_time(self):
        again = patches.load_patches("test")
        self.assertEqual(again.fingerprint, self.test.fingerprint)

    def test_patches_have_contrast(self):
        images = self.test.read(np.arange(len(self.test))).numpy().astype(float)
        self.assertGreater(images.mean(axis=3).std(axis=(1, 2)).min(), 5)

    def test_says_what_to_install(self):
        says = self.assertRaisesRegex(InputError, "scikit-image, which is not installed: pip")
        with mock.patch.dict(sys.modules, {"skimage": None}), says:
            patches.load_patches("test")


if __name__ == "__main__":
    tf.test.main()
