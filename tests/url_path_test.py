import builtins
import errno
import io
import os
import pickle
import sys
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from csml_tf import url_path
from csml_tf.errors import InputError
from csml_tf.url_path import StoreError, UrlPath
from tests import ram_store
from tests.training import tiny_run


class NamesTest(parameterized.TestCase):
    """As `pathlib` does with a path that has the bucket in place of the root."""

    def test_parts(self):
        path = UrlPath("ram://bucket/runs//a", "b.tar.gz")
        self.assertEqual(str(path), "ram://bucket/runs/a/b.tar.gz")
        self.assertEqual(os.fspath(path), "ram://bucket/runs/a/b.tar.gz")
        self.assertEqual((path.name, path.stem, path.suffix), ("b.tar.gz", "b.tar", ".gz"))
        self.assertEqual(str(path.parent / "c"), "ram://bucket/runs/a/c")
        self.assertEqual(str(path.with_name("d")), "ram://bucket/runs/a/d")
        self.assertEqual(path.relative_to(UrlPath("ram://bucket/runs")).as_posix(), "a/b.tar.gz")
        above = ["ram://bucket/runs/a", "ram://bucket/runs", "ram://bucket"]
        self.assertEqual([str(folder) for folder in path.parents], above)
        self.assertEqual(UrlPath("ram://bucket").parents, ())

    def test_is_a_value(self):
        path = UrlPath("ram://bucket/a")
        self.assertEqual(path, UrlPath("ram://bucket", "a"))
        self.assertLen({path, UrlPath("ram://bucket/a/"), UrlPath("ram://bucket/b")}, 2)
        self.assertEqual(pickle.loads(pickle.dumps(path)), path)

    def test_unknown_schemes(self):
        with self.assertRaisesRegex(InputError, r"^TensorFlow opens no ftp:// URLs: .* gs://"):
            UrlPath("ftp://host/a")
        with self.assertRaisesRegex(InputError, "^file:// is not needed: give the path"):
            UrlPath("file:///tmp")

    def test_scheme_of_a_package(self):
        original = builtins.__import__

        def refuse(name, *args):
            if name == "tensorflow_io":
                raise ImportError("No module named 'tensorflow_io'")
            return original(name, *args)

        url_path._check_scheme.cache_clear()
        known = mock.patch.object(tf.io.gfile, "get_registered_schemes", lambda: ["gs", "ram"])
        message = r"s3:// URLs only with the package tensorflow-io.*\[stores\].* gs://"
        without = mock.patch.object(builtins, "__import__", refuse)
        with known, without, self.assertRaisesRegex(InputError, message):
            UrlPath("s3://bucket/a")
        stub = mock.patch.dict(sys.modules, tensorflow_io=mock.Mock())
        with known, stub, self.assertRaisesRegex(InputError, "tensorflow-io brings no s3://"):
            UrlPath("s3://bucket/a")


