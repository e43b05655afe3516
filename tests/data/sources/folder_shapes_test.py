"""Folders as people have them, each with the lines that say what was found."""

import os
import re
from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data import catalog
from csml_tf.data.sources import folder, unchecked_folder
from csml_tf.errors import InputError
from tests.data.sources import image_files

PNG = image_files.encode(image_files.noise(0), "PNG")


class FolderShapesTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.dir = image_files.make_temp_dir(self.addCleanup)
        self.cache = image_files.make_temp_dir(self.addCleanup)
        self.enter_context(mock.patch.dict(os.environ, CSML_TF_HOME=self.cache))
        # What is looked at here is which files there are.
        self.enter_context(mock.patch.object(folder, "MAX_DECODED_BYTES", 0))

    def write(self, **counts):
        """`write(train__ant=3)`: three images in train/ant."""
        for name, count in counts.items():
            self.write_in(name.replace("__", "/"), count)

    def write_in(self, name, count):
        for i in range(count):
            image_files.write(PNG, self.dir, name, f"{i:03d}.png")

    def open(self, options=""):
        return catalog.open_dataset(f"folder{options}:{self.dir}")

    def lengths(self, opened):
        return [len(opened.split(split)) for split in catalog.SPLITS]

    def assert_note(self, opened, pattern):
        """One of the lines is, with DIR for the folder's path, what the pattern says."""
        notes = [note.replace(self.dir, "DIR") for note in opened.notes]
        self.assertTrue(any(re.search(pattern, note) for note in notes), f"{pattern}: {notes}")

    @parameterized.parameters(
        ("train", "test"),
        ("Train", "TEST"),
        ("training", "testing"),
        ("train", "val"),
        ("TRAINING", "Valid"),
        ("train", "validation"),
    )
    def test_two_splits(self, train, test):
        self.write_in(f"{train}/ant", 3)
        self.write_in(f"{train}/bee", 2)
        self.write_in(f"{test}/bee", 2)
        opened = self.open()
        self.assertEqual(self.lengths(opened), [5, 5, 2])
        self.assertAllEqual(opened.split("test").labels, [1, 1])
        self.assert_note(
            opened,
            rf"^folder:DIR: {train}/ \(5 images\) is for training, {test}/ \(2 images\) for "
            r"evaluation\.$",
        )
        self.assert_note(
            opened, rf"^folder:DIR/{train}: 5 images in 2 classes, one in each folder: ant, bee\.$"
        )

    def test_three_splits_and_what_is_not_used(self):
        self.write(train__ant=3, train__bee=1, validation__ant=4, test__ant=2, raw=6)
        opened = self.open()
        self.assertEqual(self.lengths(opened), [4, 4, 2])
        self.assert_note(opened, r"not used: validation/ \(4 images\), raw/ \(6 images\)\.$")

    def test_validation_and_test_without_train(self):
        self.write(val__ant=3, val__bee=1, test__ant=2, test__bee=2)
        opened = self.open()
        self.assertEqual(self.lengths(opened), [4, 4, 4])
        self.assert_note(opened, r"val/ \(4 images\) is for training, test/ \(4 images\)")

    @parameterized.parameters("train", "val", "test")
    def test_one_split_alone(self, name):
        self.write_in(f"{name}/ant", 5)
        self.assertEqual(self.lengths(self.open()), [5, 4, 1])

    def test_test_classes_beside_the_training_classes(self):
        self.write(ant=3, bee=2, test__ant=1, test__bee=1)
        opened = self.open()
        self.assertEqual(self.lengths(opened), [5, 5, 2])
        self.assert_note(opened, r"what lies beside it \(5 images\) is for training, test/ \(2")

    def test_a_class_of_that_name(self):
        self.write(ant=3, bee=2, test=4)
        self.assertEqual(self.open().split("pretrain").class_names, ("ant", "bee", "test"))

    def test_nested_classes_are_the_innermost_folders(self):
        self.write(fruit__apple__gala=2, fruit__apple__fuji=2, fruit__lime=1, milk=3)
        opened = self.open()
        source = opened.split("pretrain")
        self.assertEqual(
            source.class_names, ("fruit/apple/fuji", "fruit/apple/gala", "fruit/lime", "milk")
        )
        self.assertAllEqual(source.labels, [0, 0, 1, 1, 2, 3, 3, 3])
        parents = [os.path.relpath(os.path.dirname(path), self.dir) for path in source.paths]
        self.assertEqual([source.class_names[label] for label in source.labels], parents)
        self.assert_note(
            opened,
            r"^folder:DIR: 8 images in 4 classes, the innermost folders: fruit/apple/fuji, .*"
            r"milk; for the 2 outermost write folder\+top: before the path\.$",
        )

    def test_outermost_folders_on_demand(self):
        self.write(fruit__apple__gala=2, fruit__lime=1, milk=3)
        opened = self.open("+top")
        self.assertAllEqual(opened.split("pretrain").labels, [0, 0, 0, 1, 1, 1])
        self.assert_note(opened, "6 images in 2 classes, the outermost folders: fruit, milk")

    def test_images_at_several_depths_mean_the_outermost(self):
        self.write(ant=4, ant__2019=3, bee=2)
        opened = self.open()
        self.assertAllEqual(opened.split("pretrain").labels, [0] * 7 + [1] * 2)
        self.assert_note(opened, "the outermost folders: ant, bee, as 4 images lie above the inn")

    def test_a_stray_image_above_nested_classes(self):
        self.write(fruit=1, fruit__apple=3, fruit__lime=2, milk=3)
        opened = self.open()
        self.assertAllEqual(opened.split("pretrain").labels, [0, 0, 0, 1, 1, 2, 2, 2])
        self.assert_note(opened, r"1 file left out: 1 above the class folders \(fruit/000.png\)")

    def test_nested_test_images_have_the_classes_of_training(self):
        self.write(train__a__x=2, train__a__y=2, train__b=1, test__a__y__new=2, test__b=1)
        test = self.open().split("test")
        self.assertEqual([test.class_names[label] for label in test.labels], ["a/y", "a/y", "b"])

    def test_a_test_folder_at_another_place_is_known_by_its_name(self):
        self.write(train__food__milk=2, train__food__rice=2, test__food__dairy__milk=1)
        opened = self.open()
        self.assertAllEqual(opened.split("test").labels, [0])
        self.assert_note(opened, "known by its own name: food/dairy/milk as food/milk")

    def test_splits_inside_of_classes_are_no_classes(self):
        self.write(ant__train=3, ant__test=1, bee__train=3, bee__test=1)
        opened = self.open()
        self.assertEqual(opened.split("pretrain").class_names, ("ant", "bee"))
        self.assert_note(opened, "as the innermost are called like splits, which are not used")

    def test_splits_in_a_folder_of_their_own(self):
        self.write(set__train__ant=3, set__train__bee=2, set__test__ant=1)
        opened = self.open()
        self.assertEqual(self.lengths(opened), [5, 5, 1])
        self.assert_note(opened, r"^folder:DIR/set: train/ \(5 images\) is for training")

    def test_order_and_fingerprint_of_nested_folders_are_as_before(self):
        self.write(**{"a b": 1, "a__c": 1, "a__B": 1})
        paths = [os.path.relpath(path, self.dir) for path in self.open().split("train").paths]
        every = [os.path.relpath(p, self.dir) for p in self.open().split("pretrain").paths]
        self.assertEqual(every, ["a/B/000.png", "a/c/000.png", "a b/000.png"])
        self.assertLess(set(paths), set(every))

    def test_loose_images_beside_class_folders(self):
        self.write(ant=3, bee=2)
        image_files.write(PNG, self.dir, "cover.jpg")
        opened = self.open()
        self.assertLen(opened.split("pretrain"), 5)
        self.assertAllEqual(opened.split("pretrain").labels, [0, 0, 0, 1, 1])
        self.assert_note(opened, r": 1 file left out: 1 beside the class folders \(cover.jpg\)\.$")

    def test_most_images_loose_mean_no_classes(self):
        self.write(edited=1, raw=1)
        self.write_in("", 8)
        opened = self.open()
        self.assertIsNone(opened.split("pretrain").labels)
        self.assert_note(opened, r"^folder:DIR: 10 images without classes, 2 of them in sub-fold")

    def test_loose_images_beside_split_folders_never_widen_training(self):
        self.write(train__ant=3, train__bee=2, test__ant=2, test__bee=1)
        for name in ("", "train", "test"):
            image_files.write(PNG, self.dir, name, "cover.jpg")
        opened = self.open()
        self.assertEqual(self.lengths(opened), [5, 5, 3])
        self.assert_note(opened, r"^folder:DIR: 1 file left out: 1 beside the split folders \(cov")
        self.assert_note(opened, r"^folder:DIR/train: 1 file left out: 1 beside the class folders")
        self.assert_note(opened, r"^folder:DIR/test: 1 file left out")

    def test_test_folder_beside_loose_images(self):
        self.write(test=2)
        self.write_in("", 5)
        self.assertEqual(self.lengths(self.open()), [5, 5, 2])

    @parameterized.parameters("unlabeled", "Unlabelled", "unsup")
    def test_images_without_a_class_are_for_pretraining(self, name):
        self.write(ant=5, bee=5)
        self.write_in(name, 4)
        opened = self.open()
        self.assertEqual(self.lengths(opened), [14, 8, 2])
        self.assertAllEqual(opened.split("pretrain").labels, [0] * 5 + [1] * 5 + [-1] * 4)
        self.assertEqual(opened.split("train").class_names, ("ant", "bee"))
        self.assert_note(opened, "4 images without a class, for pretraining only")

    def test_images_without_a_class_beside_splits(self):
        self.write(train__ant=3, train__bee=2, test__bee=2, unlabeled__deep=4)
        opened = self.open()
        self.assertEqual(self.lengths(opened), [9, 5, 2])
        paths = [os.path.relpath(path, self.dir) for path in opened.split("pretrain").paths]
        self.assertEqual(
            paths[::4], ["train/ant/000.png", "train/bee/001.png", "unlabeled/deep/003.png"]
        )
        self.assertAllEqual(opened.split("train").labels, [0, 0, 0, 1, 1])

    @parameterized.parameters((10, 1), (1, 5))
    def test_an_unlabelled_folder_where_nothing_has_a_class(self, num_loose, num_ant):
        self.write(ant=num_ant, unlabeled=2)
        self.write_in("", num_loose)
        opened = self.open()
        self.assertLen(opened.split("pretrain"), num_loose + num_ant + 2)
        self.assertIsNone(opened.split("train").labels)

    def test_test_images_above_the_classes_of_training(self):
        self.write(train__fruit__apple=2, train__fruit__lime=2, test__fruit=3)
        with self.assertRaisesRegex(InputError, "No image in .* 3 above the class folders"):
            self.open().split("test")

    def test_system_folders(self):
        self.write(ant=3, bee=2)
        names = ("@eaDir", "#recycle", "__MACOSX", ".cache", "$RECYCLE.BIN")
        for name in names:
            self.write_in(name, 4)
            self.write_in(f"ant/{name}", 4)
        opened = self.open()
        self.assertEqual(len(opened.split("pretrain")), 5)
        self.assert_note(opened, r": 10 folders left out: 8 of the system, 2 hidden \(.*@eaDir/")

    def test_own_outputs(self):
        self.write(ant=3, bee=2, runs__r50__saved_model__assets=1, reports__page=2, pages=0)
        image_files.write(b"", self.dir, "runs", "r50", "config.gin")
        image_files.write(b"", self.dir, "runs", "r50", "metrics.jsonl")
        image_files.write(b"Made by csml-tf report of", self.dir, "reports", "page", "report.html")
        figure = image_files.encode(image_files.noise(0), "PNG") + b"Software\0Matplotlib"
        image_files.write(figure, self.dir, "pages", "views.png")
        opened = self.open()
        self.assertEqual(opened.split("pretrain").class_names, ("ant", "bee"))
        self.assert_note(opened, r"3 folders left out: 3 written by csml_tf \(pages/, reports/pag")

    def test_links_in_circles(self):
        self.write(a=2, b=1)
        for link, target in (("a/tob", "../b"), ("b/toa", "../a"), ("self", "self"), ("up", "..")):
            os.symlink(target, os.path.join(self.dir, link))
        os.symlink("nowhere", os.path.join(self.dir, "a", "gone.jpg"))
        opened = self.open()
        source = opened.split("pretrain")
        self.assertEqual(
            [os.path.relpath(path, self.dir) for path in source.paths],
            ["a/000.png", "a/001.png", "b/000.png"],
        )
        self.assertAllEqual(source.labels, [0, 0, 1])
        self.assert_note(
            opened,
            r"5 files and folders left out: 3 links to what is there already, 2 links that lead "
            r"nowhere \(a/tob/, b/toa/, up/; a/gone.jpg, self\)",
        )

    def test_linked_folders_count_once(self):
        elsewhere = image_files.make_temp_dir(self.addCleanup)
        image_files.write(PNG, elsewhere, "a.png")
        for name in ("y", "x"):
            os.symlink(elsewhere, os.path.join(self.dir, name))
        self.write(z=1)
        self.assertEqual(self.open().split("pretrain").class_names, ("x", "z"))

    def test_split_of_links_into_a_pool(self):
        self.write(pool__ant=3, pool__bee=2)
        for split, names in (("train", ("ant", "bee")), ("test", ("ant", "bee"))):
            os.mkdir(os.path.join(self.dir, split))
            for name in names:
                os.symlink(f"../pool/{name}", os.path.join(self.dir, split, name))
        self.assertEqual(self.lengths(self.open()), [5, 5, 5])

    def test_other_files_are_counted_and_listed(self):
        self.write(ant=3, bee=2)
        for i in range(12):
            image_files.write(b"text", self.dir, "ant", f"{i}.txt")
        image_files.write(b"no image", self.dir, "ant", "unknown")
        opened = self.open()
        opened.split("pretrain")
        self.assert_note(opened, r": 13 files left out: 12 .txt, 1 without an ending \(listed in ")
        (path,) = re.findall(r"listed in (.*)\)", "".join(opened.notes))
        with open(path) as file:
            self.assertIn("without an ending\tant/unknown\n", file.readlines())

    def test_several_folders(self):
        self.write(a__ant=3, a__bee=2, b__train__cat=2, b__train__bee=1, b__test__bee=2, c=4)
        parts = [f"folder:{self.dir}/{name}" for name in "abc"]
        opened = catalog.open_dataset(",".join(parts))
        self.assertEqual(self.lengths(opened), [12, 8, 2])
        names = opened.split("train").class_names
        self.assertEqual(names, ("ant", "bee", "cat"))
        self.assertAllEqual(
            opened.split("pretrain").labels, [0] * 3 + [1] * 2 + [1, 2, 2] + [-1] * 4
        )
        self.assertAllEqual(opened.split("test").labels, [1, 1])

    @parameterized.parameters("", "/ant")
    def test_a_folder_inside_of_another_counts_once(self, inner):
        self.write(ant=3, bee=2)
        with self.assertRaisesRegex(InputError, "or lies in it, so its images would count twice"):
            catalog.open_dataset(f"folder:{self.dir},folder:{self.dir}{inner}")

    def test_a_comma_in_a_path(self):
        self.write_in("Paris, France", 2)
        opened = catalog.open_dataset(f"folder:{self.dir}/Paris, France")
        self.assertLen(opened.split("pretrain"), 2)

    def test_unknown_option(self):
        with self.assertRaisesRegex(
            InputError, r"no option \+tops in .*: folder knows \+no_exif, "
        ):
            self.open("+tops")

    def test_extraction_takes_all_images(self):
        self.write(ant=2, unlabeled=2, train=1)
        image_files.write(PNG, self.dir, "cover.jpg")
        self.assertLen(unchecked_folder.UncheckedFolder(self.dir), 6)

    def test_lines_are_logged_once(self):
        self.write(train__ant=3, train__bee=2, test__ant=2)
        with self.assertLogs("absl", "INFO") as logs:
            opened = self.open()
            for split in (*catalog.SPLITS, *catalog.SPLITS):
                opened.split(split)
        logged = [record.getMessage() for record in logs.records]
        self.assertEqual([logged.count(note) for note in opened.notes], [1] * len(opened.notes))

    def test_ordinary_fingerprints_are_those_of_earlier_runs(self):
        self.write(ant=2, bee=1)
        self.assertEqual(self.open().split("pretrain").fingerprint, ORDINARY["classes"])
        self.assertEqual(folder.FolderSource(f"{self.dir}/ant").fingerprint, ORDINARY["flat"])


# Measured with the code that knew no other folders.
ORDINARY = {"classes": "0edf70fc4adb377f", "flat": "f082880bc525d2eb"}


if __name__ == "__main__":
    tf.test.main()
