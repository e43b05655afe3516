import os

import numpy as np
import tensorflow as tf

from csml_tf.data.sources import folder, unchecked_folder
from csml_tf.errors import InputError
from tests.data.sources import image_files


class UncheckedFolderTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = image_files.make_temp_dir(self.addCleanup)
        for name in ("b", "a", "a/deep"):
            image_files.write_pngs(os.path.join(self.directory, name), 2)

    def test_order_of_folder_source(self):
        source = unchecked_folder.UncheckedFolder(self.directory)
        checked = folder.FolderSource(self.directory)
        self.assertEqual(source.paths, checked.paths)
        expected = ["a/000.png", "a/001.png", "a/deep/000.png", "a/deep/001.png"]
        self.assertEqual([*source.files], [*expected, "b/000.png", "b/001.png"])
        for index in range(6):
            self.assertAllEqual(source.read(index), checked.read(index))

    def test_broken_files_keep_their_index(self):
        image_files.write(b"no image", self.directory, "a", "000a.png")
        source = unchecked_folder.UncheckedFolder(self.directory)
        self.assertLen(source, 7)
        self.assertAllEqual(source.read(2), image_files.noise(1))
        with self.assertRaises(tf.errors.InvalidArgumentError):
            source.read(1)

    def test_fingerprint_is_of_the_names(self):
        before = unchecked_folder.UncheckedFolder(self.directory).fingerprint
        image_files.write(b"no image", self.directory, "a", "000.png")
        self.assertEqual(unchecked_folder.UncheckedFolder(self.directory).fingerprint, before)
        os.rename(f"{self.directory}/a/000.png", f"{self.directory}/a/0.png")
        self.assertNotEqual(unchecked_folder.UncheckedFolder(self.directory).fingerprint, before)

    def test_refuses_no_folder_and_no_image(self):
        os.makedirs(f"{self.directory}/empty")
        with self.assertRaisesRegex(InputError, "There is no folder"):
            unchecked_folder.UncheckedFolder(f"{self.directory}/no")
        with self.assertRaisesRegex(InputError, "No image in"):
            unchecked_folder.UncheckedFolder(f"{self.directory}/empty")

    def test_in_a_dataset(self):
        source = unchecked_folder.UncheckedFolder(self.directory)
        images = [*tf.data.Dataset.range(6).map(source.read).as_numpy_iterator()]
        self.assertAllEqual(np.stack(images)[[0, 2, 4]], np.stack([image_files.noise(0)] * 3))


if __name__ == "__main__":
    tf.test.main()
