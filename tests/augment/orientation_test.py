import io
import struct

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image, ImageOps

from csml_tf.augment import geometric, orientation, view

SMOOTH = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, [9, 12, 3]).astype(np.uint8)
).resize((403, 301), Image.BICUBIC)


def encode(image, number, **options):
    exif = Image.Exif()
    exif[0x010F] = "Maker of the camera"  # Another entry before it.
    exif[0x0112] = number
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif, quality=95, **options)
    return buffer.getvalue()


def upright(encoded):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB"))


def big_endian(encoded, number):
    """The same file with the EXIF of a camera that writes the large end first."""
    entries = struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, number, 0, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">I", 8) + entries
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 300) + bytes(300)
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif
    return encoded[:2] + comment + segment + encoded[2:]


class OrientationTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(range(1, 9))
    def test_is_found_and_obeyed_as_by_pillow(self, number):
        encoded = encode(SMOOTH, number)
        self.assertEqual(orientation.find(encoded), number)
        self.assertAllEqual(geometric.decode_image(encoded), upright(encoded))

    @parameterized.parameters(range(1, 9))
    def test_large_end_first_and_behind_a_comment(self, number):
        plain = io.BytesIO()
        SMOOTH.save(plain, "JPEG")
        encoded = big_endian(plain.getvalue(), number)
        self.assertEqual(orientation.find(encoded), number)
        self.assertAllEqual(geometric.decode_image(encoded), upright(encoded))

    @parameterized.parameters(0, 9, 300)
    def test_numbers_without_a_meaning(self, number):
        encoded = encode(SMOOTH, number)
        self.assertEqual(orientation.find(encoded), 1)
        self.assertEqual(geometric.decode_image(encoded).shape, [301, 403, 3])

    def test_cut_off_exif_is_none(self):
        encoded = encode(SMOOTH, 6)
        for end in range(2, 80, 7):
            self.assertIn(int(orientation.find(encoded[:end])), (1, 6))

    @parameterized.product(number=[*range(1, 9)], side=[24, 60, 150])
    def test_crops_are_those_of_the_upright_image(self, number, side):
        """To the last bit at full size; where the JPEG is decoded smaller, nearly."""
        encoded = encode(SMOOTH, number)
        image = upright(encoded)
        augmentation = view.ViewAugmentation(image_size=side, crop_scale=(0.3, 1.0))
        uniforms = tf.random.stateless_uniform([3, augmentation.num_uniforms], [number, side])
        actual = view.cut_views(encoded, [augmentation] * 3, tf.unstack(uniforms))
        expected = [augmentation.geometric(image, row) for row in uniforms]
        difference = np.abs(np.float32(actual) - np.float32(expected))
        if side == 150:
            self.assertAllEqual(actual, expected)
        self.assertLess(difference.mean(), 1.5)
        self.assertLess(difference.max(), 24)

    def test_inside_a_pipeline(self):
        files = [encode(SMOOTH, 6), encode(SMOOTH, 1)]
        dataset = tf.data.Dataset.from_tensor_slices(files).map(geometric.decode_image)
        self.assertEqual([image.shape for image in dataset], [(403, 301, 3), (301, 403, 3)])

    @parameterized.parameters(1, 6)
    def test_forgotten(self, number):
        encoded = encode(SMOOTH, number)
        stored = np.asarray(Image.open(io.BytesIO(encoded)))
        self.assertAllEqual(geometric.decode_image(orientation.forget(encoded)), stored)

    def test_nothing_to_forget(self):
        for encoded in (b"", b"no image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"):
            self.assertEqual(tf.constant(orientation.forget(encoded)), encoded)


if __name__ == "__main__":
    tf.test.main()
