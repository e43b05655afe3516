"""What every image source promises, checked on every one of them."""

import importlib.util
import os
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data import catalog
from csml_tf.data.sources import folder, memory
from tests.data.sources import image_files

NUM_IMAGES = 10


def make_memory(directory, seed):
    del directory
    images = np.stack([image_files.noise(seed + i) for i in range(NUM_IMAGES)])
    return memory.MemorySource(images, np.arange(NUM_IMAGES) % 2, ["ant", "bee"])


def make_encoded(directory, seed):
    del directory
    images = [image_files.noise(seed + i) for i in range(NUM_IMAGES)]
    return memory.EncodedSource([image_files.encode(image, "PNG") for image in images])


def make_folder(directory, seed):
    directory = os.path.join(directory, f"flat{seed}")
    image_files.write_pngs(directory, NUM_IMAGES, seed)
    return folder.FolderSource(directory)


def make_big_folder(directory, seed):
    with mock.patch.object(folder, "MAX_DECODED_BYTES", 0):
        return make_folder(directory, seed)


def make_class_folder(directory, seed):
    directory = os.path.join(directory, f"classes{seed}")
    for number, name in enumerate(["ant", "bee"]):
        half = NUM_IMAGES // 2
        image_files.write_pngs(os.path.join(directory, name), half, seed + number * half)
    return folder.FolderSource(directory)


def make_csv(directory, seed):
    directory = os.path.join(directory, f"table{seed}")
    image_files.write_pngs(directory, NUM_IMAGES, seed)
    rows = "".join(f"{i:03d}.png,{i % 2}\n" for i in range(NUM_IMAGES))
    path = image_files.write(rows.encode(), directory, "table.csv")
    return catalog.open_dataset(f"csv:{path}").split("pretrain")


def make_several_folders(directory, seed):
    directories = [os.path.join(directory, f"{part}{seed}") for part in ("first", "second")]
    for i, part in enumerate(directories):
        half = NUM_IMAGES // 2
        image_files.write_pngs(part, half, seed + i * half)
    dataset = ",".join(f"folder:{part}" for part in directories)
    return catalog.open_dataset(dataset).split("pretrain")


def make_subset(directory, seed):
    del directory
    images = np.stack([image_files.noise(seed + i) for i in range(NUM_IMAGES)])
    order = np.arange(NUM_IMAGES)[::-1]
    return memory.MemorySource(images[order], order).subset(order)


def make_folder_subset(directory, seed):
    return make_class_folder(directory, seed).subset(np.arange(NUM_IMAGES))


def make_records(directory, seed):
    directory = os.path.join(directory, f"records{seed}")
    with mock.patch.object(image_files.TinyPhotos, "first_seed", seed):
        image_files.prepare_tiny_photos(directory, "free", file_format="array_record")
    source = image_files.load_tfds("tiny_photos/free", "train", directory)
    # TFDS shuffles when it prepares.
    expected = [image_files.noise(seed + i).tobytes() for i in range(NUM_IMAGES)]
    order = [expected.index(source.read(i).numpy().tobytes()) for i in range(NUM_IMAGES)]
    return source.subset(np.argsort(order))


SOURCES = [
    ("memory", make_memory),
    ("encoded", make_encoded),
    ("folder", make_folder),
    ("big_folder", make_big_folder),
    ("class_folder", make_class_folder),
    ("csv", make_csv),
    ("several_folders", make_several_folders),
    ("subset", make_subset),
    ("folder_subset", make_folder_subset),
]
if importlib.util.find_spec("array_record"):  # Comes with TFDS, on Linux only.
    SOURCES.append(("records", make_records))


