import functools
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from csml_tf.augment import cutmix, resampling
from csml_tf.augment.center_view import CenterView
from csml_tf.augment.view import ViewAugmentation
from csml_tf.data import originals
from csml_tf.data.sources import folder, memory
from csml_tf.errors import InputError
from csml_tf.training import step_images
from tests.data.sources import image_files
from tests.training import tiny_run

STEPS = tiny_run.NUM_IMAGES // tiny_run.BATCH
PLAIN = {
    "jitter_probability": 0.0,
    "grayscale_probability": 0.0,
    "blur_probability": 0.0,
    "flip_probability": 0.0,
}
MOCO = {"query_kinds": ("image",), "positive_weights": (1.0, 0.0)}


def collect(source=None, checkpoints=None, step=0, num_anchors=8, **options):
    options = {"augmentation": ViewAugmentation(image_size=16, **PLAIN), **options}
    source = source or tiny_run.make_source()
    parts = tiny_run.make_parts(**options)
    return step_images.collect(source, CenterView(16), parts, checkpoints, step, num_anchors)


def note_mixing(noted):
    """Patches the model's CutMix so that each step's arguments and result end up in `noted`."""
    real = cutmix.cutmix

    def note(*arrays):
        noted.append(arrays)
        return arrays[-1]

    def cutmix_and_note(images, partners, boxes):
        mixed = real(images, partners, boxes)
        noted_mixed = tf.numpy_function(note, [images, partners, mixed], tf.float32)
        return tf.ensure_shape(noted_mixed, mixed.shape)

    return mock.patch.object(cutmix, "cutmix", cutmix_and_note)


class CollectTest(tf.test.TestCase):
    @pytest.mark.slow
    def test_is_what_the_run_trained_on(self):
        directory = tiny_run.make_temp_dir(self.addCleanup)
        augmentation = ViewAugmentation(image_size=16)
        trained = []
        with note_mixing(trained):
            tiny_run.run(directory, epochs=2, augmentation=augmentation, seed=3)
        self.assertLen(trained, 2 * STEPS)
        shown = collect(
            *(None, directory / "checkpoints", 1, tiny_run.BATCH),
            augmentation=augmentation,
            seed=3,
        )
        self.assertEqual(shown.describe(), "epoch 2, step 2 of 3; neighbors mined before epoch 1")
        queries, partners, mixed = (
            np.clip(images * augmentation.std + augmentation.mean, 0, 1)
            for images in trained[STEPS + 1]
        )
        anchors = shown.anchors
        self.assertAllClose([a.views["query"] for a in anchors], queries)
        self.assertAllClose([a.views["neighbor_query"] for a in anchors], partners)
        self.assertAllClose([a.mixed for a in anchors], mixed)
        # Where the two differ, the mixed image shows which of them it is.
        own = np.mean(mixed == queries)
        self.assertBetween(anchors[0].area_fraction, 0.0, own + 1e-6)

    def test_windows_are_where_the_views_look(self):
        source = tiny_run.make_source()
        for anchor in collect(source).anchors:
            for original in (anchor.anchor, anchor.neighbor):
                self.assertAllEqual(original.pixels, source.read(original.index))
                self.assertEqual(original.label, str(source.labels[original.index]))
                self.assertIsNone(original.path)
                for name, window in original.windows.items():
                    crop = resampling.crop_and_resize(original.pixels, window.astype(int), 16)
                    # Two ways to the same pixels, each rounded.
                    self.assertAllClose(anchor.views[name], crop / 255, atol=1.01 / 255)
            self.assertEqual([*anchor.anchor.windows], ["query", "key"])
            self.assertEqual([*anchor.neighbor.windows], ["neighbor_query", "neighbor_key"])
            self.assertNotEqual(anchor.anchor.index, anchor.neighbor.index)

    def test_pairs(self):
        make_model = functools.partial(tiny_run.make_model, pairs=True)
        shown = collect(make_model=make_model, num_anchors=3)
        self.assertLen(shown.anchors, 3)
        for anchor in shown.anchors:
            views = ["query", "key", "neighbor_query", "neighbor_key"]
            self.assertEqual([*anchor.views], views)
            self.assertEqual([*anchor.anchor.windows, *anchor.neighbor.windows], views)
            self.assertNotEqual(anchor.anchor.index, anchor.neighbor.index)
            for original in (anchor.anchor, anchor.neighbor):
                for name, window in original.windows.items():
                    crop = resampling.crop_and_resize(original.pixels, window.astype(int), 16)
                    self.assertAllClose(anchor.views[name], crop / 255, atol=1.01 / 255)
            of_neighbor = np.all(anchor.mixed != anchor.views["query"], axis=-1)
            self.assertAllClose(
                anchor.mixed[of_neighbor], anchor.views["neighbor_query"][of_neighbor]
            )

    def test_large_files(self):
        directory = tiny_run.make_temp_dir(self.addCleanup)
        for seed in range(4):
            pixels = image_files.noise(seed, height=30, width=3 * originals.MAX_ORIGINAL_PX)
            image_files.write(image_files.encode(pixels, "PNG"), directory, f"{seed}.png")
        source = folder.FolderSource(str(directory))
        shown = collect(source, global_batch_size=4)
        for anchor in shown.anchors:
            original = anchor.anchor
            self.assertEqual(original.pixels.shape, (10, originals.MAX_ORIGINAL_PX, 3))
            self.assertEqual(original.path, source.paths[original.index])
            self.assertIsNone(original.label)
            for top, left, height, width in original.windows.values():
                self.assertBetween(top + height, 0, 10 + 1e-6)
                self.assertBetween(left + width, 0, originals.MAX_ORIGINAL_PX + 1e-6)
        self.assertRegex(shown.describe(), "not mined yet, random images")

    def test_many_images(self):
        # Three out of four indices need all three channels of a pixel.
        numbers = np.arange(2**18)
        pixels = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=1)
        source = memory.MemorySource(pixels[:, None, None].astype(np.uint8))
        make_model = functools.partial(tiny_run.make_model, **MOCO)
        augmentation = ViewAugmentation(image_size=1, **PLAIN)
        shown = collect(source, make_model=make_model, augmentation=augmentation)
        self.assertGreater(max(anchor.anchor.index for anchor in shown.anchors), 2**16)
        for anchor in shown.anchors:
            expected = pixels[anchor.anchor.index] / 255
            self.assertAllClose(anchor.views["key"][0, 0], expected, atol=1e-6)

    def test_without_neighbors(self):
        small = ViewAugmentation(image_size=8, **PLAIN)
        make_model = functools.partial(tiny_run.make_model, num_small_views=2, **MOCO)
        shown = collect(make_model=make_model, small_augmentation=small, num_anchors=2)
        self.assertEqual(shown.describe(), "epoch 1, step 1 of 3")
        self.assertLen(shown.anchors, 2)
        for anchor in shown.anchors:
            self.assertIsNone(anchor.neighbor)
            self.assertIsNone(anchor.mixed)
            self.assertEqual([*anchor.views], ["query", "key", "small_0", "small_1"])
            self.assertEqual(anchor.views["small_1"].shape, (8, 8, 3))

    def test_rejects(self):
        with self.assertRaisesRegex(InputError, "steps 1 to 3, got 4"):
            collect(step=STEPS)
        directory = tiny_run.make_temp_dir(self.addCleanup)
        with self.assertRaisesRegex(InputError, "no checkpoint in .* yet: let csml-tf train"):
            collect(checkpoints=directory)


if __name__ == "__main__":
    tf.test.main()