class FilesTest(tf.test.TestCase, parameterized.TestCase):
    """As `pathlib.Path` does with the same files on a disk."""

    def setUp(self):
        super().setUp()
        self.local = tiny_run.make_temp_dir(self.addCleanup)
        self.store = ram_store.make_folder(self.addCleanup)
        for name, content in (("a/b.txt", b"0123456789"), ("a/c.bin", b""), ("d/e.txt", b"\xff")):
            (self.local / name).parent.mkdir(exist_ok=True)
            (self.local / name).write_bytes(content)
            ram_store.write(self.store / name, content)

    def test_asks_as_pathlib(self):
        for name in ("a", "a/b.txt", "a/c.bin", "d", "d/f.txt", "none"):
            local, store = self.local / name, self.store / name
            for question in ("exists", "is_file", "is_dir"):
                self.assertEqual(getattr(store, question)(), getattr(local, question)(), name)
        for pattern in ("*", "*.txt", "b*", "[a-b]*"):
            for folder in ("a", "d", "none"):
                self.assertCountEqual(
                    [path.name for path in (self.store / folder).glob(pattern)],
                    [path.name for path in (self.local / folder).glob(pattern)],
                )
        names = [path.name for path in self.local.iterdir()]
        self.assertCountEqual([path.name for path in self.store.iterdir()], names)
        self.assertEqual((self.store / "a/b.txt").stat().st_size, 10)

    def test_reads_as_pathlib(self):
        for name in ("a/b.txt", "a/c.bin"):
            self.assertEqual((self.store / name).read_text(), (self.local / name).read_text())
        for options in ({"encoding": "latin-1"}, {"errors": "surrogateescape"}):
            text = (self.store / "d/e.txt").read_text(**options)
            self.assertEqual(text, (self.local / "d/e.txt").read_text(**options))
        with self.assertRaises(UnicodeDecodeError):
            (self.store / "d/e.txt").read_text()
        file = self.store / "a/b.txt"
        self.assertEqual(file.read_bytes(3, 4), b"3456")
        self.assertEqual(file.read_ends(4, 3), (10, b"0123", b"789"))
        self.assertEqual(file.read_ends(0, 30), (10, b"", b"0123456789"))
        with file.open() as opened:
            opened.seek(-2, io.SEEK_END)
            self.assertEqual(opened.read(), b"89")
            self.assertEqual((opened.read(), opened.tell()), (b"", 10))
            opened.seek(3)
            opened.seek(1, io.SEEK_CUR)
            self.assertEqual(opened.read(2), b"45")
            opened.seek(30)
            self.assertEqual(opened.read(2), b"")
        with self.assertRaisesRegex(ValueError, "to be read as bytes, not with 'w'"):
            file.open("w")

    def test_arrays_are_read_in_place(self):
        np.savez(self.local / "x.npz", a=np.arange(5), b=["ant"])
        (self.store / "x.npz").upload(self.local / "x.npz")
        with (self.store / "x.npz").open("rb") as file, np.load(file) as arrays:
            self.assertAllEqual(arrays["a"], np.arange(5))
            self.assertEqual(arrays["b"].tolist(), ["ant"])

    @parameterized.parameters(
        lambda path: path.stat(),
        lambda path: path.read_bytes(),
        lambda path: path.open("rb"),
        lambda path: path.unlink(),
        lambda path: list(path.iterdir()),
        lambda path: path.rmdir(),
    )
    def test_what_is_missing(self, act):
        for folder in (self.local, self.store):
            with self.assertRaises(FileNotFoundError) as caught:
                act(folder / "none")
            self.assertEqual(caught.exception.errno, errno.ENOENT)
            self.assertTrue(caught.exception.strerror)
        (self.store / "none").unlink(missing_ok=True)

    def test_folders(self):
        for folder in (self.local, self.store):
            (folder / "x/y").mkdir(parents=True)
            self.assertTrue((folder / "x").is_dir())
            (folder / "x/y").mkdir(parents=True, exist_ok=True)
            with self.assertRaises(FileExistsError):
                (folder / "x/y").mkdir()
            with self.assertRaises(FileExistsError):
                (folder / "a/b.txt").mkdir(exist_ok=True)
            with self.assertRaises(OSError) as caught:
                (folder / "a").rmdir()
            self.assertEqual(caught.exception.errno, errno.ENOTEMPTY)
            (folder / "x/y").rmdir()
            self.assertFalse((folder / "x/y").exists())

    @parameterized.parameters((), ("ram",))
    def test_upload_replaces(self, *stores):
        """Whether the store puts files whole, or a new one is renamed."""
        (self.local / "new").write_bytes(b"new")
        target = self.store / "a/b.txt"
        if stores:
            target.unlink()  # `ram://` adds to a file that is there.
        else:
            ram_store.write(f"{target}.tmp", b"left by a crash")
        with mock.patch.object(url_path, "_STORES", stores):
            target.upload(self.local / "new")
        self.assertEqual(target.read_bytes(), b"new")
        self.assertEqual(set(ram_store.files(self.store / "a")), {"b.txt", "c.bin"})
        with mock.patch.object(url_path, "_STORES", stores):
            (self.store / "x/y").mkdir(parents=True)
        self.assertEqual((self.store / "x").exists(), not stores)
        target.download(self.local / "back")
        self.assertEqual((self.local / "back").read_bytes(), b"new")

    def test_what_a_store_says_otherwise(self):
        """Of credentials, the network or a name: one sentence, and an `OSError` of all."""
        refused = tf.errors.PermissionDeniedError(None, None, "no access\nand much more")
        failing = mock.patch.object(tf.io.gfile, "stat", side_effect=refused)
        with failing, self.assertRaises(StoreError) as caught:
            self.store.exists()
        error = caught.exception
        self.assertIsInstance(error, OSError)
        self.assertEqual(error.strerror, "no access")
        self.assertEqual(
            str(error),
            f"{self.store} cannot be used (no access): check the name of the bucket, your "
            "credentials and the network.",
        )

    def test_upload_to_nowhere(self):
        missing = tf.errors.NotFoundError(None, None, "NoSuchBucket")
        with (
            mock.patch.object(tf.io.gfile, "copy", side_effect=missing),
            self.assertRaisesRegex(StoreError, r"/x cannot be used \(there is no such bucket\)"),
        ):
            (self.store / "x").upload(self.local / "a/b.txt")
        with self.assertRaises(FileNotFoundError):
            (self.store / "x").upload(self.local / "none")

    def test_full_disk(self):
        full = tf.errors.ResourceExhaustedError(None, None, "/tmp/x; No space left on device")
        with (
            mock.patch.object(tf.io.gfile, "copy", side_effect=full),
            self.assertRaises(OSError) as caught,
        ):
            (self.store / "a/b.txt").download(self.local / "x")
        self.assertEqual(caught.exception.errno, errno.ENOSPC)

    def test_names_that_are_no_text(self):
        with self.assertRaisesRegex(InputError, r"/a\\udcff is not in UTF-8"):
            UrlPath(f"{self.store}/a\udcff").exists()


if __name__ == "__main__":
    absltest.main()
