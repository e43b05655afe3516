import numpy as np
from absl.testing import absltest

from csml_tf.data.originals import Original
from csml_tf.reports import palette
from csml_tf.reports.contact_sheet import ContactSheet, SheetRow
from tests.reports.page_reader import PageReader

LONG = "/folder/a_file_with_a_name_that_is_too_long_for_a_picture_<&>.png"


def make_image(index, label="cat", path=None, size=8):
    return Original(np.full([size, size, 3], index, np.uint8), index, label, path)


def make_sheet():
    anchor, same, other = make_image(1, path=LONG), make_image(2), make_image(3, "dog", size=90)
    return ContactSheet([SheetRow(anchor, [same, other], [0.75, 0.5])] * 2, "image", "nearest")


class SheetRowTest(absltest.TestCase):
    def test_frames(self):
        (row, _) = make_sheet().rows
        self.assertEqual(
            [(image.index, cosine, frame) for image, cosine, frame in row.cells()],
            [(1, None, None), (2, 0.75, palette.SAME), (3, 0.5, palette.OTHER)],
        )
        unknown = SheetRow(make_image(1, None), [make_image(2, None)])
        self.assertEqual([cell[1:] for cell in unknown.cells()], [(None, None)] * 2)


class ContactSheetTest(absltest.TestCase):
    def test_figure(self):
        figure = make_sheet().draw()
        shown = [axes for axes in figure.axes if axes.images]
        pixels = [int(np.asarray(axes.images[0].get_array())[0, 0, 0]) for axes in shown]
        self.assertEqual(pixels, [1, 2, 3] * 2)
        self.assertEqual(
            [axes.get_title() for axes in shown[:3]], ["image", "nearest 1", "nearest 2"]
        )
        self.assertEqual(shown[1].get_xlabel(), "#2, cat\n0.750")
        self.assertFalse(shown[0].spines["left"].get_visible())
        self.assertTrue(shown[1].spines["left"].get_visible())

    def test_page_says_whole_names_when_pointed_at(self):
        page = PageReader(make_sheet().to_html("what it is"))
        cells = [attrs for tag, attrs in page.elements if attrs.get("class") == "cell"]
        self.assertLen(cells, 6)
        self.assertEqual(cells[0]["title"], f"image\n#1, cat\n{LONG}")
        self.assertEqual(cells[2]["title"], "nearest 2: 0.500\n#3, dog")
        kinds = [value.partition(";")[0] for tag, name, value in page.references if tag == "img"]
        self.assertEqual(kinds, ["data:image/png", "data:image/png", "data:image/jpeg"] * 2)
        frames = [a.get("style") for _, a in page.elements if a.get("class") == "frame"]
        self.assertEqual(
            frames[:3], [None, f"border-color:{palette.SAME}", f"border-color:{palette.OTHER}"]
        )
        self.assertTrue(page.text.endswith("what it is"))


if __name__ == "__main__":
    absltest.main()
