import glob
import importlib.util
import os
import unittest
from unittest import mock

import numpy as np
import tensorflow as tf

from csml_tf.data import catalog
from csml_tf.data.sources import memory, records, tfds
from csml_tf.errors import InputError
from tests.data.sources import image_files

HAS_ARRAY_RECORD = importlib.util.find_spec("array_record") is not None
LABEL_OF = {image_files.noise(i).tobytes(): i % 2 for i in range(10)}


@unittest.skipUnless(HAS_ARRAY_RECORD, "array_record is not installed")
class RecordSourceTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.data_dir = image_files.make_temp_dir(self.addCleanup)

    def load(self, config="free", split="train"):
        if not glob.glob(os.path.join(self.data_dir, "tiny_photos", config, "*")):
            image_files.prepare_tiny_photos(self.data_dir, config, file_format="array_record")
        return image_files.load_tfds(f"tiny_photos/{config}", split, self.data_dir)

    def data_file(self):
        (path,) = glob.glob(os.path.join(self.data_dir, "*", "free", "*", "*train*"))
        return path

    def test_any_size_is_read_from_disk(self):
        with mock.patch.object(tfds, "_available_bytes", return_value=10):
            source = self.load()
        self.assertIsInstance(source, records.RecordSource)
        self.assertEqual((len(source), source.image_shape), (10, None))
        self.assertEqual(source.name, "tiny_photos/free:train")
        self.assertEqual(source.class_names, ("ant", "bee"))
        self.assertCountEqual([source.read(i).numpy().tobytes() for i in range(10)], LABEL_OF)

    def test_labels_belong_to_their_images(self):
        for config in ("free", "fixed"):
            source = self.load(config)
            self.assertEqual(source.labels.dtype, np.int64)
            for i, label in enumerate(source.labels):
                self.assertEqual(label, LABEL_OF[source.read(i).numpy().tobytes()])

    def test_labels_are_read_when_asked_for(self):
        source = self.load().subset([3, 1])
        with mock.patch.object(
            records.RecordSource, "_read_labels", return_value=np.arange(10)
        ) as read_labels:
            read_labels.assert_not_called()
            self.assertAllEqual(source.labels, [3, 1])
            self.assertAllEqual(source.labels, [3, 1])
            read_labels.assert_called_once()

    def test_small_images_of_one_size_are_decoded(self):
        self.assertIsInstance(self.load("fixed"), memory.MemorySource)

    def test_part_of_a_split(self):
        source, whole = self.load(split="train[30%:]"), self.load()
        self.assertLen(source, 7)
        for i in range(7):
            self.assertAllEqual(source.read(i), whole.read(i + 3))
        self.assertNotEqual(source.fingerprint, self.load(split="train[:70%]").fingerprint)

    def test_catalog_draws_test_images(self):
        self.load()
        dataset = catalog.open_dataset("tiny_photos/free", self.data_dir)
        self.assertEqual([len(dataset.split(s)) for s in ("train", "test")], [8, 2])

    def test_missing_file(self):
        self.load()
        os.remove(self.data_file())
        with self.assertRaisesRegex(InputError, "free:train cannot be read .*No such file.* anew"):
            self.load()

    def test_cut_off_file(self):
        self.load()
        os.truncate(self.data_file(), 1000)
        with self.assertRaisesRegex(InputError, "Record 0 of .* delete that folder"):
            self.load()

    def test_file_that_breaks_later(self):
        source = self.load()
        dataset = tf.data.Dataset.range(10).map(source.read)
        with open(self.data_file(), "r+b") as file:
            content = file.read()
            file.seek(0)
            file.write(bytes(len(content)))
        with self.assertRaisesRegex(tf.errors.OpError, r"InputError: Record \d of .* prepare it"):
            list(dataset)

    def test_broken_images(self):
        image_files.check_broken_images(self, "array_record", records.RecordSource)

    def test_missing_package(self):
        self.load()
        error = ImportError("No module named 'array_record'")
        with (
            mock.patch.object(image_files.TinyPhotos, "as_data_source", side_effect=error),
            self.assertRaisesRegex(InputError, "`pip install array_record`"),
        ):
            self.load()


if __name__ == "__main__":
    tf.test.main()
