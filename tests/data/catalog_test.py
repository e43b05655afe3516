import os
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data import catalog
from csml_tf.data.sources import file_scan, folder_scan, memory, splits, tfds
from csml_tf.errors import InputError
from tests.data.sources import image_files


def image_bytes(source):
    return [source.read(i).numpy().tobytes() for i in range(len(source))]


def counting(test, module, name):
    """A function of a module, as it is, whose calls are counted."""
    return test.enter_context(mock.patch.object(module, name, wraps=getattr(module, name)))


class OpenFolderTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.dir = image_files.make_temp_dir(self.addCleanup)
        self.dataset = f"folder:{self.dir}"

    def write_classes(self, split, counts, seed=0):
        for name, count in counts.items():
            image_files.write_pngs(os.path.join(self.dir, split, name), count, seed)
            seed += count

    def open(self, split):
        return catalog.open_dataset(self.dataset).split(split)

    def lengths(self):
        return [len(self.open(split)) for split in catalog.SPLITS]

    @parameterized.parameters("test", "val")
    def test_split_folders(self, test):
        self.write_classes("train", {"ant": 3, "bee": 2})
        self.write_classes(test, {"bee": 2})
        self.assertEqual(self.lengths(), [5, 5, 2])
        source = self.open("test")
        self.assertAllEqual(source.labels, [1, 1])
        self.assertEqual(source.class_names, ("ant", "bee"))
        self.assertEqual(source.name, f"{self.dataset}/{test}")

    def test_validation_stands_in_for_unlabelled_test_images(self):
        self.write_classes("train", {"ant": 3, "bee": 2})
        self.write_classes("val", {"bee": 2})
        image_files.write_pngs(os.path.join(self.dir, "test"), 7)
        self.assertEqual(self.lengths(), [5, 5, 2])

    def test_unknown_test_class(self):
        self.write_classes("train", {"ant": 3})
        self.write_classes("test", {"bee": 2})
        with self.assertRaisesRegex(InputError, "not among the training classes: bee"):
            self.open("test")

    def test_train_folder_alone_is_drawn_from(self):
        self.write_classes("train", {"ant": 5, "bee": 5})
        self.assertEqual(self.lengths(), [10, 8, 2])
        self.assertEqual(self.open("pretrain").class_names, ("ant", "bee"))

    def test_train_can_be_a_class(self):
        self.write_classes("", {"bicycle": 5, "bus": 5, "train": 5})
        source = self.open("pretrain")
        self.assertEqual(source.class_names, ("bicycle", "bus", "train"))

    def test_draw_without_labels(self):
        image_files.write_pngs(self.dir, 10)
        with self.assertLogs("absl", "INFO") as logs:
            parts = [self.open(split) for split in ("train", "test")]
        self.assertIn("no test split of its own", logs.output[-1])
        self.assertRegex(parts[1].name, r":test \(20% of folder:.*drawn with seed 0\)")
        everything = image_bytes(self.open("pretrain"))
        drawn = image_bytes(parts[0]) + image_bytes(parts[1])
        self.assertLen(everything, 10)
        self.assertEqual(sorted(drawn), sorted(everything))

    def test_one_image_cannot_be_drawn_from(self):
        image_files.write_pngs(self.dir, 1)
        self.assertLen(self.open("pretrain"), 1)
        with self.assertRaisesRegex(InputError, "at least 2 images"):
            self.open("test")

    @parameterized.parameters("./photos", "/abs/photos", "~/photos", "../photos", ".")
    def test_folder_without_its_prefix(self, path):
        with self.assertRaisesRegex(InputError, f"the images of a folder say folder:{path}"):
            catalog.open_dataset(path)
        with self.assertRaisesRegex(InputError, "say folder:DIR"):
            catalog.open_dataset("")

    def test_folder_of_the_name(self):
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.dir)
        os.mkdir("my_photos")
        with self.assertRaisesRegex(InputError, "folder of that name: say folder:my_photos"):
            catalog.open_dataset("my_photos")

    def test_no_folder(self):
        with self.assertRaisesRegex(InputError, "no folder"):
            catalog.open_dataset(self.dataset + "/nowhere")

    def test_home_and_relative_paths(self):
        image_files.write_pngs(os.path.join(self.dir, "photos"), 2)
        home, here = os.environ.get("HOME", ""), os.getcwd()
        self.addCleanup(os.environ.__setitem__, "HOME", home)
        self.addCleanup(os.chdir, here)
        os.environ["HOME"] = self.dir
        os.chdir(self.dir)
        for dataset in ("folder:~/photos", "folder:photos"):
            source = catalog.open_dataset(dataset).split("pretrain")
            self.assertEqual((len(source), source.name), (2, dataset))

    def test_folder_without_splits_is_opened_once(self):
        self.write_classes("", {"ant": 5, "bee": 5})
        expected = {split: self.open(split).fingerprint for split in catalog.SPLITS}
        listing = counting(self, folder_scan, "scan")
        scan = counting(self, file_scan, "scan_files")
        dataset = catalog.open_dataset(self.dataset)
        self.assertEqual(scan.call_count, 0)
        for split in (*catalog.SPLITS, *catalog.SPLITS[::-1]):
            self.assertEqual(dataset.split(split).fingerprint, expected[split])
            self.assertIs(dataset.split(split), dataset.split(split))
        self.assertEqual((listing.call_count, scan.call_count), (1, 1))

    def test_folder_with_splits_is_opened_once(self):
        self.write_classes("train", {"ant": 5, "bee": 5})
        self.write_classes("val", {"ant": 2, "bee": 1})
        scan = counting(self, file_scan, "scan_files")
        dataset = catalog.open_dataset(self.dataset)
        self.assertIs(dataset.split("train"), dataset.split("pretrain"))
        self.assertEqual(scan.call_count, 1)
        self.assertLen(dataset.split("test"), 3)
        self.assertEqual(scan.call_count, 2)

    def test_draw_is_of_the_seed_alone(self):
        """The same images as ever: a run's figures are measured on them."""
        image_files.write_pngs(self.dir, 10)
        drawn = catalog.open_dataset(self.dataset).split("test").paths
        self.assertEqual([os.path.basename(path) for path in drawn], ["004.png", "006.png"])


class OpenTfdsTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data_dir = image_files.make_temp_dir(cls.addClassCleanup)
        image_files.prepare_tiny_photos(cls.data_dir, "fixed", "free", "secret")

    @parameterized.parameters(["fixed", 10, 10, 4], ["free", 10, 8, 2], ["secret", 15, 10, 3])
    def test_splits(self, config, *expected):
        lengths = [
            len(catalog.open_dataset(f"tiny_photos/{config}", self.data_dir).split(split))
            for split in catalog.SPLITS
        ]
        self.assertEqual(lengths, list(expected))

    def test_unknown_name(self):
        with self.assertRaisesRegex(InputError, "nearest are tiny_photos"):
            catalog.open_dataset("tiny_photo", self.data_dir)

    def test_opened_once(self):
        for config, num_reads in (("fixed", 2), ("free", 1), ("secret", 3)):
            with mock.patch.object(tfds, "load_split", wraps=tfds.load_split) as load:
                dataset = catalog.open_dataset(f"tiny_photos/{config}", self.data_dir)
                for split in (*catalog.SPLITS, *catalog.SPLITS):
                    dataset.split(split)
            self.assertEqual(load.call_count, num_reads)

    def test_unlabelled_images_are_for_pretraining(self):
        dataset = catalog.open_dataset("tiny_photos/secret", self.data_dir)
        names = [dataset.split(split).name for split in catalog.SPLITS]
        parts = ("train+unlabelled", "train", "validation")
        self.assertEqual(names, [f"tiny_photos/secret:{part}" for part in parts])


class OpenKindTest(tf.test.TestCase):
    def test_a_new_kind_is_a_row(self):
        everything = memory.MemorySource(np.zeros([10, 2, 2], np.uint8), name="zeros")
        made = []

        def open_zeros(*arguments):
            made.append(arguments)
            return splits.Splits(lambda: everything, test=None, pretrain=None)

        self.enter_context(mock.patch.dict(catalog._KINDS, {"zeros:": open_zeros}))
        dataset = catalog.open_dataset("zeros:a:b", "DIR", True)
        self.assertEqual(made, [("zeros:a:b", "DIR", True)])
        self.assertEqual([len(dataset.split(s)) for s in catalog.SPLITS], [8, 8, 2])
        self.assertEqual(dataset.name, "zeros:a:b")


class OpenDigitsTest(tf.test.TestCase):
    def test_pretrain_leaves_the_test_images_out(self):
        pretrain, train, test = map(catalog.open_dataset("digits").split, catalog.SPLITS)
        self.assertEqual((len(train), len(test)), (1438, 359))
        self.assertIs(pretrain, train)
        # Those of every run so far: a run goes on with the images that it began with.
        self.assertEqual(train.fingerprint, "cefd25f02a30829e")
        self.assertEqual(test.fingerprint, "21c311249b83563c")
        both = image_bytes(train)[:50] + image_bytes(test)[:50]
        self.assertLen(set(both), 100)

    def test_seed_changes_the_draw(self):
        tests = [catalog.open_dataset("digits", seed=seed).split("test") for seed in (0, 0, 1)]
        self.assertEqual(tests[0].fingerprint, tests[1].fingerprint)
        self.assertNotEqual(tests[0].fingerprint, tests[2].fingerprint)

    def test_rejects_split(self):
        with self.assertRaisesRegex(ValueError, "split must be one of"):
            catalog.open_dataset("digits").split("dev")


class DrawTestImagesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters([[50, 20, 10]], [[7, 13, 5, 1]], [[3] * 30], [[1] * 40])
    def test_is_a_balanced_fifth(self, sizes):
        labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
        is_test = catalog.draw_test_images(len(labels), labels, seed=3)
        self.assertEqual(is_test.sum(), round(0.2 * len(labels)))
        drawn = np.bincount(labels[is_test], minlength=len(sizes))
        self.assertAllLessEqual(np.abs(drawn - 0.2 * np.array(sizes)), 1)

    def test_two_images_give_one_each(self):
        self.assertEqual(catalog.draw_test_images(2).sum(), 1)


if __name__ == "__main__":
    tf.test.main()
