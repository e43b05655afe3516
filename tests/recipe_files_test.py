import os
import pathlib
from unittest import mock

import gin
from absl.testing import absltest

from csml_tf import recipe_files, recipes
from csml_tf.errors import InputError
from tests.training import tiny_run


class IncludesTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(gin.clear_config)
        self.folder = tiny_run.make_temp_dir(self.addCleanup)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)

    def write(self, path, text):
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def epochs(self, name, *bindings):
        recipes.parse([name], bindings)
        return gin.query_parameter("%EPOCHS")

    def test_beside_the_including_recipe_comes_first(self):
        self.write("mine/first.gin", 'include "common.gin"\n')
        self.write("mine/common.gin", "include 'parts/deep.gin'\nEPOCHS = 3\n")
        self.write("mine/parts/deep.gin", "EPOCHS = 5\n")
        self.write("common.gin", "EPOCHS = 7\n")
        self.write("parts/deep.gin", "wrong\n")
        self.assertEqual(self.epochs("mine/first.gin"), 3)

    def test_then_the_recipes_of_the_package(self):
        self.write("mine/first.gin", 'include "base/moco_v2.gin"\n')
        self.write("base/moco_v2.gin", "EPOCHS = 7\n")
        self.assertEqual(self.epochs("mine/first.gin"), 200)
        # By its own name the file of the current folder is meant.
        self.assertEqual(self.epochs("base/moco_v2.gin"), 7)

    def test_as_notepad_writes_it(self):
        path = self.folder / "mine.gin"
        path.write_bytes(b'\xef\xbb\xbfinclude "quickstart.gin"\r\nEPOCHS = 4\r\n')
        self.assertEqual(self.epochs("mine.gin"), 4)

    def test_then_the_current_folder(self):
        self.write("mine/first.gin", 'include "here.gin"\n')
        self.write("here.gin", "EPOCHS = 7\n")
        self.assertEqual(self.epochs("mine/first.gin"), 7)

    def test_overrides_include_from_the_current_folder(self):
        self.write("mine/first.gin", "EPOCHS = 1\n")
        self.write("here.gin", "EPOCHS = 7\n")
        self.assertEqual(self.epochs("mine/first.gin", 'include "here.gin"'), 7)

    def test_messages_name_the_file(self):
        path = self.write("mine/first.gin", 'EPOCHS = 1\ninclude "no.gin"\n')
        sentence = "mine/first.gin includes no.gin, which lies neither beside it nor in gin_co"
        with self.assertRaisesRegex(InputError, f"^{sentence}.*[.]$"):
            recipes.parse(["mine/first.gin"])
        path.write_text('EPOCHS = 1\ninclude "second.gin"\n')
        self.write("mine/second.gin", "\n\nEPOCHS = five\n")
        with self.assertRaisesRegex(InputError, "no value 'five' .second.gin, line 3."):
            recipes.parse(["mine/first.gin"])
        self.write("mine/second.gin", 'include "first.gin"\n')
        with self.assertRaisesRegex(InputError, r"^mine/first.gin includes itself, .*\.$"):
            recipes.parse(["mine/first.gin"])
        path.write_bytes(b"EPOCHS = '\xff'\n")
        with self.assertRaisesRegex(InputError, "mine/first.gin cannot be read .*utf-8"):
            recipes.parse(["mine/first.gin"])
        # Nothing is left of what failed.
        path.write_text("EPOCHS = 4\n")
        self.assertEqual(self.epochs("mine/first.gin"), 4)

    def test_home(self):
        self.write("first.gin", "EPOCHS = 4\n")
        with mock.patch.dict(os.environ, HOME=str(self.folder)):
            os.chdir(pathlib.Path(self.folder).parent)
            self.assertEqual(self.epochs("~/first.gin"), 4)

    def test_list(self):
        names = recipe_files.list_recipes()
        self.assertContainsSubset(["r50.gin", "ablation/csml.gin"], names)
        self.assertNotIn("base/moco_v2.gin", names)


if __name__ == "__main__":
    absltest.main()
