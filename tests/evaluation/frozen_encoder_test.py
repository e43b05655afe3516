from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.augment.center_view import CenterView
from csml_tf.errors import InputError
from csml_tf.evaluation import frozen_encoder
from csml_tf.export import saved_model
from csml_tf.models.encoder import pool
from tests.training import tiny_run

VIEW = CenterView(16)


class FrozenEncoderTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.encoder = tiny_run.make_encoder()
        cls.directory = tiny_run.make_temp_dir(cls.addClassCleanup) / "model"
        card = {"id": "tiny", "image_size": 16, "resize_size": 20}
        saved_model.export(cls.encoder, cls.directory, VIEW.mean, VIEW.std, card)
        cls.frozen = frozen_encoder.FrozenEncoder(cls.directory)
        cls.foreign = cls.directory.with_name("foreign")
        dense = tf.keras.Sequential([tf.keras.Input([8]), tf.keras.layers.Dense(2)])
        tf.saved_model.save(dense, str(cls.foreign))

        cls.plain = cls.directory.with_name("plain")
        module = tf.Module()
        module.scale = tf.Variable(2.0)
        spec = tf.TensorSpec([None, None, None, 3])
        function = tf.function(lambda images: images[:, 0, 0] * module.scale, [spec])
        tf.saved_model.save(module, str(cls.plain), signatures=function.get_concrete_function())

    @parameterized.parameters("features", "embedding", "stage2")
    def test_same_as_the_encoder(self, layer):
        expected = {
            "features": self.encoder.pooled_features,
            "embedding": self.encoder.embedding,
            "stage2": lambda x: pool(self.encoder.backbone(x, training=False)["stage2"]),
        }[layer]
        images = tf.random.uniform([3, 16, 16, 3])
        normalized = (images - VIEW.mean) / VIEW.std
        self.assertAllClose(self.frozen.encode(layer)(images), expected(normalized), rtol=1e-4)

    def test_several_layers_at_once(self):
        images = tf.random.uniform([3, 16, 16, 3])
        layers = ["embedding", "features", "stage1", "stage3"]
        together = self.frozen.encode_layers(layers)(images)
        self.assertEqual(set(together), set(layers))
        for layer in layers:
            self.assertAllClose(together[layer], self.frozen.encode(layer)(images), rtol=1e-5)

    def test_runs_once_for_features_and_stages(self):
        frozen = frozen_encoder.FrozenEncoder(self.directory)
        calls = []

        make_function = frozen_encoder._make_function

        def make_counting(signature):
            function = make_function(signature)
            return lambda images: calls.append({*signature.structured_outputs}) or function(images)

        with mock.patch.object(frozen_encoder, "_make_function", make_counting):
            frozen.encode_layers(["features", "stage2", "stage4"])(tf.zeros([2, 16, 16, 3]))
        self.assertEqual(calls, [{"features", "stage1", "stage2", "stage3", "stage4"}])

    def test_maps_are_not_pooled(self):
        images = tf.random.uniform([3, 16, 16, 3])
        maps = self.frozen.maps("stage2")(images)
        self.assertEqual(maps.shape.rank, 4)
        self.assertAllClose(self.frozen.encode("stage2")(images), np.mean(maps, axis=(1, 2)))

    def test_view_and_id_of_the_card(self):
        self.assertEqual(self.frozen.id, "tiny")
        view = self.frozen.center_view
        self.assertEqual((view.image_size, view.resize_size), (16, 20))
        self.assertEqual((view.mean, view.std), ((0.0,) * 3, (1.0,) * 3))
        view = frozen_encoder.FrozenEncoder(self.directory, image_size=32).center_view
        self.assertEqual((view.image_size, view.resize_size), (32, 32))

    def test_untrained_is_another_network_of_that_shape(self):
        images = tf.random.uniform([3, 16, 16, 3])
        trained, untrained = self.frozen.encode()(images), self.frozen.untrained()(images)
        self.assertEqual(trained.shape, untrained.shape)
        self.assertNotAllClose(trained, untrained)

    def test_network_is_a_copy_to_train(self):
        images = tf.random.uniform([3, 16, 16, 3])
        network = self.frozen.network()
        self.assertAllClose(network(images), self.frozen.encode()(images), rtol=1e-4)
        self.assertNotEmpty(network.trainable_variables)
        before = self.frozen.digest()
        for variable in network.trainable_variables:
            variable.assign(tf.zeros_like(variable))
        self.assertEqual(self.frozen.digest(), before)

    def test_untrained_network_of_a_seed(self):
        kernels = [self.frozen.untrained_network(seed).get_weights()[0] for seed in (0, 0, 1)]
        self.assertAllEqual(kernels[0], kernels[1])
        self.assertNotAllClose(kernels[0], kernels[2])
        # As at the start of a pretraining: deviation sqrt(2 / fan in), of 3 * 3 * 3 inputs.
        self.assertBetween(np.std(kernels[0]), 0.2, 0.35)

    def test_rejects_to_train_what_is_not_keras(self):
        frozen = frozen_encoder.FrozenEncoder(self.plain)
        with self.assertRaisesRegex(InputError, "has no Keras layers to train"):
            frozen.network()

    def test_digest_tells_one_changed_weight(self):
        frozen = frozen_encoder.FrozenEncoder(self.directory)
        self.assertEqual(frozen.digest(), self.frozen.digest())
        self.assertLen(frozen.digest(), 64)
        for kind in ("kernel", "moving_variance"):  # Not only what is trainable.
            before = frozen.digest()
            function = frozen._loaded.signatures["serving_default"]
            variable = next(v for v in function.variables if kind in v.name)
            variable.assign(tf.where(variable == tf.reduce_max(variable), 0.5, variable))
            self.assertNotEqual(frozen.digest(), before)

    @parameterized.parameters(0, 15)
    def test_rejects_image_size(self, size):
        with self.assertRaisesRegex(InputError, f"from 16 px up, got {size}: raise"):
            frozen_encoder.FrozenEncoder(self.directory, size)
        with self.assertRaisesRegex(InputError, "from 32 px up, got 31: raise"):
            frozen_encoder.FrozenEncoder(self.foreign, 31)

    @parameterized.parameters(
        ([None, 40, 40, 3], tf.float32, True),
        ([None, 48, 48, 3], tf.float32, False),
        ([None, 40, 40, 1], tf.float32, False),
        ([8, 40, 40, 3], tf.float32, False),
        ([None, None, None, 3], tf.uint8, False),
        ([None, 40], tf.float32, False),
    )
    def test_rejects_an_input_that_does_not_fit(self, shape, dtype, fits):
        directory = str(tiny_run.make_temp_dir(self.addCleanup))
        module = tf.Module()
        module.serve = tf.function(
            lambda images: {"features": tf.zeros([tf.shape(images)[0], 2])},
            input_signature=[tf.TensorSpec(shape, dtype)],
        )
        tf.saved_model.save(module, directory, {"serving_default": module.serve})
        frozen = frozen_encoder.FrozenEncoder(directory, 40)
        if fits:
            self.assertEqual(frozen.encode()(tf.zeros([5, 40, 40, 3])).shape, [5, 2])
        else:
            with self.assertRaisesRegex(InputError, r"takes \w+ \(.*RGB images of 40 px"):
                frozen.encode()

    def test_rejects_a_model_without_the_layer(self):
        foreign = frozen_encoder.FrozenEncoder(self.foreign)
        with self.assertRaisesRegex(InputError, "no signature 'embed' with an output 'embedding'"):
            foreign.encode("embedding")
        with self.assertRaisesRegex(InputError, "'serving_default' with an output 'features'"):
            foreign.encode()

    def test_rejects_a_damaged_model(self):
        damaged = tiny_run.make_temp_dir(self.addCleanup)
        (damaged / "saved_model.pb").write_bytes(b"no protocol buffer")
        with self.assertRaisesRegex(InputError, "cannot be read .*export it again"):
            frozen_encoder.FrozenEncoder(damaged)


if __name__ == "__main__":
    tf.test.main()
