"""Data sets of images on an object store: the same as of the same files on a disk."""

import os

import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data import catalog
from csml_tf.data.sources import unchecked_folder
from tests import ram_store
from tests.data.sources import image_files

FILES = {
    "train/ant/a.png": 0,
    "train/ant/b.jpg": 1,
    "train/bee/c.png": 2,
    "train/bee/d.webp": 3,
    "train/bee/without_ending": 4,
    "val/ant/e.png": 5,
    "val/bee/f.png": 6,
    "unlabeled/g.png": 7,
}
OTHERS = {
    "train/bee/.hidden/h.png": b"",
    "train/@eaDir/i.png": b"",
    "train/notes.txt": b"ants and bees",
    "train/ant/notes": b"ants",
    "train/run/config.gin": b"",
    "train/run/metrics.jsonl": b"",
    "train/run/figure.png": b"",
}
FORMATS = {".jpg": "JPEG", ".webp": "WebP"}


def encode(name, seed):
    image = image_files.noise(seed)
    return image_files.encode(image, FORMATS.get(os.path.splitext(name)[1], "PNG"))


class StoreTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.local = image_files.make_temp_dir(self.addCleanup)
        self.store = str(ram_store.make_folder(self.addCleanup))

    def put(self, files):
        for name, content in files.items():
            image_files.write(content, self.local, name)
            ram_store.write(f"{self.store}/{name}", content)

    def assert_same_source(self, actual, expected):
        self.assertEqual(actual.fingerprint, expected.fingerprint)
        self.assertEqual(actual.class_names, expected.class_names)
        self.assertAllEqual(
            [] if actual.labels is None else actual.labels,
            [] if expected.labels is None else expected.labels,
        )
        below = [path.removeprefix(f"{self.store}/") for path in actual.paths]
        self.assertEqual(below, [os.path.relpath(path, self.local) for path in expected.paths])
        for index in range(len(expected)):
            self.assertAllEqual(actual.read(index), expected.read(index))

    @parameterized.parameters(
        "folder:{}",
        "folder:{}/",
        "folder:{}/train",
        "folder+top:{}",
        "folder:{0}/val,folder:{0}/train",
    )
    def test_folder(self, dataset):
        self.put({name: encode(name, seed) for name, seed in FILES.items()})
        self.put(OTHERS)
        stored = catalog.open_dataset(dataset.format(self.store))
        local = catalog.open_dataset(dataset.format(self.local))
        for split in catalog.SPLITS:
            self.assert_same_source(stored.split(split), local.split(split))
        notes = [note.replace(self.store, self.local) for note in stored.notes]
        self.assertEqual(notes, local.notes)

    def test_unchecked_folder(self):
        self.put({name: encode(name, seed) for name, seed in FILES.items()})
        self.put(OTHERS)
        self.assert_same_source(
            unchecked_folder.UncheckedFolder(f"{self.store}/"),
            unchecked_folder.UncheckedFolder(self.local),
        )
