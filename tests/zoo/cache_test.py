import hashlib
import os
import pathlib
import shutil
import tempfile
import threading
from unittest import mock

from absl.testing import absltest, parameterized

from csml_tf.errors import InputError
from csml_tf.zoo import cache
from csml_tf.zoo.entry import Archive, Entry
from tests.zoo import archives, file_server

FILES = {"saved_model.pb": b"graph" * 100, "variables/variables.index": b"index"}
PACKED = archives.make_zip([*FILES.items()])


def make_entry(source, packed=PACKED):
    sha256 = hashlib.sha256(packed).hexdigest()
    archive = Archive(source, sha256, len(packed), "c0ffee", "2 CPU cores", 1.0, "Apache-2.0")
    return Entry("tiny", "CsMl", "ResNet-18", "digits", "none", archive)


class CacheTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = pathlib.Path(folder.name, "home")
        self.packaged = pathlib.Path(folder.name, "encoders")
        self.packaged.mkdir()
        for patch in (
            mock.patch.dict(os.environ, {"CSML_TF_HOME": str(self.home)}),
            mock.patch.object(cache, "_PACKAGED", self.packaged),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def serve(self, content=PACKED):
        context = file_server.serve(content)
        server = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return server

    def check(self, directory):
        self.assertEqual(directory.parent, self.home / "encoders")
        found = {
            path.relative_to(directory).as_posix(): path.read_bytes()
            for path in directory.rglob("*")
            if path.is_file()
        }
        self.assertEqual(found, FILES)
        names = {path.name.removeprefix(directory.name) for path in directory.parent.iterdir()}
        self.assertLessEqual(names, {"", ".json", ".lock", ".zip"})

    def test_packaged(self):
        (self.packaged / "tiny.zip").write_bytes(PACKED)
        entry = make_entry("tiny.zip")
        with mock.patch("urllib.request.urlopen", side_effect=AssertionError):
            directory = cache.find(entry)
        self.check(directory)
        with mock.patch.object(cache.archive, "unpack", side_effect=AssertionError):
            self.assertEqual(cache.find(entry), directory)  # Once is enough.

    @parameterized.parameters(None, b"", PACKED[:-1] + b"?")
    def test_damaged_installation(self, content):
        if content is not None:
            (self.packaged / "tiny.zip").write_bytes(content)
        with self.assertRaisesRegex(InputError, "tiny of this installation is missing or damaged"):
            cache.find(make_entry("tiny.zip"))

    def test_downloaded_once(self):
        server = self.serve()
        entry = make_entry(server.url)
        self.check(cache.find(entry))
        self.check(cache.find(entry))
        self.assertEqual(server.ranges, [None])

    def flip(self, path):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    @parameterized.parameters(*FILES, "more", "less", "manifest", "no manifest")
    def test_damage_in_the_unpacked_files_is_mended(self, damage):
        server = self.serve()
        entry = make_entry(server.url)
        directory = cache.find(entry)
        if damage == "more":
            (directory / "more").write_text("more")
        elif damage == "less":
            (directory / "saved_model.pb").unlink()
        elif damage == "manifest":
            directory.with_suffix(".json").write_text("{")
        elif damage == "no manifest":
            directory.with_suffix(".json").unlink()
        else:
            self.flip(directory / damage)
        self.check(cache.find(entry))
        self.assertLen(server.ranges, 1)  # The archive was still whole.

    def test_damage_in_the_archive_too(self):
        server = self.serve()
        entry = make_entry(server.url)
        directory = cache.find(entry)
        packed = directory.with_name(directory.name + ".zip")
        self.flip(packed)
        self.check(cache.find(entry))  # What was unpacked is whole, so nobody asks.
        shutil.rmtree(directory)
        self.check(cache.find(entry))
        self.assertEqual(server.ranges, [None, None])

    def test_offline_with_a_damaged_archive(self):
        server = self.serve()
        entry = make_entry(server.url)
        directory = cache.find(entry)
        self.flip(directory.with_name(directory.name + ".zip"))
        shutil.rmtree(directory)
        server.status = 503
        with self.assertRaisesRegex(InputError, "server says 503 Service Unavailable"):
            cache.find(entry)
        self.assertFalse(directory.exists())
        server.status = None
        self.check(cache.find(entry))

    @parameterized.parameters(
        ([("../saved_model.pb", b"bad")], "may lie outside"),
        ([("saved_model.pb", 0o120000)], "neither a file nor a folder"),
        ([("else.pb", b"graph")], "holds no saved_model.pb"),
    )
    def test_bad_archive_leaves_nothing(self, members, message):
        packed = archives.make_zip(members)
        (self.packaged / "tiny.zip").write_bytes(packed)
        with self.assertRaisesRegex(InputError, message):
            cache.find(make_entry("tiny.zip", packed))
        left = [path.suffix for path in (self.home / "encoders").iterdir()]
        self.assertEqual(left, [".lock"])
        self.assertFalse((self.home / "saved_model.pb").exists())

    def test_rests_of_a_killed_process(self):
        (self.packaged / "tiny.zip").write_bytes(PACKED)
        entry = make_entry("tiny.zip")
        directory = cache.find(entry)
        directory.rename(directory.with_suffix(".tmp"))
        (directory.with_suffix(".tmp") / "saved_model.pb").unlink()
        self.check(cache.find(entry))

    def test_new_version_has_a_place_of_its_own(self):
        newer = archives.make_zip([*FILES.items(), ("new", b"")])
        for number, packed in enumerate((PACKED, newer)):
            (self.packaged / f"{number}.zip").write_bytes(packed)
        older = cache.find(make_entry("0.zip"))
        self.assertEqual((cache.find(make_entry("1.zip", newer)) / "new").read_bytes(), b"")
        self.assertFalse((older / "new").exists())

    def test_two_at_once(self):
        server = self.serve()
        entry = make_entry(server.url)
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(cache.find(entry))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertLen(found, 4)
        self.assertLen(server.ranges, 1)
        self.check(found[0])

    def test_home_that_is_a_file(self):
        self.home.write_text("")
        (self.packaged / "tiny.zip").write_bytes(PACKED)
        with self.assertRaisesRegex(
            InputError, "cache .*home cannot be written .*: .*set CSML_TF_HOME to another folder"
        ):
            cache.find(make_entry("tiny.zip"))


if __name__ == "__main__":
    absltest.main()
