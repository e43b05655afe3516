"""Sizes that files of Pillow's say they have, and files that say too much."""

import io
import struct
import zlib
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image

from csml_tf.augment import geometric, image_kinds, image_size

SIZE = (300, 517)  # More than a byte holds.


def encode(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def make_image(mode="RGB", size=SIZE):
    pixels = np.random.default_rng(0).integers(0, 256, [*size, 3]).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def giant_png(side=20_000):
    """A file of 50 kB that says, and means, 400 million pixels."""

    def chunk(kind, content):
        text = kind + content
        return struct.pack(">I", len(content)) + text + struct.pack(">I", zlib.crc32(text))

    rows = zlib.compress(bytes(side * (side // 8 + 1)))
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def giant_gif(side=60_000):
    """A small canvas, and a frame of 3.6 billion pixels."""
    frame = b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x4c\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0x80, 0, 0) + bytes(6) + frame + b";"


def giant_jpeg(progressive):
    """A small file whose header says 65,000 x 65,000 px."""
    encoded = bytearray(encode(make_image("L", (16, 16)), "JPEG", progressive=progressive))
    place = encoded.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    encoded[place : place + 4] = struct.pack(">HH", 65_000, 65_000)
    return bytes(encoded)


class FindTest(parameterized.TestCase):
    @parameterized.parameters(
        ("JPEG", "RGB", {}),
        ("JPEG", "L", {"progressive": True}),
        ("JPEG", "CMYK", {"comment": b"\xff\xc0 is no frame", "exif": b"Exif\0\0" + bytes(9999)}),
        ("PNG", "RGB", {}),
        ("GIF", "P", {}),
        ("BMP", "RGB", {}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {"exif": b"Exif\0\0" + bytes(99)}),
    )
    def test_is_the_size(self, file_format, mode, options):
        encoded = encode(make_image(mode), file_format, **options)
        head = encoded if file_format == "JPEG" else encoded[: image_kinds.HEAD_BYTES]
        self.assertEqual(image_size.find(image_kinds.find_kind(head), head), SIZE)

    def test_bmp_from_the_top_downwards(self):
        encoded = bytearray(encode(make_image(), "BMP"))
        encoded[22:26] = struct.pack("<i", -SIZE[0])
        self.assertEqual(image_size.find("BMP", bytes(encoded)), SIZE)

    @parameterized.parameters("JPEG", "PNG", "GIF", "BMP", "WebP", "TIFF", None)
    def test_nothing_is_found_in_nothing(self, kind):
        self.assertIsNone(image_size.find(kind, b""))
        self.assertFalse(image_size.is_too_large(kind, b""))

    @parameterized.parameters(
        ("PNG", {}, True), ("JPEG", {}, False), ("JPEG", {"progressive": True}, True)
    )
    def test_bound(self, kind, options, counts):
        encoded = encode(make_image(), kind, **options)
        for spare, is_too_large in ((0, False), (-1, counts)):
            with mock.patch.object(image_size, "MAX_PIXELS", SIZE[0] * SIZE[1] + spare):
                self.assertEqual(image_size.is_too_large(kind, encoded), is_too_large)


class GiantTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("png", giant_png(), "more than 134217728 pixels"),
        ("gif", giant_gif(), ""),
        ("progressive_jpeg", giant_jpeg(True), "more than 134217728 pixels"),
    )
    def test_is_not_decoded(self, encoded, message):
        dataset = tf.data.Dataset.from_tensors(encoded).map(geometric.decode_image)
        for decode in (lambda: geometric.decode_image(encoded), lambda: next(iter(dataset))):
            with self.assertRaisesRegex(tf.errors.InvalidArgumentError, message):
                decode()
        with self.assertRaises(tf.errors.InvalidArgumentError):
            windows = tf.constant([[0, 0, 9, 9]])
            geometric.decode_crops(encoded, lambda height, width: windows, [9], [None])

    @parameterized.parameters("PNG", "GIF", "BMP", "WEBP", "TIFF")
    def test_every_kind_has_the_bound(self, kind):
        encoded = encode(make_image("P" if kind == "GIF" else "RGB"), kind)
        self.assertEqual(geometric.decode_image(encoded).shape, [*SIZE, 3])
        with (
            mock.patch.object(image_size, "MAX_PIXELS", SIZE[0] * SIZE[1] - 1),
            self.assertRaises(tf.errors.InvalidArgumentError),
        ):
            geometric.decode_image(encoded)

    def test_is_described(self):
        self.assertIn(
            "(20000 x 20000 px, too large for the memory: save a smaller copy",
            image_kinds.describe_missing(giant_png()[:32]),
        )
        self.assertEqual(image_kinds.describe_missing(giant_jpeg(False)), "")


class FirstFrameTest(tf.test.TestCase):
    def test_is_that_of_the_animation(self):
        frames = [make_image("P", (20, 30)).rotate(90 * i) for i in range(5)]
        encoded = encode(
            frames[0], "GIF", save_all=True, append_images=frames[1:], loop=0, comment=b"five"
        )
        cut = image_size.first_frame(encoded)
        self.assertLess(len(cut), len(encoded) / 3)
        with Image.open(io.BytesIO(cut)) as image:
            self.assertEqual(image.n_frames, 1)
        with Image.open(io.BytesIO(encoded)) as image:
            self.assertAllEqual(geometric.decode_image(encoded), np.asarray(image.convert("RGB")))

    def test_broken_ones_are_left_as_they_are(self):
        encoded = encode(make_image("P"), "GIF")
        for part in (b"", encoded[:9], encoded[:40], encoded[:-300], b"GIF89a" + bytes(99)):
            self.assertEqual(image_size.first_frame(part), part)


if __name__ == "__main__":
    tf.test.main()
