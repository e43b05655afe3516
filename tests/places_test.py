import os
import pathlib
from unittest import mock

from absl.testing import absltest, parameterized

from csml_tf import places
from csml_tf.errors import InputError
from tests.training import tiny_run


class PlacesTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.enter_context(mock.patch.dict(os.environ, HOME="/home/ann"))

    @parameterized.parameters(
        ("~/runs/x", "/home/ann/runs/x"),
        ("~", "/home/ann"),
        (pathlib.Path("~/a"), "/home/ann/a"),
        ("folder:~/photos", "folder:/home/ann/photos"),
        ("runs/~/x", "runs/~/x"),
        ("a~", "a~"),
        ("~nobody-of-this-name/x", "~nobody-of-this-name/x"),
        ("r50", "r50"),
        ("größe $^{%", "größe $^{%"),
        (b"~/a", "/home/ann/a"),
    )
    def test_expand(self, path, expected):
        self.assertEqual(places.expand(path), expected)

    def test_names_that_tensorflow_cannot_open(self):
        with self.assertRaisesRegex(InputError, r"^--model_dir runs/\\udcff is not in UTF-8"):
            places.expand("runs/\udcff", "--model_dir")
        with self.assertRaisesRegex(InputError, r"'a\\x00' holds a zero byte"):
            places.expand("a\0")
        self.assertEqual(places.expand_home("~/\udcff"), "/home/ann/\udcff")

    @parameterized.parameters((None, "~/.cache/csml_tf"), ("", "~/.cache/csml_tf"), ("~/x", "~/x"))
    def test_cache_home(self, value, expected):
        with mock.patch.dict(os.environ):
            os.environ.pop("CSML_TF_HOME", None)
            if value is not None:
                os.environ["CSML_TF_HOME"] = value
            self.assertEqual(str(places.cache_home()), os.path.expanduser(expected))

    def test_is_inside(self):
        folder = tiny_run.make_temp_dir(self.addCleanup)
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "link").symlink_to(folder / "a")
        self.assertTrue(places.is_inside(folder / "a" / "b", folder / "a"))
        self.assertTrue(places.is_inside(folder / "link" / "new", folder / "a"))
        self.assertTrue(places.is_inside(folder / "a", folder / "link"))
        self.assertFalse(places.is_inside(folder, folder / "a"))
        self.assertFalse(places.is_inside(folder / "ab", folder / "a"))

    def test_what_tensorflow_takes_for_a_pattern(self):
        for path, sign in (("runs/[1]", r"\["), ("a*/b", r"\*"), ("why?", r"\?"), ("a\\b", r"\\")):
            with self.assertRaisesRegex(
                InputError, f"^The run .* has {sign} in its name, .* choose"
            ):
                places.check_no_pattern(path, "The run")
        places.check_no_pattern("runs (1)/ü b%, {c}]", "The run")


if __name__ == "__main__":
    absltest.main()
