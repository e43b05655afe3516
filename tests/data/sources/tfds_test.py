from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data.sources import memory, tfds
from csml_tf.errors import InputError
from tests.data.sources import image_files


class LoadTfdsTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data_dir = image_files.make_temp_dir(cls.addClassCleanup)
        image_files.prepare_tiny_photos(cls.data_dir, "fixed", "free", "secret")

    def assert_holds_noise(self, source, seed):
        sums = sorted(
            int(image_files.noise(seed + i).astype(int).sum()) for i in range(len(source))
        )
        actual = [int(source.read(i).numpy().astype(int).sum()) for i in range(len(source))]
        self.assertEqual(sorted(actual), sums)

    def test_one_size_is_decoded(self):
        source = image_files.load_tfds("tiny_photos/fixed", "test", self.data_dir)
        self.assertIsInstance(source, memory.MemorySource)
        self.assertEqual((len(source), source.image_shape), (4, (12, 10)))
        self.assertEqual(source.name, "tiny_photos/fixed:test")
        self.assertEqual(source.class_names, ("ant", "bee"))
        self.assertAllEqual(sorted(source.labels), [0, 0, 1, 1])
        self.assert_holds_noise(source, 100)

    def test_labels_belong_to_their_images(self):
        source = image_files.load_tfds("tiny_photos/fixed", "train", self.data_dir)
        label_of = {image_files.noise(i).tobytes(): i % 2 for i in range(10)}
        for i, label in enumerate(source.labels):
            self.assertEqual(label, label_of[source.read(i).numpy().tobytes()])

    def test_any_size_stays_encoded(self):
        source = image_files.load_tfds("tiny_photos/free", "train", self.data_dir)
        self.assertIsInstance(source, memory.EncodedSource)
        self.assertLen(source, 10)
        self.assert_holds_noise(source, 0)

    def test_big_sets_stay_encoded(self):
        self.enter_context(mock.patch.object(tfds, "MAX_DECODED_BYTES", 10 * 12 * 10 * 3 - 1))
        source = image_files.load_tfds("tiny_photos/fixed", "train", self.data_dir)
        self.assertIsInstance(source, memory.EncodedSource)

    def test_too_big_for_the_memory(self):
        self.enter_context(mock.patch.object(tfds, "_available_bytes", return_value=10))
        with self.assertRaisesRegex(InputError, "GB of memory .* as array_record, .* `folder:DIR`"):
            image_files.load_tfds("tiny_photos/fixed", "train", self.data_dir)

    def test_part_of_a_split(self):
        self.assertLen(image_files.load_tfds("tiny_photos/fixed", "train[:30%]", self.data_dir), 3)

    def test_hidden_labels(self):
        builder = tfds.make_builder("tiny_photos/secret", self.data_dir)
        labelled = [tfds.is_labelled(builder, split) for split in ("train", "validation", "test")]
        self.assertEqual(labelled, [True, True, False])

    def test_missing_data_set_is_not_downloaded(self):
        empty = image_files.make_temp_dir(self.addCleanup)
        with (
            mock.patch.object(
                image_files.TinyPhotos, "download_and_prepare", side_effect=AssertionError
            ),
            self.assertRaisesRegex(InputError, "--data_dir .* --download"),
        ):
            image_files.load_tfds("tiny_photos/fixed", "train", empty)

    def test_download_prepares(self):
        empty = image_files.make_temp_dir(self.addCleanup)
        source = image_files.load_tfds("tiny_photos/fixed", "train", empty, download=True)
        self.assertLen(source, 10)

    def test_failed_download(self):
        empty = image_files.make_temp_dir(self.addCleanup)
        error = OSError("no route to host")
        self.enter_context(
            mock.patch.object(image_files.TinyPhotos, "download_and_prepare", side_effect=error)
        )
        with self.assertRaisesRegex(InputError, "cannot be downloaded: no route to host"):
            image_files.load_tfds("tiny_photos/fixed", "train", empty, download=True)

    @parameterized.parameters(
        ["cifar01", "nearest are cifar10.*folder:DIR.*digits"],
        ["cifar10:9.9.9", "cannot be loaded at version 9.9.9"],
        ["tiny_photos/frozen", "not a TFDS data set"],
    )
    def test_unknown_name(self, name, message):
        with self.assertRaisesRegex(InputError, message):
            image_files.load_tfds(name, "train", self.data_dir)

    def test_broken_images(self):
        image_files.check_broken_images(self, "tfrecord", memory.EncodedSource)

    def test_unknown_split(self):
        with self.assertRaisesRegex(InputError, "no split 'dev': it has test, train"):
            image_files.load_tfds("tiny_photos/fixed", "dev", self.data_dir)


if __name__ == "__main__":
    tf.test.main()
