import os
from unittest import mock

from absl.testing import absltest

from csml_tf import fetched, whole_files
from csml_tf.errors import InputError
from csml_tf.url_path import Status, UrlPath
from tests import ram_store
from tests.training import tiny_run

FILES = {"saved_model.pb": b"1", "variables/data": b"2"}


class FetchedTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.home = tiny_run.make_temp_dir(self.addCleanup)
        self.enter_context(mock.patch.dict(os.environ, CSML_TF_HOME=str(self.home)))
        self.store = ram_store.make_folder(self.addCleanup) / "r50" / "saved_model"
        for name, content in FILES.items():
            ram_store.write(self.store / name, content)

    def read(self, folder):
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    def test_local_folder_is_itself(self):
        self.assertEqual(fetched.on_disk(str(self.home)), self.home)

    def test_copy(self):
        copy = fetched.on_disk(str(self.store))
        self.assertEqual(self.read(copy), FILES)
        self.assertEqual(copy.parts[-2:], ("r50", "saved_model"))
        self.assertIn(self.home, copy.parents)

    def test_taken_again_by_size_and_time(self):
        """`ram://` knows no times, so nothing there is taken again."""
        times = dict.fromkeys(FILES, 7)
        original = UrlPath.stat

        def stat(path):
            return Status(original(path).st_size, times[path.relative_to(self.store).as_posix()])

        with mock.patch.object(UrlPath, "stat", stat):
            first = fetched.on_disk(self.store)
            with mock.patch.object(UrlPath, "download", side_effect=AssertionError):
                self.assertEqual(fetched.on_disk(self.store), first)
            ram_store.write(self.store / "variables/data", b"3")
            times["variables/data"] = 8
            self.assertEqual(self.read(fetched.on_disk(self.store))["variables/data"], b"3")
            self.assertEqual(self.read(first), FILES)  # Somebody may be reading it.
        ram_store.write(self.store / "variables/data", b"4")
        self.assertEqual(self.read(fetched.on_disk(self.store))["variables/data"], b"4")
        ram_store.write(self.store / "variables/data", b"5")
        self.assertEqual(self.read(fetched.on_disk(self.store))["variables/data"], b"5")

    def test_full_disk(self):
        full = OSError(28, "No space left on device")
        with (
            mock.patch.object(whole_files, "new_folder", side_effect=full),
            self.assertRaisesRegex(InputError, r"copied to .* \(No space .*: free some space"),
        ):
            fetched.on_disk(self.store)


if __name__ == "__main__":
    absltest.main()
