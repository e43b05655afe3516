import os
import pathlib
from unittest import mock

from absl.testing import absltest, parameterized

from csml_tf import places, url_path
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

    def test_urls_stay_as_they_are(self):
        for url in ("gs://bucket/~/a", "folder:gs://bucket/a//b"):
            self.assertEqual(places.expand(url, "--model_dir"), url)
            self.assertEqual(places.expand_home(url), url)

    def test_what_is_a_url(self):
        for path in ("gs://bucket", "ram://a/b", "https://host/a", pathlib.PurePosixPath("a")):
            self.assertEqual(places.is_url(path), "://" in str(path))
        for path in ("a", "./gs://a", "C://a", "folder:gs://a", "://a", "gs:/a", "1s://a"):
            self.assertFalse(places.is_url(path), path)

    def test_what_opens_a_place(self):
        self.assertEqual(places.at("a", "b"), pathlib.Path("a/b"))
        self.assertEqual(places.at(pathlib.Path("a")), pathlib.Path("a"))
        url = places.at("ram://a", "b")
        self.assertEqual((type(url), str(url)), (url_path.UrlPath, "ram://a/b"))
        self.assertEqual(places.at(url), url)

    @parameterized.parameters(
        ("~/a", "/home/ann/a"),
        ("a/../b/", "a/../b/"),
        ("gs://bucket/a/", "gs://bucket/a"),
        ("gs://bucket//a/./b/../c", "gs://bucket/a/c"),
        ("gs://bucket/", "gs://bucket"),
    )
    def test_find(self, path, expected):
        self.assertEqual(places.find(path), expected)

    def test_only_on_a_disk(self):
        places.check_local("runs/a", "--output")
        with self.assertRaisesRegex(InputError, "^--output gs://a/b is a URL, .* give the copy"):
            places.check_local("gs://a/b", "--output")

    @parameterized.parameters(
        (["/a/b", "/a/c/d"], "/a"),
        (["gs://a/b/c", "gs://a/b/d"], "gs://a/b"),
        (["gs://a/b", "gs://a/bc"], "gs://a"),
        (["gs://a/b"], "gs://a/b"),
        (["gs://a/b", "gs://c/b"], None),
        (["gs://a/b", "s3://a/b"], None),
        (["gs://a/b", "/a/b"], None),
    )
    def test_common_folder(self, folders, expected):
        if expected is None:
            with self.assertRaisesRegex(InputError, "lie in no bucket together, so they are no"):
                places.common_folder(folders)
        else:
            self.assertEqual(places.common_folder(folders), expected)

    def test_folder_of_a_file(self):
        self.assertEqual(places.folder_of("gs://a/b/c.csv"), "gs://a/b")
        self.assertEqual(places.folder_of("/a/c.csv"), "/a")

    def test_is_inside_of_urls(self):
        self.assertTrue(places.is_inside("gs://a/b/c", "gs://a/b/"))
        self.assertTrue(places.is_inside("gs://a/b/../b", "gs://a/b"))
        for path in ("gs://a", "gs://a/bc", "s3://a/b", "/a/b", "gs:/a/b"):
            self.assertFalse(places.is_inside(path, "gs://a/b"), path)

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
