import pathlib
import stat
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from csml_tf.errors import InputError
from csml_tf.zoo import archive
from tests.zoo import archives

MAKERS = {".zip": archives.make_zip, ".tar.gz": archives.make_tar}
GOOD = [
    ("saved_model.pb", b"graph" * 1000),
    ("variables/", None),
    ("variables/variables.index", b"index"),
    ("./assets/deep/a file.txt", b""),
]


def files_in(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() or path.is_symlink()
    }


class UnpackTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.inside = self.folder / "around" / "inside"
        self.inside.mkdir(parents=True)

    def unpack(self, ending, content, **options):
        path = self.folder / f"encoder{ending}"
        path.write_bytes(content)
        archive.unpack(path, self.inside, **options)

    @parameterized.parameters(*MAKERS)
    def test_good(self, ending):
        self.unpack(ending, MAKERS[ending](GOOD))
        expected = {
            name.removeprefix("./"): content for name, content in GOOD if content is not None
        }
        self.assertEqual(files_in(self.inside), expected)

    @parameterized.product(
        ending=[*MAKERS],
        name=[
            "../outside",
            "a/../../outside",
            "a/../b",
            "/outside",
            "..",
            "..\\outside",
            "C:outside",
            "a\nb",
        ],
    )
    def test_refuses_paths_that_leave(self, ending, name):
        content = MAKERS[ending]([("saved_model.pb", b"graph"), (name, b"bad")])
        with self.assertRaisesRegex(InputError, "may lie outside of its folder: it is not"):
            self.unpack(ending, content)
        found = {*files_in(self.folder)} - {f"encoder{ending}"}
        self.assertLessEqual(found, {"around/inside/saved_model.pb"})

    @parameterized.parameters(
        *((".zip", kind) for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK)),
        # Hard and symbolic link, character and block device, FIFO.
        *((".tar.gz", kind) for kind in (1, 2, 3, 4, 6)),
    )
    def test_refuses_links_and_devices(self, ending, kind):
        content = MAKERS[ending]([("saved_model.pb", b"graph"), ("link", kind)])
        with self.assertRaisesRegex(InputError, "'link', neither a file nor a folder"):
            self.unpack(ending, content)
        self.assertEqual(files_in(self.inside), {"saved_model.pb": b"graph"})

    @parameterized.product(
        ending=[*MAKERS],
        members=[
            [("a", b"1"), ("a", b"2")],
            [("a", b"1"), ("./a", b"2")],
            [("a", b"1"), ("a/b", b"2")],
            [("a/b", b"1"), ("a", b"2")],
            [("a", b"1"), ("a/", None)],
        ],
    )
    def test_refuses_a_name_twice(self, ending, members):
        with (
            self.assertWarns(UserWarning)
            if ending == ".zip" and members[0][0] == members[1][0]
            else mock.MagicMock()
        ):
            content = MAKERS[ending](members)
        with self.assertRaisesRegex(InputError, "twice, or as a file and a folder"):
            self.unpack(ending, content)

    @parameterized.parameters(*MAKERS)
    def test_counts_the_bytes_that_come(self, ending):
        content = MAKERS[ending]([("a", bytes(600_000)), ("b", bytes(400_001))])
        self.assertLess(len(content), 10_000)
        with self.assertRaisesRegex(InputError, "holds more than 1000000 bytes"):
            self.unpack(ending, content, max_bytes=1_000_000)

    @parameterized.parameters(*MAKERS)
    def test_takes_just_as_many_bytes(self, ending):
        self.unpack(ending, MAKERS[ending]([("a", bytes(1000))]), max_bytes=1000)

    @parameterized.parameters(*MAKERS)
    def test_refuses_many_members(self, ending):
        content = MAKERS[ending]([(str(number), None) for number in range(4)])
        with (
            mock.patch.object(archive, "MAX_MEMBERS", 3),
            self.assertRaisesRegex(InputError, "more than 3 members"),
        ):
            self.unpack(ending, content)

    @parameterized.product(ending=[*MAKERS], damage=["cut", "flip", "other"])
    def test_damage(self, ending, damage):
        content = MAKERS[ending]([("a", bytes(range(256)) * 100)])
        middle = len(content) // 2
        damaged = {
            "cut": content[:middle],
            "flip": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :],
            "other": b"<html>",
        }[damage]
        with self.assertRaisesRegex(InputError, "is damaged .*: remove it and try again"):
            self.unpack(ending, damaged)

    def test_refuses_encryption(self):
        content = bytearray(archives.make_zip([("a", b"1")]))
        content[content.index(b"PK\x01\x02") + 8] |= 1  # The flag of the central directory.
        with self.assertRaisesRegex(InputError, "'a', which is encrypted"):
            self.unpack(".zip", bytes(content))


if __name__ == "__main__":
    absltest.main()
