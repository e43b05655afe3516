import os

import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data import catalog
from csml_tf.errors import InputError
from tests.data.sources import image_files


class CsvSplitsTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.dir = image_files.make_temp_dir(self.addCleanup)
        image_files.write_pngs(os.path.join(self.dir, "images"), 10)

    def open(self, text, options=""):
        path = image_files.write(text.encode(), self.dir, "table.csv")
        return catalog.open_dataset(f"csv{options}:{path}")

    def rows(self, labels, first=0):
        return "".join(
            f"images/{first + i:03d}.png{label and ',' + label}\n" for i, label in enumerate(labels)
        )

    @parameterized.parameters("", "path,label\n", "File,Class\n", "\ufeffimage,category\n")
    def test_path_and_label(self, first_line):
        opened = self.open(first_line + self.rows(["bee", "ant", "bee", "ant", "10"]))
        source = opened.split("pretrain")
        self.assertEqual(source.class_names, ("10", "ant", "bee"))
        self.assertAllEqual(source.labels, [2, 1, 2, 1, 0])
        for i in range(5):
            self.assertAllEqual(source.read(i), image_files.noise(i))
        self.assertRegex(opened.notes[0], "table.csv: 5 images in 3 classes: 10, ant, bee.$")

    def test_a_list_of_files(self):
        whole = os.path.join(self.dir, "images", "009.png")
        opened = self.open(f"images/003.png\n{whole}\n\n")
        source = opened.split("pretrain")
        self.assertIsNone(source.labels)
        for i, number in enumerate((3, 9)):
            self.assertAllEqual(source.read(i), image_files.noise(number))

    @parameterized.parameters(";", "\t")
    def test_other_separators(self, separator):
        rows = f"path,label\n{self.rows(['a', 'b'])}".replace(",", separator)
        self.assertAllEqual(self.open(rows).split("pretrain").labels, [0, 1])

    def test_zero_bytes(self):
        for text in ("images/000.png,a\nimages/001.png\0,b\n", "i\0m\0,\0"):
            with self.assertRaisesRegex(InputError, "it holds zero bytes.: .* needs UTF-8 text"):
                self.open(text)

    def test_one_file_has_one_name(self):
        opened = self.open(f"./images/000.png\nimages//000.png\n{self.dir}/images/000.png\n")
        self.assertLen(opened.split("pretrain"), 1)
        self.assertIn("2 repeated rows are left out", opened.notes[0])

    def test_nothing_behind_the_colon(self):
        for dataset in ("csv:", "folder:", "folder+top:"):
            with self.assertRaisesRegex(InputError, f"'{dataset.replace('+', '.')}' names no pl"):
                catalog.open_dataset(dataset)

    @parameterized.parameters(
        ("bad;name.png,ant", ["ant"]),
        ("a, b.png;ant", ["ant"]),
        ('"a, b.png",ant', ["ant"]),
        ("a, b.png", None),
        ("images\\000.png,ant\r\nimages\\001.png,bee\r\n", ["ant", "bee"]),
    )
    def test_names_that_hold_separators(self, text, classes):
        for name in ("bad;name.png", "a, b.png"):
            image_files.write(image_files.encode(image_files.noise(0), "PNG"), self.dir, name)
        source = self.open(text).split("pretrain")
        self.assertEqual(source.class_names, classes and tuple(classes))
        self.assertAllEqual(source.read(0), image_files.noise(0))

    def test_numbers_are_sorted_as_numbers(self):
        self.assertEqual(
            self.open(self.rows(["10", "9", "2"])).split("pretrain").class_names, ("2", "9", "10")
        )

    def test_splits_and_images_without_a_class(self):
        rows = ["path,split,label,size"]
        for i, (split, label) in enumerate(
            [("train", "b"), ("train", "a"), ("train", ""), ("Test", "b"), ("val", "a")]
        ):
            rows.append(f"images/{i:03d}.png,{split},{label},7")
        opened = self.open("\n".join(rows))
        self.assertEqual([len(opened.split(split)) for split in catalog.SPLITS], [3, 2, 1])
        self.assertAllEqual(opened.split("pretrain").labels, [1, 0, -1])
        self.assertAllEqual(opened.split("test").labels, [1])
        notes = "\n".join(opened.notes)
        self.assertRegex(notes, "columns that are not used: size")
        self.assertRegex(notes, r"3 rows are for training, 1 \(test\) for eval.*not used: 1 of val")
        self.assertRegex(notes, "1 image without a class, for pretraining only")

    def test_test_images_without_a_class_are_not_used(self):
        rows = "path,label,split\nimages/000.png,a,train\nimages/001.png,b,train\n"
        opened = self.open(f"{rows}images/002.png,,test\nimages/003.png,b,val\n")
        self.assertAllEqual(opened.split("test").labels, [1])
        self.assertRegex(
            opened.notes[0], r"training, 1 \(val\) .* not used: 1 of test without a class\.$"
        )

    def test_no_rows_for_evaluation(self):
        rows = ["path,label,split", *(f"images/{i:03d}.png,a,train" for i in range(4))]
        self.assertRegex(self.open("\n".join(rows)).notes[0], "4 rows are for training\\.$")

    def test_repeated_rows(self):
        opened = self.open(self.rows(["a", "b"]) + self.rows(["a"]))
        self.assertLen(opened.split("pretrain"), 2)
        self.assertRegex(opened.notes[0], "1 repeated row is left out")

    def test_an_image_in_several_rows_is_said(self):
        opened = self.open(self.rows(["a", "b"]) + self.rows(["b"]))
        self.assertRegex(opened.notes[0], "1 image in several rows, .*: images/000.png")

    def test_an_empty_line_comes_first(self):
        opened = self.open("\n" + self.rows(["a", "b"]).replace(",", ";"))
        self.assertAllEqual(opened.split("pretrain").labels, [0, 1])

    def test_a_column_without_a_name(self):
        opened = self.open(",path,label\n0,images/000.png,a\n1,images/001.png,b\n")
        self.assertRegex(opened.notes[0], r"not used: \(without a name\)")

    @parameterized.parameters(
        ("", "names no image"),
        ("path,label\n", "names no image"),
        ("images/000.png,a,b\n", "3 columns and no first line"),
        ("elsewhere/000.png,a\n", "no file elsewhere/000.png in"),
        ("path,split\nimages/000.png,test\n", "no row for training"),
        ("img,label\nimages/000.png,a\n", r"first line of .*table.csv names no file in .* \(img\)"),
    )
    def test_bad_tables(self, text, message):
        with self.assertRaisesRegex(InputError, message):
            self.open(text).split("train")

    def test_unknown_test_class(self):
        rows = "path,label,split\nimages/000.png,a,train\nimages/001.png,b,test\n"
        with self.assertRaisesRegex(InputError, "1 class of the test rows .*training: b"):
            self.open(rows).split("test")

    def test_no_table(self):
        with self.assertRaisesRegex(InputError, "cannot be read as a table"):
            catalog.open_dataset(f"csv:{self.dir}/nowhere.csv")


if __name__ == "__main__":
    tf.test.main()
