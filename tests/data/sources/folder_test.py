import os
import re
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image

from csml_tf.augment import image_size
from csml_tf.data.sources import broken_images, file_scan, folder, unchecked_folder
from csml_tf.errors import InputError
from tests.augment import image_size_test
from tests.data.sources import image_files

RGB_JPEG = image_files.encode(image_files.noise(0, 40, 30), "JPEG")
PNG = image_files.encode(image_files.noise(0), "PNG")
BAD_FILES = {
    "empty": b"",
    "text": b"This is no image.",
    "truncated_jpeg": RGB_JPEG[: len(RGB_JPEG) // 2],
    "jpeg_without_end": RGB_JPEG[:-2],
    "truncated_png": PNG[:-20],
    "webp": b"RIFF\x10\0\0\0WEBPVP8 ",
}
# A second frame begins in the middle of the first: the upper part can still be decoded.
LARGE_JPEG = image_files.encode(image_files.noise(0, 160, 120), "JPEG")
BROKEN_BELOW = b"\xff\xc0".join([LARGE_JPEG[:-9000], LARGE_JPEG[-9000:]])
# Whole for the scan, which reads its two ends, and unreadable for the decoder.
BROKEN_INSIDE = RGB_JPEG[:4] + bytes(600) + RGB_JPEG[604:]


class FolderSourceTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        cache = image_files.make_temp_dir(self.addCleanup)
        self.enter_context(mock.patch.dict(os.environ, CSML_TF_HOME=cache))
        self.dir = image_files.make_temp_dir(self.addCleanup)

    def test_a_path_that_is_no_utf8(self):
        path = os.path.join(self.dir, os.fsdecode(b"caf\xe9"))
        image_files.write_pngs(os.path.join(path, "ant"), 2)
        for source in (folder.FolderSource(path), unchecked_folder.UncheckedFolder(path)):
            self.assertAllEqual(source.read(1), image_files.noise(1))

    def test_classes_are_sorted_sub_folders(self):
        for name, count in {"wasp": 1, "ant": 2, "bee": 3}.items():
            image_files.write_pngs(os.path.join(self.dir, name), count)
        os.mkdir(os.path.join(self.dir, "empty"))
        source = folder.FolderSource(self.dir)
        self.assertEqual(source.class_names, ("ant", "bee", "wasp"))
        self.assertAllEqual(source.labels, [0, 0, 1, 1, 1, 2])
        parents = [os.path.basename(os.path.dirname(path)) for path in source.paths]
        self.assertEqual(parents, ["ant"] * 2 + ["bee"] * 3 + ["wasp"])

    def test_classes_hold_images_at_any_depth(self):
        image_files.write_pngs(os.path.join(self.dir, "ant", "2019", "may"), 2)
        image_files.write_pngs(os.path.join(self.dir, "bee"), 1)
        self.assertAllEqual(folder.FolderSource(self.dir).labels, [0, 0, 1])

    def test_loose_images_mean_no_labels(self):
        image_files.write_pngs(self.dir, 2)
        image_files.write_pngs(os.path.join(self.dir, "more"), 3)
        source = folder.FolderSource(self.dir)
        self.assertLen(source, 5)
        self.assertIsNone(source.labels)
        self.assertIsNone(source.class_names)

    def test_fingerprint_is_of_names_and_files(self):
        image_files.write_pngs(self.dir, 4)
        prints = [folder.FolderSource(self.dir).fingerprint]
        first, last = (os.path.join(self.dir, name) for name in ("000.png", "003.png"))
        os.utime(first, (1e9, 1e9))  # A copy of the data has other times.
        self.assertEqual(folder.FolderSource(self.dir).fingerprint, prints[0])
        for change in (
            lambda: os.rename(last, os.path.join(self.dir, "004.png")),
            lambda: image_files.write(PNG, self.dir, "005.png"),
            lambda: os.remove(first),
            lambda: image_files.write(PNG + b"tail", self.dir, "005.png"),
        ):
            change()
            prints.append(folder.FolderSource(self.dir).fingerprint)
        self.assertLen({*prints}, 5)

    def test_given_classes_number_the_labels(self):
        image_files.write_pngs(os.path.join(self.dir, "bee"), 2)
        source = folder.FolderSource(self.dir, class_names=["ant", "bee"])
        self.assertAllEqual(source.labels, [1, 1])
        self.assertEqual(source.class_names, ("ant", "bee"))
        with self.assertRaisesRegex(InputError, "not among the training classes: bee"):
            folder.FolderSource(self.dir, class_names=["ant"])

    def test_hidden_and_other_files_are_left_out(self):
        image_files.write_pngs(self.dir, 1)
        image_files.write(b"", self.dir, "._000.png")
        image_files.write(b"", self.dir, ".cache", "a.png")
        image_files.write(b"", self.dir, "notes.txt")
        self.assertLen(folder.FolderSource(self.dir), 1)

    def test_follows_links_but_not_in_circles(self):
        elsewhere = image_files.make_temp_dir(self.addCleanup)
        image_files.write_pngs(elsewhere, 2)
        os.symlink(elsewhere, os.path.join(self.dir, "ant"))
        os.symlink(self.dir, os.path.join(self.dir, "loop"))
        self.assertAllEqual(folder.FolderSource(self.dir).labels, [0, 0])

    def test_any_kind_of_file(self):
        rgb = Image.fromarray(image_files.noise(1))
        grey16 = np.arange(120, dtype=np.uint16).reshape(12, 10) * 500
        contents = {
            "a.JPG": image_files.encode(rgb, "JPEG"),
            "b.jpeg": image_files.encode(rgb.convert("L"), "JPEG"),
            "c.jpg": image_files.encode(rgb.convert("CMYK"), "JPEG"),
            "d.png": image_files.encode(rgb.convert("RGBA"), "PNG"),
            "e.Gif": image_files.encode(rgb.convert("P"), "GIF"),
            "f.bmp": image_files.encode(rgb, "BMP"),
            "g.jpg": image_files.encode(rgb, "PNG"),
            "h.png": image_files.encode(grey16, "PNG"),
        }
        for name, content in contents.items():
            image_files.write(content, self.dir, name)
        source = folder.FolderSource(self.dir)
        self.assertLen(source, len(contents))
        for i, path in enumerate(source.paths[:-1]):
            self.assertAllClose(source.read(i), image_files.pillow_rgb(path), atol=1, msg=path)
        expected = np.repeat((grey16 // 256)[..., None], 3, axis=-1)
        self.assertAllClose(source.read(len(contents) - 1), expected, atol=1)

    def test_bytes_after_the_end_do_no_harm(self):
        image_files.write(RGB_JPEG + bytes(5000), self.dir, "motion_photo.jpg")
        self.assertLen(folder.FolderSource(self.dir), 1)

    @parameterized.product(kind=list(BAD_FILES), max_decoded_bytes=[0, 2**30])
    def test_skips_and_names_bad_files(self, kind, max_decoded_bytes):
        self.enter_context(mock.patch.object(folder, "MAX_DECODED_BYTES", max_decoded_bytes))
        image_files.write_pngs(os.path.join(self.dir, "ant"), 60)
        image_files.write_pngs(os.path.join(self.dir, "bee"), 60, seed=60)
        image_files.write(BAD_FILES[kind], self.dir, "ant", "050_bad.jpg")
        with self.assertLogs("absl", "WARNING") as logs:
            source = folder.FolderSource(self.dir)
        self.assertRegex(logs.output[0], "Skipped 1 of 121 files .* ant/050_bad.jpg")
        self.assertAllEqual(source.labels, [0] * 60 + [1] * 60)
        self.assertAllEqual(source.read(51), image_files.noise(51))

    def test_too_many_bad_files(self):
        image_files.write_pngs(self.dir, 100)
        for i in range(12):
            image_files.write(b"", self.dir, f"{i:03d}_bad.jpg")
        with self.assertRaisesRegex(InputError, "12 of 112 .* 009_bad.jpg and 2 more, listed"):
            folder.FolderSource(self.dir)

    def test_one_may_be_bad_and_two_of_ten_are_too_many(self):
        image_files.write_pngs(self.dir, 8)
        image_files.write(b"", self.dir, "bad.jpg")
        self.assertLen(folder.FolderSource(self.dir), 8)
        image_files.write(b"", self.dir, "bad2.jpg")
        with self.assertRaisesRegex(InputError, "2 of 10 files .* bad.jpg, bad2.jpg;"):
            folder.FolderSource(self.dir)

    def test_nothing_but_a_bad_file(self):
        image_files.write(b"", self.dir, "bad.jpg")
        with self.assertRaisesRegex(InputError, "1 of 1 files"):
            folder.FolderSource(self.dir)

    def test_a_long_list_of_bad_files_is_whole_in_a_file(self):
        image_files.write_pngs(self.dir, 20)
        names = [f"{i:03d}_bad.jpg" for i in range(12)]
        for name in names:
            image_files.write(b"", self.dir, name)
        with self.assertRaisesRegex(InputError, "and 2 more, listed in (.*txt);") as raised:
            folder.FolderSource(self.dir)
        (path,) = re.findall(r"listed in (\S+txt)", str(raised.exception))
        with open(path) as file:
            self.assertEqual(file.read().splitlines(), names)

    def test_small_folders_are_decoded_when_opened(self):
        image_files.write_pngs(self.dir, 100)
        image_files.write(BROKEN_INSIDE, self.dir, "050_bad.jpg")
        with self.assertLogs("absl", "WARNING") as logs:
            source = folder.FolderSource(self.dir)
        self.assertRegex(logs.output[0], "Skipped 1 of 101 files .* 050_bad.jpg")
        self.assertAllEqual(source.read(51), image_files.noise(51))

    @mock.patch.object(folder, "MAX_DECODED_BYTES", 0)
    def test_replaces_what_cannot_be_decoded_by_the_next_image(self):
        image_files.write_pngs(self.dir, 100)
        image_files.write(BROKEN_INSIDE, self.dir, "999.jpg")
        source = folder.FolderSource(self.dir)
        self.assertLen(source, 101)
        dataset = tf.data.Dataset.from_tensor_slices(np.array([99, 100, 100, 1]))
        with self.assertLogs("absl", "WARNING") as logs:
            images = list(dataset.map(source.read, num_parallel_calls=2))
        self.assertLen(logs.output, 1)
        self.assertRegex(logs.output[0], "999.jpg cannot be decoded.*1 of 101 files")
        for image, expected in zip(images, [99, 0, 0, 1]):
            self.assertAllEqual(image, image_files.noise(expected))

    @mock.patch.object(folder, "MAX_DECODED_BYTES", 0)
    def test_replaces_broken_files_in_a_row(self):
        image_files.write_pngs(self.dir, 200)
        for name in ("900.jpg", "901.jpg"):
            image_files.write(BROKEN_INSIDE, self.dir, name)
        source = folder.FolderSource(self.dir)
        with self.assertLogs("absl", "WARNING") as logs:
            for _ in range(2):
                self.assertAllEqual(source.read(200), image_files.noise(0))
        self.assertLen(logs.output, 2)
        self.assertRegex(logs.output[1], "901.jpg cannot be decoded.*2 of 202 files")

    @mock.patch.object(folder, "MAX_DECODED_BYTES", 0)
    def test_looks_once_for_a_stand_in(self):
        image_files.write_pngs(self.dir, 100)
        image_files.write(BROKEN_INSIDE, self.dir, "999.jpg")
        source = folder.FolderSource(self.dir)
        self.assertAllEqual(source.read(100), image_files.noise(0))
        with mock.patch.object(broken_images.StandIns, "_check", side_effect=AssertionError):
            self.assertAllEqual(source.read(100), image_files.noise(0))

    @mock.patch.object(folder, "MAX_DECODED_BYTES", 0)
    def test_a_file_is_broken_for_decoders_of_its_good_part_too(self):
        image_files.write_pngs(self.dir, 100)
        image_files.write(BROKEN_BELOW, self.dir, "999.jpg")
        source = folder.FolderSource(self.dir)

        def decode_top(encoded):
            return tf.cond(
                tf.io.is_jpeg(encoded),
                lambda: tf.io.decode_and_crop_jpeg(encoded, [0, 0, 8, 8], channels=3),
                lambda: tf.io.decode_png(encoded, channels=3)[:8, :8],
            )

        self.assertEqual(decode_top(BROKEN_BELOW).shape, [8, 8, 3])
        with self.assertLogs("absl", "WARNING"):
            self.assertAllEqual(source.read_with(100, decode_top), image_files.noise(0)[:8, :8])

    @mock.patch.object(folder, "MAX_DECODED_BYTES", 0)
    def test_a_decoder_that_fails_says_so(self):
        image_files.write_pngs(self.dir, 2)
        source = folder.FolderSource(self.dir)
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "not mine"):
            source.read_with(0, lambda encoded: tf.debugging.Assert(False, ["not mine"]))

    @parameterized.parameters("GIF", "BMP", "PNG", "JPEG")
    @mock.patch.object(folder, "MAX_DECODED_BYTES", 0)
    def test_big_folders_hold_any_kind(self, kind):
        image = Image.fromarray(image_files.noise(0)).convert("P" if kind == "GIF" else "RGB")
        path = image_files.write(image_files.encode(image, kind), self.dir, "a.jpg")
        with mock.patch.object(folder.logging, "warning") as warning:
            actual = folder.FolderSource(self.dir).read(0)
        warning.assert_not_called()
        self.assertAllClose(actual, image_files.pillow_rgb(path), atol=1)

    @mock.patch.object(folder, "MAX_DECODED_BYTES", 0)
    def test_too_many_that_cannot_be_decoded(self):
        image_files.write_pngs(self.dir, 20)
        for name in ("998.jpg", "999.jpg"):
            image_files.write(BROKEN_INSIDE, self.dir, name)
        source = folder.FolderSource(self.dir)
        dataset = tf.data.Dataset.from_tensors(20).map(source.read)
        with self.assertRaisesRegex(tf.errors.OpError, "2 of 22 files .* 998.jpg, 999.jpg"):
            next(iter(dataset))

    @parameterized.parameters(0, 2**30)
    def test_vanished_file_is_named(self, max_decoded_bytes):
        self.enter_context(mock.patch.object(folder, "MAX_DECODED_BYTES", max_decoded_bytes))
        image_files.write_pngs(self.dir, 3)
        source = folder.FolderSource(self.dir)
        os.remove(source.paths[1])
        with self.assertRaisesRegex(tf.errors.NotFoundError, "001.png"):
            source.read(1)

    @parameterized.parameters(0, 2**30)
    def test_giants_are_left_out_and_do_not_count_as_broken(self, max_decoded_bytes):
        self.enter_context(mock.patch.object(folder, "MAX_DECODED_BYTES", max_decoded_bytes))
        self.enter_context(mock.patch.object(image_size, "MAX_PIXELS", 999))
        image_files.write_pngs(os.path.join(self.dir, "ant"), 3)
        image_files.write_pngs(os.path.join(self.dir, "bee"), 3)
        for name in ("a.png", "b.bmp"):
            kind = name[-3:].upper()
            giant = image_files.encode(image_files.noise(0, 40, 25), kind)
            image_files.write(giant, self.dir, "ant", name)
        with self.assertLogs("absl", "WARNING") as logs:
            source = folder.FolderSource(self.dir)
        self.assertLen(logs.output, 1)
        self.assertRegex(
            source.notes[-1],
            "Left out 2 files in .*, of more than .* pixels each: ant/a.png, ant/b.bmp; save a",
        )
        self.assertAllEqual(source.labels, [0, 0, 0, 1, 1, 1])
        self.assertAllEqual(source.is_kept, [True] * 3 + [False] * 2 + [True] * 3)
        self.assertAllEqual(source.read(3), image_files.noise(0))
        for name in os.listdir(os.path.join(self.dir, "ant")):
            if name.startswith("0"):
                os.remove(os.path.join(self.dir, "ant", name))
        with self.assertRaisesRegex(InputError, "^No image is left of .*/ant: Left out 2 files"):
            folder.FolderSource(os.path.join(self.dir, "ant"))

    def test_progressive_giants_are_broken_for_their_size(self):
        for i in range(2):
            image_files.write(image_size_test.giant_jpeg(True), self.dir, f"{i}.jpg")
        with self.assertRaisesRegex(InputError, r"1.jpg \(65000 x 65000 px, too large for the me"):
            folder.FolderSource(self.dir)

    def test_what_is_no_file_keeps_nobody_waiting(self):
        """A pipe, a device, and a file larger than any decoder takes with no byte on the disk."""
        image_files.write_pngs(self.dir, 3)
        os.mkfifo(os.path.join(self.dir, "pipe.jpg"))
        with open(os.path.join(self.dir, "sparse.jpg"), "wb") as file:
            file.truncate(2**40)
        names = ["000.png", "pipe.jpg", "sparse.jpg", ".", "/dev/zero"]
        scan = file_scan.scan_files(self.dir, names)
        self.assertAllEqual(scan.is_good, [True, False, False, False, False])
        source = folder.FolderSource(self.dir)
        self.assertLen(source, 3)
        self.assertRegex("".join(source.notes), "1 no file .pipe.jpg.*Skipped 1 of 4 .*sparse.jpg")

    def test_videos(self):
        image_files.write(b"", self.dir, "my film.MP4")
        image_files.write(b"", self.dir, "b.mov")
        with self.assertRaisesRegex(
            InputError, "^No image in .*, but 2 videos, .* `ffmpeg -i b.mov -vf fps=1 [^.]*.jpg`"
        ):
            folder.FolderSource(self.dir)

    def test_no_image(self):
        image_files.write(b"", self.dir, "notes.txt")
        with self.assertRaisesRegex(InputError, "No image in .* .jpeg"):
            folder.FolderSource(self.dir)

    def test_a_file_in_place_of_a_folder(self):
        path = image_files.write(PNG, self.dir, "a.png")
        with self.assertRaisesRegex(InputError, "a.png is a file and no folder: .* csv:FILE"):
            folder.FolderSource(path)

    def test_no_folder(self):
        with self.assertRaisesRegex(InputError, "no folder .*nowhere"):
            folder.FolderSource(os.path.join(self.dir, "nowhere"))


if __name__ == "__main__":
    tf.test.main()
