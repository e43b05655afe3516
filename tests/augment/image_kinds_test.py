import io
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image, features

from csml_tf.augment import geometric, image_kinds

PIXELS = np.random.default_rng(0).integers(0, 256, [12, 10, 3]).astype(np.uint8)
FORMATS = ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"]
FORMATS += ["AVIF"] if "avif" in features.modules and features.check("avif") else []


def encode(image, file_format, **options):
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


class ImageKindsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(FORMATS)
    def test_kind(self, file_format):
        kind = image_kinds.find_kind(encode(PIXELS, file_format)[: image_kinds.HEAD_BYTES])
        self.assertEqual(kind.upper(), file_format)
        self.assertTrue(image_kinds.can_decode(kind))

    @parameterized.parameters(
        b"", b"no image", b"BM is no picture, but a text", b"RIFF\0\0\0\0WAVE"
    )
    def test_no_kind(self, head):
        self.assertIsNone(image_kinds.find_kind(head))
        self.assertFalse(image_kinds.can_decode(None))

    def test_phones_kinds(self):
        head = b"\0\0\0\x18ftyp%s\0\0\0\0mif1%s"
        self.assertEqual(image_kinds.find_kind(head % (b"heic", b"heic")), "HEIC")
        self.assertEqual(image_kinds.find_kind(head % (b"mif1", b"avif")), "AVIF")
        self.assertIsNone(image_kinds.find_kind(b"\0\0\0\x18ftypmp42\0\0\0\0isom"))

    @parameterized.product(mode=["RGB", "L", "RGBA"], file_format=["WEBP", "TIFF"])
    def test_is_pillows_image(self, mode, file_format):
        options = {"lossless": True} if file_format == "WEBP" else {}
        encoded = encode(Image.fromarray(PIXELS).convert(mode), file_format, **options)
        expected = Image.fromarray(PIXELS).convert(mode).convert("RGB")
        self.assertAllEqual(geometric.decode_image(encoded), np.asarray(expected))
        dataset = tf.data.Dataset.from_tensors(encoded).map(geometric.decode_image)
        self.assertAllEqual(next(iter(dataset)), np.asarray(expected))

    def test_turned_as_exif_says(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        encoded = encode(PIXELS, "WEBP", lossless=True, exif=exif)
        self.assertAllEqual(geometric.decode_image(encoded), np.rot90(PIXELS, -1))

    @parameterized.parameters("WEBP", "TIFF")
    def test_broken_or_without_pillow_is_an_error(self, file_format):
        encoded = encode(PIXELS, file_format)
        with self.assertRaises(tf.errors.InvalidArgumentError):
            geometric.decode_image(encoded[:40])
        with mock.patch.object(image_kinds, "can_decode", return_value=False):
            with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "cannot be decoded here"):
                geometric.decode_image(encoded)
            dataset = tf.data.Dataset.from_tensors(encoded).map(geometric.decode_image)
            self.assertEmpty(list(dataset.ignore_errors()))

    @parameterized.parameters(
        (65535, 8), (32768, 8), (32767, 7), (4095, 4), (1000, 2), (256, 1), (255, 0), (0, 0)
    )
    def test_16_bits_keep_the_upper_8_of_those_in_use(self, largest, shift):
        pixels = np.linspace(0, largest, 120).astype(np.uint16).reshape(12, 10)
        expected = np.repeat((pixels >> shift)[..., np.newaxis], 3, axis=-1)
        for encoded in (
            tf.io.encode_png(pixels[..., np.newaxis]).numpy(),
            encode(pixels, "PNG"),
            encode(pixels, "TIFF"),
        ):
            self.assertAllEqual(geometric.decode_image(encoded), expected)

    @parameterized.parameters("1", "L", "P", "RGB", "RGBA")
    def test_bmp_of_any_depth(self, mode):
        image = Image.fromarray(PIXELS).convert(mode)
        expected = np.asarray(image.convert("RGB"))
        self.assertAllEqual(geometric.decode_image(encode(image, "BMP")), expected)

    def test_floats_are_scaled_by_their_range(self):
        pixels = np.linspace(-3, 7, 120, dtype=np.float32).reshape(12, 10)
        actual = geometric.decode_image(encode(pixels, "TIFF")).numpy()[..., 0]
        self.assertAllClose(actual, (pixels + 3) * 25.5, atol=1)


class GiantJpegTest(tf.test.TestCase):
    def test_is_decoded_smaller(self):
        encoded = encode(Image.fromarray(PIXELS).resize((160, 96)), "JPEG")
        for max_pixels, size in ((160 * 96, 1), (160 * 96 - 1, 2), (2000, 4), (1, 8)):
            with mock.patch.object(geometric, "_MAX_PIXELS", max_pixels):
                shape = geometric.decode_image(encoded).shape
                self.assertEqual(shape, [96 // size, 160 // size, 3])

    def test_crops_of_one(self):
        encoded = encode(Image.fromarray(PIXELS).resize((160, 96)), "JPEG")

        def cut():
            windows = tf.constant([[8, 16, 64, 64]])
            return geometric.decode_crops(encoded, lambda h, w: windows, [64], [None])[0]

        whole = np.float32(cut())
        with mock.patch.object(geometric, "_MAX_PIXELS", 160 * 96 - 1):
            smaller = np.float32(cut())
        self.assertGreater(np.abs(whole - smaller).max(), 0)
        self.assertLess(np.abs(whole - smaller).mean(), 3)

    def test_beyond_tensorflows_limit(self):
        """A panorama that TensorFlow refuses to decode: 2^29 values and more."""
        encoded = encode(Image.new("L", (60000, 3000), 7), "JPEG")
        self.assertEqual(geometric.decode_image(encoded).shape, [1500, 30000, 3])


if __name__ == "__main__":
    tf.test.main()