class ImageSourceTest(tf.test.TestCase, parameterized.TestCase):
    """The i-th image of `make(directory, seed)` is `noise(seed + i)`."""

    def setUp(self):
        super().setUp()
        self.dir = image_files.make_temp_dir(self.addCleanup)

    @parameterized.named_parameters(SOURCES)
    def test_attributes(self, make):
        source = make(self.dir, 0)
        self.assertLen(source, NUM_IMAGES)
        self.assertIsInstance(source.name, str)
        self.assertNotEmpty(source.name)
        self.assertRegex(source.fingerprint, "^[0-9a-f]{8,}$")
        self.assertIn(source.image_shape, [None, (12, 10)])
        if source.labels is not None:
            self.assertEqual((source.labels.dtype, source.labels.shape), (np.int64, (NUM_IMAGES,)))
        if source.class_names is not None:
            self.assertIsInstance(source.class_names, tuple)
        if source.paths is not None:
            for i, path in enumerate(source.paths):
                self.assertAllEqual(image_files.pillow_rgb(path), source.read(i))

    @parameterized.named_parameters(SOURCES)
    def test_reads_in_index_order(self, make):
        source = make(self.dir, 0)
        for i in range(len(source)):
            self.assertAllEqual(source.read(tf.constant(i, tf.int64)), image_files.noise(i))

    @parameterized.named_parameters(SOURCES)
    def test_reads_inside_a_map(self, make):
        source = make(self.dir, 0)
        indices = np.array([3, 0, 9, 3])
        dataset = tf.data.Dataset.from_tensor_slices(indices).map(source.read, tf.data.AUTOTUNE)
        self.assertEqual((dataset.element_spec.dtype, dataset.element_spec.shape[2]), (tf.uint8, 3))
        for i, image in zip(indices, dataset):
            self.assertAllEqual(image, image_files.noise(i))

    @parameterized.named_parameters(SOURCES)
    def test_reads_batches_if_shape_is_known(self, make):
        source = make(self.dir, 0)
        indices = tf.constant([3, 0, 9, 3], tf.int64)
        if source.image_shape is None:
            with self.assertRaises((ValueError, TypeError, tf.errors.OpError)):
                source.read(indices)
            return
        expected = np.stack([image_files.noise(i) for i in indices.numpy()])
        self.assertAllEqual(source.read(indices), expected)
        batches = tf.data.Dataset.from_tensors(indices).map(source.read)
        self.assertEqual(batches.element_spec.shape.as_list(), [4, 12, 10, 3])
        self.assertAllEqual(next(iter(batches)), expected)

    @parameterized.named_parameters(SOURCES)
    def test_reads_with_any_decoder(self, make):
        source = make(self.dir, 0)

        def decode(encoded):
            image = tf.io.decode_image(encoded, expand_animations=False)
            corner = tf.ensure_shape(image[:2, :3], [2, 3, 3])
            return {"corner": corner, "rest": (image[2:], tf.strings.length(encoded))}

        if source.image_shape is not None:
            with self.assertRaisesRegex(ValueError, "are not encoded: use `read`"):
                source.read_with(0, decode)
            return
        indices = np.array([3, 0, 9, 3])
        dataset = tf.data.Dataset.from_tensor_slices(indices)
        dataset = dataset.map(lambda index: source.read_with(index, decode), tf.data.AUTOTUNE)
        spec = dataset.element_spec
        self.assertEqual(spec["corner"], tf.TensorSpec([2, 3, 3], tf.uint8))
        self.assertEqual((spec["rest"][0].dtype, spec["rest"][1].dtype), (tf.uint8, tf.int32))
        for i, result in zip(indices, dataset):
            image = image_files.noise(i)
            self.assertAllEqual(result["corner"], image[:2, :3])
            self.assertAllEqual(result["rest"][0], image[2:])
            self.assertGreater(result["rest"][1], 0)

    @parameterized.named_parameters(SOURCES)
    def test_decoders_may_use_outside_tensors(self, make):
        source = make(self.dir, 0)
        if source.image_shape is not None:
            return

        def read_row(index, row):
            return source.read_with(index, lambda encoded: tf.io.decode_image(encoded)[row])

        dataset = tf.data.Dataset.from_tensor_slices(([3, 0, 9], [1, 5, 2])).map(read_row)
        for pixels, (i, row) in zip(dataset, [(3, 1), (0, 5), (9, 2)]):
            self.assertAllEqual(pixels, image_files.noise(i)[row])

    @parameterized.named_parameters(SOURCES)
    def test_index_out_of_range_is_an_error(self, make):
        with self.assertRaises(tf.errors.InvalidArgumentError):
            make(self.dir, 0).read(tf.constant(NUM_IMAGES, tf.int64))

    @parameterized.named_parameters(SOURCES)
    def test_same_when_opened_again(self, make):
        first, again, other = make(self.dir, 0), make(self.dir, 0), make(self.dir, 50)
        self.assertEqual(first.fingerprint, again.fingerprint)
        self.assertNotEqual(first.fingerprint, other.fingerprint)
        for i in range(NUM_IMAGES):
            self.assertAllEqual(first.read(i), again.read(i))

    @parameterized.named_parameters(SOURCES)
    def test_one_other_image_is_another_fingerprint(self, make):
        first = make(self.dir, 0)
        noise = image_files.noise

        def one_other(seed, *args):
            return noise(103 if seed == 3 else seed, *args)

        with mock.patch.object(image_files, "noise", one_other):
            other = make(os.path.join(self.dir, "other"), 0)
        self.assertNotEqual(first.fingerprint, other.fingerprint)

    @parameterized.named_parameters(SOURCES)
    def test_fingerprint_knows_number_and_order(self, make):
        source = make(self.dir, 0)
        every = np.arange(NUM_IMAGES)
        parts = [source.subset(i) for i in (every, every[::-1], every[:-1])]
        self.assertLen({part.fingerprint for part in parts}, 3)

    @parameterized.named_parameters(SOURCES)
    def test_subset(self, make):
        source = make(self.dir, 0)
        subset = source.subset([7, 2, 7])
        self.assertLen(subset, 3)
        self.assertEqual(subset.image_shape, source.image_shape)
        self.assertEqual(subset.class_names, source.class_names)
        for i, original in enumerate([7, 2, 7]):
            self.assertAllEqual(subset.read(i), image_files.noise(original))
        for values, subset_values in (
            (source.labels, subset.labels),
            (source.paths, subset.paths),
        ):
            self.assertEqual(values is None, subset_values is None)
            if values is not None:
                self.assertEqual(list(subset_values), [values[i] for i in (7, 2, 7)])
        fingerprints = {source.fingerprint, subset.fingerprint, source.subset([7, 2]).fingerprint}
        self.assertLen(fingerprints, 3)


class TfdsSourceTest(tf.test.TestCase, parameterized.TestCase):
    """TFDS chooses the order of the images, so only its promises to itself are checked."""

    @parameterized.parameters("fixed", "free")
    def test_order_is_the_same_when_opened_again(self, config):
        data_dir = image_files.make_temp_dir(self.addCleanup)
        image_files.prepare_tiny_photos(data_dir, config)
        first, again = (
            image_files.load_tfds(f"tiny_photos/{config}", "train", data_dir) for _ in "ab"
        )
        self.assertEqual(first.fingerprint, again.fingerprint)
        self.assertAllEqual(first.labels, again.labels)
        for i in range(len(first)):
            self.assertAllEqual(first.read(i), again.read(i))
        subset = first.subset([3, 1])
        self.assertAllEqual(subset.read(0), first.read(3))
        self.assertAllEqual(subset.labels, first.labels[[3, 1]])


if __name__ == "__main__":
    tf.test.main()
