"""Each kind of image file in a folder, and the line about those that cannot be read."""

import os
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image

from csml_tf.augment import image_kinds
from csml_tf.data import catalog
from csml_tf.data.sources import folder, tfds, unchecked_folder
from csml_tf.errors import InputError
from tests.data.sources import image_files

RGB = image_files.noise(1)
TURNED = Image.Exif()
TURNED[0x0112] = 6
CONTENTS = {
    "a.jpe": image_files.encode(RGB, "JPEG"),
    "b.jfif": image_files.encode(RGB, "JPEG"),
    "c.webp": image_files.encode(RGB, "WEBP", lossless=True),
    "d.TIF": image_files.encode(RGB, "TIFF"),
    "e.tiff": image_files.encode(RGB, "TIFF", compression="tiff_lzw"),
    "f": image_files.encode(RGB, "PNG"),
    "g.photo": image_files.encode(RGB, "WEBP", lossless=True),
    "h.jpg": image_files.encode(RGB, "WEBP", lossless=True),
    "i.dib": image_files.encode(RGB, "BMP"),
}
FOREIGN = ("c.webp", "d.TIF", "e.tiff", "g.photo")


class FolderKindsTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.dir = image_files.make_temp_dir(self.addCleanup)
        cache = image_files.make_temp_dir(self.addCleanup)
        self.enter_context(mock.patch.dict(os.environ, CSML_TF_HOME=cache))

    def open(self, options=""):
        opened = catalog.open_dataset(f"folder{options}:{self.dir}")
        return opened, opened.split("pretrain")

    @parameterized.parameters(0, 2**30)
    def test_judged_by_content(self, max_decoded_bytes):
        self.enter_context(mock.patch.object(folder, "MAX_DECODED_BYTES", max_decoded_bytes))
        for name, content in CONTENTS.items():
            image_files.write(content, self.dir, name)
        opened, source = self.open()
        self.assertEqual([os.path.basename(path) for path in source.paths], sorted(CONTENTS))
        for i, path in enumerate(source.paths):
            self.assertAllClose(source.read(i), image_files.pillow_rgb(path), atol=1, msg=path)
        self.assertLen(opened.notes, 1)

    def test_without_pillow_they_are_left_out_and_said(self):
        for name, content in CONTENTS.items():
            if name != "h.jpg":
                image_files.write(content, self.dir, name)
        for i in range(3):
            image_files.write(b"ftyp", self.dir, f"{i}.heic")
        own = {"JPEG", "PNG", "GIF", "BMP"}
        with mock.patch.object(image_kinds, "can_decode", own.__contains__):
            opened, source = self.open()
        self.assertLen(source, len(CONTENTS) - 1 - len(FOREIGN))
        self.assertRegex(
            opened.notes[-1],
            r"7 files left out: 3 .heic \(readable after `pip install pillow-heif`\), "
            r"1 .photo \(readable after `pip install pillow`\), 1 .tif .*, 1 .tiff .*, 1 .webp",
        )

    def test_without_pillow_a_wrong_name_is_explained(self):
        for name in ("1.jpg", "2.jpg"):
            image_files.write(CONTENTS["h.jpg"], self.dir, name)
        own = {"JPEG", "PNG", "GIF", "BMP"}
        with (
            mock.patch.object(image_kinds, "can_decode", own.__contains__),
            self.assertRaisesRegex(
                InputError, r"2.jpg \(WebP, readable after `pip install pillow`"
            ),
        ):
            self.open()
        with (
            mock.patch.object(image_kinds, "can_decode", own.__contains__),
            self.assertRaisesRegex(
                InputError, r"no readable image \(WebP, readable after .*\): give"
            ),
        ):
            catalog.open_images(f"{self.dir}/1.jpg")

    def test_one_class_of_another_kind_is_a_class(self):
        image_files.write_pngs(os.path.join(self.dir, "ant"), 2)
        for name in ("0.webp", "1.webp"):
            image_files.write(CONTENTS["c.webp"], self.dir, "bee", name)
        _, source = self.open()
        self.assertAllEqual(source.labels, [0, 0, 1, 1])

    def test_raw_files_of_cameras_are_no_images(self):
        for name in ("0.NEF", "1.dng", "2.tif"):
            image_files.write(CONTENTS["d.TIF"], self.dir, name)
        opened, source = self.open()
        self.assertLen(source, 1)
        self.assertRegex(opened.notes[-1], r"2 files left out: 1 .dng, 1 .nef \(")

    @parameterized.parameters("JPEG", "WEBP")
    def test_exif(self, file_format):
        pixels = np.repeat(np.repeat(image_files.noise(0, 4, 6), 8, axis=0), 8, axis=1)
        options = (
            {"lossless": True} if file_format == "WEBP" else {"quality": 100, "subsampling": 0}
        )
        content = image_files.encode(pixels, file_format, exif=TURNED, **options)
        image_files.write(content, self.dir, "a.jpg")
        upright = np.rot90(pixels, -1)
        for source in (self.open()[1], unchecked_folder.UncheckedFolder(self.dir)):
            self.assertAllClose(source.read(0), upright, atol=8)
        if file_format == "JPEG":
            for source, turned in (
                (self.open("+no_exif")[1], self.open()[1]),
                (
                    unchecked_folder.UncheckedFolder(f"folder+no_exif:{self.dir}"),
                    unchecked_folder.UncheckedFolder(self.dir),
                ),
            ):
                self.assertAllClose(source.read(0), pixels, atol=8)
                self.assertNotEqual(source.fingerprint, turned.fingerprint)

    def test_16_bits(self):
        pixels = np.linspace(0, 4095, 120).astype(np.uint16).reshape(12, 10)
        image_files.write(image_files.encode(pixels, "PNG"), self.dir, "a.png")
        image_files.write(image_files.encode(pixels, "TIFF"), self.dir, "b.tif")
        _, source = self.open()
        for i in range(2):
            self.assertAllEqual(source.read(i)[..., 0], pixels >> 4)


class TfdsKindsTest(tf.test.TestCase):
    def test_a_kind_that_cannot_be_decoded_is_a_sentence(self):
        files = tf.constant([b"\0\0\0\x0cjP  \r\n\x87\n: JPEG 2000"])
        with self.assertRaisesRegex(InputError, "photos:train has images of a kind that cannot"):
            tfds._check_kinds("photos:train", files)
        with (
            mock.patch.object(image_kinds, "can_decode", return_value=False),
            self.assertRaisesRegex(InputError, r"here \(WebP\): readable after `pip install"),
        ):
            tfds._check_kinds("photos:train", tf.constant([CONTENTS["c.webp"]]))
        tfds._check_kinds("photos:train", tf.constant([CONTENTS["c.webp"]] * 200))
        # A broken one among them is told, and counted, when it is read.
        tfds._check_kinds("photos:train", tf.constant([b"", CONTENTS["c.webp"], CONTENTS["f"]]))


if __name__ == "__main__":
    tf.test.main()
