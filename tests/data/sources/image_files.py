"""Small image files and TFDS data sets, made on the fly for the tests of the sources."""

import io
import os
import re
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from csml_tf.data.sources import tfds as tfds_source


def noise(seed, height=12, width=10, channels=3):
    shape = [height, width, channels] if channels > 1 else [height, width]
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def encode(image, format_, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        buffer, format_, **options
    )
    return buffer.getvalue()


def make_temp_dir(add_cleanup):
    directory = tempfile.TemporaryDirectory()
    add_cleanup(directory.cleanup)
    return directory.name


def write(content, *parts):
    path = os.path.join(*parts)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
    return path


def write_pngs(directory, count, seed=0):
    for i in range(count):
        write(encode(noise(seed + i), "PNG"), directory, f"{i:03d}.png")


def pillow_rgb(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


class TinyPhotos(tfds.core.GeneratorBasedBuilder):
    """Three data sets that differ in sizes, splits and labels."""

    VERSION = tfds.core.Version("1.0.0")
    # TFDS would look it up with importlib_resources, which it does not install.
    code_path = epath.Path(__file__)
    # The i-th training image is noise(first_seed + i), but for those that are broken.
    first_seed = 0
    broken = ()
    BUILDER_CONFIGS = (
        tfds.core.BuilderConfig(name="fixed", description="One size."),
        tfds.core.BuilderConfig(name="free", description="Any size, no test split."),
        tfds.core.BuilderConfig(name="secret", description="Test labels are hidden."),
    )

    def _info(self):
        shape = (None, None, 3) if self.builder_config.name == "free" else (12, 10, 3)
        features = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=shape, encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["ant", "bee"]),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        generators = {"train": self._generate_examples(self.first_seed, 10)}
        if self.builder_config.name != "free":
            generators["test"] = self._generate_examples(100, 4)
        if self.builder_config.name == "secret":
            generators["validation"] = self._generate_examples(200, 3)
            generators["unlabelled"] = self._generate_examples(300, 5)
        return generators

    def _make_image(self, seed, i):
        if seed == self.first_seed and i in self.broken:
            return io.BytesIO(encode(noise(seed + i), "PNG")[:-20])
        return noise(seed + i)

    def _generate_examples(self, seed, count):
        secret = self.builder_config.name == "secret" and seed in (100, 300)
        for i in range(count):
            yield (
                i,
                {
                    "id": str(i),
                    "image": self._make_image(seed, i),
                    "label": -1 if secret else i % 2,
                },
            )


def prepare_tiny_photos(data_dir, *configs, file_format=None):
    for config in configs:
        builder = TinyPhotos(data_dir=data_dir, config=config, file_format=file_format)
        builder.download_and_prepare()


def load_tfds(name, split, data_dir, download=False):
    """One split by its name, as `open_splits` opens those that it chooses."""
    return tfds_source.load_split(tfds_source.make_builder(name, data_dir, download), name, split)


def check_broken_images(test, file_format, kind):
    """One of ten may be broken, and the next stands in for it; two are too many."""
    for broken in ({4}, {4, 7}):
        data_dir = make_temp_dir(test.addCleanup)
        with mock.patch.object(TinyPhotos, "broken", broken):
            prepare_tiny_photos(data_dir, "free", file_format=file_format)
        source = load_tfds("tiny_photos/free", "train", data_dir)
        test.assertIsInstance(source, kind)
        images = tf.data.Dataset.range(10).map(source.read)
        if len(broken) == 2:
            with test.assertRaisesRegex(
                tf.errors.OpError,
                r"InputError: 2 of 10 images of tiny_photos/free:train are no readable images, "
                r"more than 1%: \d, \d; .* delete .* prepare the data set anew",
            ):
                list(images)
            continue
        with test.assertLogs("absl", "WARNING") as logs:
            sums = [int(tf.reduce_sum(tf.cast(image, tf.int32))) for image in images]
        test.assertLen(logs.output, 1)
        test.assertRegex(
            logs.output[0],
            r"Image \d of tiny_photos/free:train cannot be decoded; .* \(1 of 10 images\)",
        )
        known = [int(noise(i).astype(int).sum()) for i in range(10) if i not in broken]
        test.assertEqual(sorted({*sums}), sorted(known))
        place = int(re.search(r"Image (\d)", logs.output[0])[1])
        test.assertEqual(sums[place], sums[(place + 1) % 10])
