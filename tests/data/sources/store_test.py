"""Data sets of images on an object store: the same as of the same files on a disk."""

import contextlib
import os
from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from csml_tf import url_path, whole_files
from csml_tf.data import catalog
from csml_tf.data.sources import (
    csv_splits,
    folder,
    folder_scan,
    python_images,
    store_listing,
    unchecked_folder,
)
from csml_tf.errors import InputError
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

    @parameterized.parameters(
        "path,label,split\n{}train/ant/a.png,ant,train\n{}train/bee/c.png,bee,train\n"
        "{}val/ant/e.png,ant,test\n{}unlabeled/g.png,,train\n",
        "{}train/ant/a.png;ant\r\n{}train//bee/./c.png;bee\r\n{}train/ant/b.jpg;ant\n",
        "{}train/ant/a.png\n{}train/bee/d.webp\n",
    )
    def test_table(self, text):
        """Paths from the table's folder, on a disk and on a store, or whole ones."""
        self.put({name: encode(name, seed) for name, seed in FILES.items()})
        self.put({"table.csv": text.replace("{}", "").encode()})
        local = catalog.open_dataset(f"csv:{self.local}/table.csv")
        stored = catalog.open_dataset(f"csv:{self.store}/table.csv")
        for split in ("pretrain", "train"):
            self.assert_same_source(stored.split(split), local.split(split))
        notes = [note.replace(self.store, self.local) for note in stored.notes]
        self.assertEqual(notes, local.notes)
        for place in (self.local, self.store):
            path = f"{place}/urls.csv"
            whole_files.write(path, text.replace("{}", f"{self.store}/"))
            whole = catalog.open_dataset(f"csv:{path}").split("pretrain")
            self.assertEqual(whole.paths, stored.split("pretrain").paths)
            self.assertAllEqual(whole.read(1), local.split("pretrain").read(1))

    def test_table_with_other_places(self):
        self.put({"a.png": encode("a.png", 0), "t/b.png": encode("b.png", 1)})
        for rows, message in (
            ("b.png\n../a.png\n", r"^\.\./a\.png does not lie below .*/t, the folder of the table"),
            ("b.png\n/etc/a.png\n", r"^There is no file|^/etc/a.png does not lie below"),
            (f"b.png\n{self.store}/a.png\n", "/a.png does not lie below .* whole URLs in all"),
            ("none.png\n", "^There is no file none.png in ram://"),
        ):
            whole_files.write(f"{self.store}/t/table.csv", rows)
            with self.assertRaisesRegex(InputError, message):
                csv_splits.open_splits(f"csv:{self.store}/t/table.csv")
        whole_files.write(f"{self.local}/mixed.csv", f"a.png\n{self.store}/a.png\n")
        with self.assertRaisesRegex(InputError, "files on a disk and at URLs .* a table for each"):
            csv_splits.open_splits(f"csv:{self.local}/mixed.csv")
        whole_files.write(f"{self.local}/far.csv", f"{self.store}/a.png\nram://else/a.png\n")
        with self.assertRaisesRegex(InputError, "lie in no bucket together"):
            csv_splits.open_splits(f"csv:{self.local}/far.csv")
        with self.assertRaisesRegex(InputError, "none.csv cannot be read as a table"):
            csv_splits.open_splits(f"csv:{self.store}/none.csv")

    def test_bad_places(self):
        self.put({"a.png": encode("a.png", 0), "notes.txt": b"ants"})
        for dataset, message in (
            (f"folder:{self.store}/none", rf"^There is no folder {self.store}/none: check"),
            (f"folder:{self.store}/a.png", rf"^{self.store}/a.png is a file and no folder"),
            (self.store, f"is no name of a data set: .* say folder:{self.store}"),
            ("folder:ftp://host/photos", "^TensorFlow opens no ftp:// URLs"),
            (f"folder:{self.store},folder:{self.store}/", "so its images would count twice"),
            (f"folder:{self.store},folder:{self.local}", "lie in no bucket together"),
        ):
            with self.assertRaisesRegex(InputError, message):
                catalog.open_dataset(dataset).split("pretrain")
        ram_store.write(f"{self.store}/empty/notes.txt", b"ants")
        with self.assertRaisesRegex(InputError, rf"^No image in {self.store}/empty: it needs"):
            catalog.open_dataset(f"folder:{self.store}/empty").split("pretrain")
        with self.assertRaisesRegex(InputError, "TFDS keeps no data sets at ram://.* gs:// or s3"):
            catalog.open_dataset("mnist", data_dir=self.store)

    def test_images_to_look_up(self):
        self.put({"a.png": encode("a.png", 0), "b/c.jpg": encode("c.jpg", 1)})
        for path in ("", "/b", "/a.png"):
            stored = catalog.open_images(f"{self.store}{path}")
            local = catalog.open_images(f"{self.local}{path}")
            self.assert_same_source(stored, local)
        with self.assertRaisesRegex(InputError, "There is no file or folder ram://.*/none"):
            catalog.open_images(f"{self.store}/none")

    def test_images_named_one_by_one(self):
        self.put({"a.png": encode("a.png", 0), "b.jpg": encode("b.jpg", 1), "c.png": b"none"})
        paths = [f"{self.store}/a.png", f"{self.store}/b.jpg"]
        source = python_images.make_source(paths)
        self.assertEqual(source.paths, paths)
        local = python_images.make_source([f"{self.local}/a.png", f"{self.local}/b.jpg"])
        self.assertEqual(source.fingerprint, local.fingerprint)
        with self.assertRaisesRegex(InputError, "^1 of 3 files are missing or no whole images"):
            python_images.make_source([*paths, f"{self.store}/c.png"])

    def test_broken_images(self):
        files = {f"{i:03}.png": encode("a.png", i) for i in range(8)}
        files["cut.png"] = files["000.png"][:-20]
        self.put(files)
        for folder_ in (self.store, self.local):
            with self.assertLogs("absl", "WARNING") as logs:
                source = folder.FolderSource(folder_)
            self.assertIn("Skipped 1 of 9 files in", logs.output[0])
            self.assertIn("cut.png", logs.output[0])
            self.assertLen(source, 8)

    def test_photographs_that_are_decoded_later(self):
        """Of a folder too big to be decoded at once, read inside the tf.data graph."""
        self.put({f"{i:03}.png": encode("a.png", i) for i in range(120)})
        broken = bytearray(encode("a.png", 5))
        broken[60:80] = b"\0" * 20
        self.put({"005.png": bytes(broken)})
        with mock.patch.object(folder, "MAX_DECODED_BYTES", 0):
            stored, local = folder.FolderSource(self.store), folder.FolderSource(self.local)
        self.assertEqual(stored.fingerprint, local.fingerprint)
        with self.assertLogs("absl", "WARNING") as logs:
            images = [
                list(tf.data.Dataset.range(4, 8).map(source.read).as_numpy_iterator())
                for source in (stored, local)
            ]
        self.assertAllEqual(*images)
        self.assertIn(f"{self.store}/005.png cannot be decoded; the next", logs.output[0])


class ListingTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.store = str(ram_store.make_folder(self.addCleanup))

    def count_questions(self, directory):
        """-> {name of a function of `tf.io.gfile`: calls} of a scan."""
        with contextlib.ExitStack() as stack:
            questions = {
                name: stack.enter_context(
                    mock.patch.object(tf.io.gfile, name, wraps=getattr(tf.io.gfile, name))
                )
                for name in ("listdir", "stat", "exists", "isdir", "GFile")
            }
            scan = folder_scan.scan(directory)
        return scan, {name: question.call_count for name, question in questions.items()}

    def test_asks_once_for_each_folder(self):
        """Neither is a file asked for nor opened, whose name says what it is."""
        names = ("a.jpg", "b.JPEG", "c.png", "d.webp", "e.txt", "f.json", "g.mp4")
        for child in ("ant", "bee", "cat"):
            for name in names:
                ram_store.write(f"{self.store}/{child}/{name}")
        scan, calls = self.count_questions(self.store)
        self.assertEqual(scan.num_images, 12)
        # One question for each folder: `ram://`, as S3, does not tell folders from files.
        self.assertEqual(calls, {"listdir": 4, "stat": 3, "exists": 0, "isdir": 0, "GFile": 0})

    def test_store_that_marks_folders(self):
        """As Google's does: `listdir` has a slash behind their names, and nothing is asked for."""
        original = tf.io.gfile.listdir

        def listdir(path):
            return [f"{name}/" if "." not in name else name for name in original(path)]

        for name in ("ant/a.jpg", "bee/b.png", "bee/c.odd"):
            ram_store.write(f"{self.store}/{name}")
        with (
            mock.patch.object(store_listing, "_MARKS_FOLDERS", ("ram",)),
            mock.patch.object(tf.io.gfile, "listdir", listdir),
        ):
            scan, calls = self.count_questions(self.store)
        self.assertEqual([*scan.children], ["ant", "bee"])
        self.assertEqual((calls["stat"], calls["GFile"]), (0, 1))  # To look into c.odd.

    def test_store_that_fails(self):
        """What cannot be listed or read is not left out: it may be there the next time."""
        for name in ("ant/a.png", "bee/b.png", "bee/odd"):
            ram_store.write(f"{self.store}/{name}", image_files.encode(image_files.noise(0), "PNG"))
        fault = tf.errors.UnavailableError(None, None, "no answer")
        listdir = tf.io.gfile.listdir

        def fail(path, *args):
            if "bee" in str(path):
                raise fault
            return listdir(path, *args)

        with (
            mock.patch.object(tf.io.gfile, "listdir", fail),
            self.assertRaisesRegex(InputError, r"/bee cannot be used \(no answer\)"),
        ):
            folder_scan.scan(self.store)
        for method in ("read_ends", "read_bytes"):
            fault = url_path.StoreError(f"{self.store}/bee", "no answer")
            with (
                mock.patch.object(url_path.UrlPath, method, side_effect=fault),
                self.assertRaisesRegex(InputError, r"cannot be used \(no answer\)"),
            ):
                folder.FolderSource(self.store)


if __name__ == "__main__":
    tf.test.main()
