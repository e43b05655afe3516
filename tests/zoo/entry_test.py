import dataclasses
import pathlib

from absl.testing import absltest, parameterized

from csml_tf.zoo import entry, registry

ROOT = pathlib.Path(__file__).parents[2]
GOOD = entry.Archive(
    source="https://example.org/r18.tar.gz",
    sha256="0123456789abcdef" * 4,
    num_bytes=10,
    commit="0123456789",
    hardware="2 CPU cores",
    hours=1.5,
    licence="Apache-2.0",
)


class ArchiveTest(parameterized.TestCase):
    @parameterized.parameters(
        ("https://example.org/r18.tar.gz", True, ".tar.gz"),
        ("http://example.org/r18.zip", True, ".zip"),
        ("r18.zip", False, ".zip"),
    )
    def test_source(self, source, is_remote, ending):
        archive = dataclasses.replace(GOOD, source=source)
        self.assertEqual((archive.is_remote, archive.ending), (is_remote, ending))

    @parameterized.parameters(
        ({"source": "r18.7z"}, "must end in one of"),
        ({"source": "ftp://example.org/r18.zip"}, "an http.* address or a plain file name"),
        ({"source": "file:///etc/r18.zip"}, "an http.* address or a plain file name"),
        ({"source": "../r18.zip"}, "an http.* address or a plain file name"),
        ({"sha256": "0123"}, "64 hex digits, got '0123'"),
        ({"sha256": "ABCDEF0123456789" * 4}, "64 hex digits"),
        ({"num_bytes": 0}, "num_bytes must be above 0"),
        ({"hours": -1}, "hours at least 0"),
    )
    def test_rejects(self, change, message):
        with self.assertRaisesRegex(ValueError, message):
            dataclasses.replace(GOOD, **change)


class EntryTest(parameterized.TestCase):
    @parameterized.parameters("", "../r18", "R18", "r18.gin", "_r18")
    def test_rejects_ids_that_are_no_names(self, name):
        with self.assertRaisesRegex(ValueError, "An id has lower-case letters"):
            entry.Entry(name, "CsMl", "ResNet-18", "CIFAR-10", "none")

    def test_every_recipe_has_an_entry_and_every_entry_a_recipe(self):
        ids = [each.id for each in registry.ENTRIES]
        self.assertCountEqual(ids, [path.stem for path in (ROOT / "gin_configs").glob("*.gin")])


if __name__ == "__main__":
    absltest.main()
