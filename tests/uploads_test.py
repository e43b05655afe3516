from unittest import mock

from absl.testing import absltest, parameterized

from csml_tf import uploads, url_path, whole_files
from csml_tf.errors import InputError
from csml_tf.url_path import StoreError, UrlPath
from tests import ram_store


class UploadsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.store = ram_store.make_folder(self.addCleanup)

    def test_file(self):
        for content in ("old", b"new"):
            whole_files.write(self.store / "a/b.txt", content)
        whole_files.write(f"{self.store}/c.txt", "\udcff")
        self.assertEqual(ram_store.files(self.store), {"a/b.txt": b"new", "c.txt": b"\xff"})

    def test_failed_block_leaves_what_is_there(self):
        whole_files.write(self.store / "a.txt", "old")
        with (
            self.assertRaises(ZeroDivisionError),
            whole_files.new_file(self.store / "a.txt") as file,
        ):
            self.assertEqual(file.name, "a.txt")  # Formats go by the ending.
            file.write_text("new")
            1 / 0  # noqa: B018
        with self.assertRaises(ZeroDivisionError), whole_files.new_folder(self.store / "m"):
            1 / 0  # noqa: B018
        self.assertEqual(ram_store.files(self.store), {"a.txt": b"old"})
        self.assertFalse(file.exists())

    def write_model(self, files, folder="m"):
        with whole_files.new_folder(self.store / folder, "choose another") as local:
            self.assertEqual(local.name, folder)
            for name, content in files.items():
                (local / name).parent.mkdir(parents=True, exist_ok=True)
                (local / name).write_bytes(content)

    def test_folder_is_replaced(self):
        old = {"saved_model.pb": b"1", "v/data": b"1", "v/index": b"1", "w/x/y": b"1", "z": b"1"}
        self.write_model(old)
        self.assertEqual(ram_store.files(self.store / "m"), old)
        new = {"saved_model.pb": b"2", "v/data": b"2", "csml_tf.json": b"2"}
        self.write_model(new)
        self.assertEqual(ram_store.files(self.store / "m"), new)
        names = {path.name for path in (self.store / "m").iterdir()}
        self.assertEqual(names, {"saved_model.pb", "v", "csml_tf.json"})

    def test_marks_go_first_and_come_last(self):
        """Who looks at any moment finds a whole model, or none."""
        self.write_model({"saved_model.pb": b"1", "v/data": b"1", "z": b"1"})
        seen, original = [], url_path.tf.io.gfile.copy

        def copy(source, target, **options):
            seen.append(ram_store.files(self.store / "m"))
            original(source, target, **options)

        with mock.patch.object(url_path.tf.io.gfile, "copy", copy):
            self.write_model({"saved_model.pb": b"2", "v/data": b"2", "z": b"2"})
        self.assertLen(seen, 3)
        for files in seen:
            self.assertNotIn("saved_model.pb", files)
        self.assertEqual({seen[-1]["v/data"], seen[-1]["z"]}, {b"2"})

    def test_bad_places(self):
        ram_store.write(self.store / "file")
        with self.assertRaisesRegex(InputError, "/file cannot be written .*folder.*: choose anoth"):
            self.write_model({}, "file")
        denied = StoreError(str(self.store), "no access")
        with mock.patch.object(UrlPath, "upload", side_effect=denied):
            with self.assertRaisesRegex(
                InputError, r"/b cannot be written \(no access\): choose another --output\.$"
            ):
                whole_files.write(self.store / "b", "", "choose another --output")
            with self.assertRaisesRegex(InputError, r"cannot be used \(no access\): check"):
                whole_files.write(self.store / "b", "")

    def test_walk(self):
        names = {"a", "b/c", "b/d/e", "b/d/f"}
        for name in names:
            ram_store.write(self.store / name)
        self.assertCountEqual(uploads.walk(self.store), names)


if __name__ == "__main__":
    absltest.main()
