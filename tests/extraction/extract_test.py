import json
import os
import shutil
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image

from csml_tf import features
from csml_tf.errors import InputError
from csml_tf.evaluation import frozen_encoder
from csml_tf.export import saved_model
from csml_tf.extraction import extract, files
from tests.data.sources import image_files
from tests.training import tiny_run

NUM_FILES = 13
BAD = ["003.png", "004.png", "012.png"]
CARD = {"id": "tiny", "image_size": 16, "resize_size": 16}


class ExtractTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tiny_run.make_temp_dir(cls.addClassCleanup)
        tf.keras.utils.set_random_seed(0)
        cls.models = {name: folder / name for name in ("model", "other")}
        for model in cls.models.values():
            saved_model.export(tiny_run.make_encoder(), model, (0.5,) * 3, (0.2,) * 3, CARD)
        cls.encoder = frozen_encoder.FrozenEncoder(cls.models["model"])
        cls.images = folder / "images"
        # Of the size of the view: the reference needs no resizing.
        for i in range(NUM_FILES):
            content = image_files.encode(image_files.noise(i, 16, 16), "PNG")
            image_files.write(content, cls.images, f"{i:03d}.png")
        for name in BAD:
            (cls.images / name).write_bytes(b"no image")
        cls.good = sorted({*os.listdir(cls.images)} - {*BAD})
        keras_model = tf.keras.models.load_model(cls.models["model"], compile=False)
        pixels = [np.asarray(Image.open(cls.images / name)) / np.float32(255) for name in cls.good]
        cls.expected = keras_model(np.stack(pixels)).numpy()

    def setUp(self):
        super().setUp()
        self.folder = tiny_run.make_temp_dir(self.addCleanup)
        self.output = self.folder / "features.npz"
        self.parts = self.folder / "features.npz.parts"

    def extract(self, output=None, encoder=None, images=None, **options):
        options = {"batch_size": 2, "part_images": 4, **options}
        return extract.run(
            encoder or self.encoder, images or self.images, output or self.output, **options
        )

    def test_bfloat16_is_said_in_the_card_and_near(self):
        self.extract(precision="bfloat16")
        rows = files.NpzFile().read(self.output)
        self.assertEqual(files.NpzFile().read_card(self.output)["precision"], "bfloat16")
        apart = np.abs(rows.features - self.expected).max() / np.abs(self.expected).max()
        self.assertBetween(apart, 1e-5, 0.03)
        with self.assertRaisesRegex(InputError, "computed in other numbers .*bfloat16 there"):
            self.extract()

    def test_older_cards_are_of_float32(self):
        self.extract()
        card = files.NpzFile().read_card(self.output)
        self.assertEqual(card.pop("precision"), "float32")
        with mock.patch.object(files.NpzFile, "read_card", lambda self, path: card):
            self.assertIn("is there already", self.extract())
            with self.assertRaisesRegex(InputError, "float32 there and bfloat16 here"):
                self.extract(precision="bfloat16")

    def check(self, rows):
        self.assertEqual(rows.paths.tolist(), self.good)
        self.assertEqual(rows.bad_paths.tolist(), BAD)
        self.assertAllClose(rows.features, self.expected, rtol=1e-4, atol=1e-5)

    # A part ends with a batch or within it, and has no image, one, or more than there are.
    @parameterized.parameters((1, 1), (1, 4), (3, 4), (64, 4), (2, 13), (64, 100))
    def test_one_file(self, batch_size, part_images):
        self.extract(batch_size=batch_size, part_images=part_images)
        self.check(files.NpzFile().read(self.output))
        self.assertEqual(os.listdir(self.folder), ["features.npz"])

    def test_parquet(self):
        try:
            parquet = files.ParquetFile()
        except InputError as error:
            self.skipTest(str(error))
        self.extract(self.folder / "features.parquet")
        self.check(parquet.read(self.folder / "features.parquet"))
        self.assertEqual(os.listdir(self.folder), ["features.parquet"])
        self.extract(self.folder / "parts", format_="parquet")
        self.assertLen([*(self.folder / "parts").glob("*.parquet")], 4)

    def test_says_what_it_did(self):
        with self.assertLogs("absl", "WARNING") as logs:
            line = self.extract()
        self.assertEqual(
            line,
            f"{self.output}: 10 features of 4 numbers (features of tiny, shorter side 16 px, "
            f"centre 16 px; folder:{self.images}); 3 files cannot be decoded: "
            "003.png, 004.png, 012.png",
        )
        named = [name for name in BAD if any(name in line for line in logs.output)]
        self.assertEqual(named, BAD)
        before = self.output.stat()
        self.assertEqual(self.extract(), line.replace(": 10", " is there already: 10", 1))
        self.assertEqual(self.output.stat().st_mtime_ns, before.st_mtime_ns)

    def test_folder_of_parts(self):
        output = self.folder / "features"
        self.extract(output)
        names = [f"part-{number:05d}-of-00004.npz" for number in range(4)]
        self.assertEqual(sorted(os.listdir(output)), ["extraction.json", *names])
        parts = [files.NpzFile().read(output / name) for name in names]
        self.assertEqual([len(part.paths) for part in parts], [3, 3, 4, 0])
        stacked = zip(*((part.paths, part.features, part.bad_paths) for part in parts))
        self.check(files.Rows(*(np.concatenate(arrays) for arrays in stacked)))
        card = json.loads((output / "extraction.json").read_text())
        self.assertEqual((card["model"], card["num_features"]), ("tiny", 10))
        self.assertEqual(card["bad_paths"], BAD)

    @parameterized.parameters("embedding", "stage2")
    def test_layers(self, layer):
        self.extract(layer=layer)
        keras_model = saved_model.load(self.models["model"])
        images = np.stack(
            [np.asarray(Image.open(self.images / name)) / np.float32(255) for name in self.good]
        )
        if layer == "embedding":
            expected = keras_model.projection_head(keras_model(images))
        else:
            expected = saved_model.make_endpoints_model(keras_model)(images)[layer]
            expected = np.mean(expected, axis=(1, 2))
        self.assertAllClose(files.NpzFile().read(self.output).features, expected, rtol=1e-4)

    def stop_after(self, num_batches):
        """Runs an extraction that dies when it asks for another batch."""
        original = features.extract_readable

        def dying(*arguments, **options):
            for number, block in enumerate(original(*arguments, **options)):
                if number == num_batches:
                    raise KeyboardInterrupt
                yield block

        with (
            mock.patch.object(features, "extract_readable", dying),
            self.assertRaises(KeyboardInterrupt),
        ):
            self.extract()

    @parameterized.parameters(*range(5))
    def test_goes_on(self, num_batches):
        self.stop_after(num_batches)
        self.assertFalse(self.output.exists())
        finished = sorted(self.parts.glob("part-*"))
        times = [file.stat().st_mtime_ns for file in finished]
        starts = []
        original = features.extract_readable

        def watched(encode, source, view, batch_size, start):
            starts.append(start)
            return original(encode, source, view, batch_size, start)

        with (
            mock.patch.object(features, "extract_readable", watched),
            mock.patch.object(shutil, "rmtree"),
        ):
            self.extract()
        self.assertEqual(starts, [4 * len(finished)])
        self.assertEqual([file.stat().st_mtime_ns for file in finished], times)
        self.check(files.NpzFile().read(self.output))

    def test_rests_of_a_crash_do_not_matter(self):
        self.stop_after(3)
        (self.parts / "part-00001-of-00004.npz.tmp").write_bytes(b"half")
        self.extract()
        self.check(files.NpzFile().read(self.output))

    def test_refuses_parts_of_something_else(self):
        self.stop_after(3)
        others = self.folder / "others"
        image_files.write_pngs(others, 2)
        other = frozen_encoder.FrozenEncoder(self.models["other"])
        larger = frozen_encoder.FrozenEncoder(self.models["model"], image_size=32)
        for options, message in (
            ({"encoder": other}, "parts holds features of another model"),
            ({"encoder": larger}, "of images prepared otherwise .*centre 16 px there and .*32 px"),
            ({"images": others}, "of other images"),
            ({"layer": "embedding"}, "of another layer .layer is features there"),
            ({"part_images": 5}, "of parts of another size"),
        ):
            with self.assertRaisesRegex(InputError, message):
                self.extract(**options)
        self.extract()
        with self.assertRaisesRegex(InputError, "features.npz holds features of another model"):
            self.extract(encoder=other)
        self.check(files.NpzFile().read(self.output))

    def test_refuses_other_files(self):
        image_files.write_pngs(self.folder / "pictures", 1)
        with self.assertRaisesRegex(InputError, "holds other files"):
            self.extract(self.folder / "pictures")
        np.savez(self.output, a=1)
        with self.assertRaisesRegex(InputError, "holds features of another model"):
            self.extract()

    def test_damaged_part(self):
        self.extract(self.folder / "parts")
        path = self.folder / "parts" / "part-00001-of-00004.npz"
        path.write_bytes(path.read_bytes()[:50])
        with self.assertRaisesRegex(InputError, f"{path.name} is damaged: delete it, and repeat"):
            self.extract(self.folder / "parts")
        path.unlink()
        self.extract(self.folder / "parts")
        (self.folder / "parts" / "extraction.json").write_text("[]")
        with self.assertRaisesRegex(InputError, "extraction.json is damaged: delete the folder"):
            self.extract(self.folder / "parts")

    def test_refuses_a_folder_without_images(self):
        (self.folder / "empty").mkdir()
        with self.assertRaisesRegex(InputError, "No image in"):
            self.extract(images=self.folder / "empty")
        self.assertFalse(self.parts.exists())

    def test_refuses_a_folder_of_broken_files(self):
        for name in ("a.png", "b.jpg"):
            image_files.write(b"no image", self.folder, "broken", name)
        with self.assertRaisesRegex(InputError, "None of the 2 files .*: a.png, b.jpg"):
            self.extract(images=self.folder / "broken")
        self.assertFalse(self.parts.exists())

    def test_refuses_an_output_that_cannot_be(self):
        image_files.write_pngs(self.folder, 1)
        with self.assertRaisesRegex(InputError, "cannot be made .*--output"):
            self.extract(self.folder / "000.png" / "features.npz")

    def test_refuses_a_second_format(self):
        with self.assertRaisesRegex(InputError, "--format=parquet does not fit"):
            self.extract(format_="parquet")

    def test_refuses_empty_batches(self):
        for options in ({"batch_size": 0}, {"part_images": 0}):
            with self.assertRaisesRegex(InputError, "must be a whole number from 1"):
                self.extract(**options)

    def test_refuses_a_second_process(self):
        with (
            mock.patch.object(
                features, "extract_readable", lambda *arguments: self.extract() and iter([])
            ),
            self.assertRaisesRegex(InputError, "is in use by .*--output"),
        ):
            self.extract()

    def test_replicas_share_the_work(self):
        strategy = tf.distribute.MirroredStrategy(
            ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
        )
        with strategy.scope():
            encoder = frozen_encoder.FrozenEncoder(self.models["model"])
            self.extract(encoder=encoder, batch_size=3)
        self.check(files.NpzFile().read(self.output))


if __name__ == "__main__":
    tf.test.main()
