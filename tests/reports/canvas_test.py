import base64
import contextlib
import os
import sys
from unittest import mock
from xml.etree import ElementTree

from absl.testing import absltest

from csml_tf.errors import InputError
from csml_tf.reports import canvas
from tests.training import tiny_run


class PrepareTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = tiny_run.make_temp_dir(self.addCleanup)

    def test_makes_the_folder(self):
        canvas.prepare(self.directory / "a" / "b")
        self.assertTrue((self.directory / "a" / "b").is_dir())

    def test_file_in_its_place(self):
        (self.directory / "file").touch()
        with self.assertRaisesRegex(InputError, "file cannot be written .*--output"):
            canvas.prepare(self.directory / "file")

    def test_read_only(self):
        with (
            mock.patch.object(os, "access", return_value=False),
            self.assertRaisesRegex(
                InputError, "cannot be written .no permission.: choose another --output"
            ),
        ):
            canvas.prepare(self.directory)

    def test_without_matplotlib(self):
        with (
            mock.patch.dict(sys.modules, {"matplotlib": None}),
            self.assertRaisesRegex(InputError, r"pip install 'csml_tf\[reports\]'"),
        ):
            canvas.prepare(self.directory)


class UriTest(absltest.TestCase):
    def test_names_are_no_formulas(self):
        for look in (canvas.style(), contextlib.nullcontext()):
            self.draw_names(look)

    def draw_names(self, look):
        with look:
            figure = canvas.figure(6, 4)
            axes = figure.subplots()
            axes.set_ylim(0, 9)
            for place, name in enumerate(("5$ and 10$", "$^{", "a_{b}^%", "\\frac{$x", "\udcff")):
                axes.text(0, place, name)
            axes.set_title("$\\nothing$")
            self.assertStartsWith(canvas.svg_uri(figure), "data:image/svg+xml")

    def test_svg_asks_for_nothing(self):
        figure = canvas.figure(2, 1)
        figure.subplots().set_title("a < b")
        kind, _, content = canvas.svg_uri(figure).partition(",")
        self.assertEqual(kind, "data:image/svg+xml;base64")
        text = base64.b64decode(content)
        self.assertEqual(canvas.svg_uri(figure).partition(",")[2], content)
        for element in ElementTree.fromstring(text).iter():
            self.assertFalse(element.tag.endswith("}text"))
            for name, value in element.attrib.items():
                if name.endswith("href"):
                    self.assertStartsWith(value, "#")

    def test_unwritable_file(self):
        directory = tiny_run.make_temp_dir(self.addCleanup)
        with self.assertRaisesRegex(InputError, "x.png cannot be written .*another --output"):
            canvas.save(canvas.figure(1, 1), directory / "no" / "x.png")


if __name__ == "__main__":
    absltest.main()
