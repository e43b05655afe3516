from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf import features
from csml_tf.augment import center_view
from csml_tf.data.sources import memory
from tests.data.sources import image_files

IMAGES = [image_files.noise(seed, 12, 10) for seed in range(11)]
# Batches of another size may round a pixel to a neighboring grey level; 64 pixels are summed.
NEAR = {"rtol": 1e-4, "atol": 0.2}


def make_equal():
    return memory.MemorySource(np.stack(IMAGES))


def make_encoded():
    return memory.EncodedSource([image_files.encode(image, "PNG") for image in IMAGES])


class ExtractFeaturesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(source=[make_equal, make_encoded], batch_size=[1, 4, 11, 256])
    def test_index_order(self, source, batch_size):
        make_view = center_view.CenterView(image_size=8)
        sizes = []

        def encode(images):
            sizes.append(len(images))
            return tf.reduce_sum(images, axis=[1, 2]) * [1.0, 2.0, 3.0]

        actual = features.extract_features(encode, source(), make_view, batch_size)
        expected = [make_view(image).numpy().sum(axis=(0, 1)) * [1, 2, 3] for image in IMAGES]
        self.assertAllClose(actual, expected, **NEAR)
        self.assertEqual((actual.dtype, actual.shape), (np.float32, (11, 3)))
        whole, rest = divmod(11, batch_size)
        self.assertEqual(sizes, [batch_size] * whole + [rest] * (rest > 0))

    @parameterized.parameters(make_equal, make_encoded)
    def test_one_graph_for_all_encoders(self, source):
        source = source()
        graphs = self.enter_context(mock.patch.object(source, "read", wraps=source.read))
        make_view, other_view = center_view.CenterView(8), center_view.CenterView(6)
        first = features.extract_features(features.flatten, source, make_view, 4)
        again = features.extract_features(lambda x: 2 * features.flatten(x), source, make_view, 4)
        self.assertAllEqual(again, 2 * first)
        self.assertEqual(graphs.call_count, 1)
        smaller = features.extract_features(features.flatten, source, other_view, 4)
        self.assertEqual(smaller.shape, (11, 6 * 6 * 3))
        features.extract_features(features.flatten, source, center_view.CenterView(8), 4)
        self.assertEqual(graphs.call_count, 2)  # Of an equal view there is one.

    def test_views_that_differ_in_normalisation_alone(self):
        source = make_equal()
        for mean in np.linspace(0, 1, 5):  # Each may lie where the one before did.
            view = center_view.CenterView(8, mean=(mean,) * 3, std=(1.0,) * 3)
            found = features.extract_features(features.flatten, source, view, 4)
            expected = np.stack([view(image).numpy().ravel() for image in IMAGES])
            self.assertAllClose(found, expected, atol=1e-2)

    def test_images_of_many_sizes(self):
        images = [image_files.noise(seed, 9 + seed, 20 - seed) for seed in range(6)]
        source = memory.EncodedSource([image_files.encode(image, "PNG") for image in images])
        make_view = center_view.CenterView(image_size=8)
        actual = features.extract_features(features.flatten, source, make_view, batch_size=4)
        self.assertAllClose(actual, [make_view(image).numpy().ravel() for image in images])

    @parameterized.product(source=[make_equal, make_encoded], batch_size=[4, 5, 256])
    def test_replicas_share_the_work(self, source, batch_size):
        strategy = tf.distribute.MirroredStrategy(
            ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
        )
        make_view = center_view.CenterView(image_size=8)
        traced_in = set()

        @tf.function
        def encode(images):
            context = tf.distribute.get_replica_context()
            traced_in.add((context.num_replicas_in_sync, images.device[-1:]))
            return tf.reduce_sum(images, axis=[1, 2]) * [1.0, 2.0, 3.0]

        with strategy.scope():
            actual = features.extract_features(encode, source(), make_view, batch_size)
        expected = features.extract_features(encode, source(), make_view)
        self.assertAllClose(actual, expected, **NEAR)
        self.assertIn(2, {replicas for replicas, _ in traced_in})

    @parameterized.product(num_replicas=[1, 2], batch_size=[1, 4, 256], start=[0, 3, 9, 11])
    def test_leaves_out_what_cannot_be_read(self, num_replicas, batch_size, start):
        broken = (0, 4, 5, 10)
        encoded = [image_files.encode(image, "PNG") for image in IMAGES]
        source = memory.EncodedSource(encoded)
        make_view = center_view.CenterView(image_size=8)

        def read(index):
            is_broken = tf.reduce_any(tf.equal(tf.constant(broken, tf.int64), index))
            with tf.control_dependencies([tf.debugging.Assert(~is_broken, [index])]):
                return memory.EncodedSource.read(source, index)

        @tf.function
        def encode(images):
            return tf.reduce_sum(images, axis=[1, 2]) * [1.0, 2.0, 3.0]

        strategy = tf.distribute.get_strategy()
        if num_replicas > 1:
            strategy = tf.distribute.MirroredStrategy(
                ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
            )
        with mock.patch.object(source, "read", read), strategy.scope():
            blocks = [*features.extract_readable(encode, source, make_view, batch_size, start)]
        indices = np.concatenate([np.empty(0), *(block[0] for block in blocks)])
        readable = [i for i in range(start, 11) if i not in broken]
        self.assertAllEqual(indices, readable)
        for block_indices, found in blocks:
            expected = [
                make_view(IMAGES[i]).numpy().sum(axis=(0, 1)) * [1, 2, 3] for i in block_indices
            ]
            self.assertAllClose(found, expected, rtol=1e-4, atol=0.2)

    def test_replicas_run_the_method_of_an_encoder(self):
        class Encoder:
            scale = 2.0

            @tf.function(autograph=False)
            def encode(self, images):
                return self.scale * tf.reduce_sum(images, axis=[1, 2])

        make_view = center_view.CenterView(image_size=8)
        strategy = tf.distribute.MirroredStrategy(
            ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
        )
        encoder = Encoder()
        with strategy.scope():
            actual = features.extract_features(encoder.encode, make_equal(), make_view, 4)
        expected = [2.0 * make_view(image).numpy().sum(axis=(0, 1)) for image in IMAGES]
        self.assertAllClose(actual, expected, rtol=1e-4, atol=0.4)

    @parameterized.parameters(1, 2)
    def test_several_layers_in_one_pass(self, replicas):
        make_view = center_view.CenterView(image_size=8)

        @tf.function
        def encode(images):
            return {"sum": tf.reduce_sum(images, axis=[1, 2]), "corner": images[:, 0, 0, :2]}

        strategy = tf.distribute.MirroredStrategy(
            [f"CPU:{i}" for i in range(replicas)], tf.distribute.ReductionToOneDevice()
        )
        with strategy.scope():
            actual = features.extract_features(encode, make_encoded(), make_view, batch_size=4)
        views = [make_view(image).numpy() for image in IMAGES]
        self.assertEqual(set(actual), {"sum", "corner"})
        self.assertAllClose(actual["sum"], [v.sum(axis=(0, 1)) for v in views], rtol=1e-4, atol=0.2)
        self.assertAllClose(actual["corner"], [v[0, 0, :2] for v in views], atol=0.02)

    def test_flatten(self):
        images = np.random.default_rng(0).normal(size=[3, 2, 4, 5])
        self.assertAllEqual(features.flatten(images), [image.ravel() for image in images])


if __name__ == "__main__":
    tf.test.main()
