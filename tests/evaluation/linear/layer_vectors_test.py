from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from csml_tf.augment.center_view import CenterView
from csml_tf.errors import InputError
from csml_tf.evaluation import frozen_encoder
from csml_tf.evaluation.linear import layer_vectors
from csml_tf.export import saved_model
from tests.training import tiny_run

LAYERS = ("stage2", "features", "embedding", "stage1")


class LayerVectorsTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tiny_run.make_temp_dir(cls.addClassCleanup) / "model"
        card = {"image_size": 16, "resize_size": 16}
        view = CenterView(16)
        saved_model.export(tiny_run.make_encoder(), directory, view.mean, view.std, card)
        cls.frozen = frozen_encoder.FrozenEncoder(directory)
        cls.images = tf.random.uniform([3, 16, 16, 3])

    def test_one_cell_is_what_encode_makes(self):
        vectors = layer_vectors.LayerVectors(self.frozen, LAYERS)
        made = vectors(self.images)
        self.assertEqual(list(vectors.dims), list(LAYERS))
        for layer in LAYERS:
            self.assertEqual(made[layer].shape[1], vectors.dims[layer])
            self.assertAllClose(made[layer], self.frozen.encode(layer)(self.images), atol=1e-6)
        pooling = ["stage2:1x1x4", "features:4", "embedding:8", "stage1:1x1x4"]
        self.assertEqual(vectors.pooling, pooling)

    @parameterized.parameters((4, 1), (15, 1), (16, 2), (64, 4), (10_000, 8))
    def test_grid_fills_the_room(self, stage_features, grid_size):
        # stage1 is 8 x 8 x 4 for 16 px.
        vectors = layer_vectors.LayerVectors(self.frozen, ["stage1"], stage_features)
        self.assertEqual(vectors.dims["stage1"], grid_size**2 * 4)
        self.assertEqual(vectors.pooling, [f"stage1:{grid_size}x{grid_size}x4"])
        maps = self.frozen.maps("stage1")(self.images).numpy()
        side = 8 // grid_size
        cells = maps.reshape([3, grid_size, side, grid_size, side, 4]).mean(axis=(2, 4))
        self.assertAllClose(vectors(self.images)["stage1"], cells.reshape([3, -1]), atol=1e-6)

    def test_rejects_too_little_room(self):
        with self.assertRaisesRegex(InputError, "=3 has no room for the 4 channels of stage1"):
            layer_vectors.LayerVectors(self.frozen, ["stage1"], 3)

    def export_fixed(self, spec_side):
        """A model for 32 px, whose signature says so or not."""
        directory = tiny_run.make_temp_dir(self.addCleanup) / "fixed"
        flat = tf.keras.Sequential([tf.keras.Input([3072]), tf.keras.layers.Dense(5)])
        spec = tf.TensorSpec([None, spec_side, spec_side, 3], tf.float32, name="images")

        @tf.function(input_signature=[spec])
        def serve(images):
            return {"features": flat(tf.reshape(images, [tf.shape(images)[0], 3072]))}

        tf.saved_model.save(flat, str(directory), {"serving_default": serve})
        return directory

    @parameterized.parameters(
        (32, r"takes float32 \(None, 32, 32, 3\), which are no batches of RGB images of 48 px"),
        (None, r"cannot be run on an image of 48 px \(.+\): choose another --image_size"),
    )
    def test_rejects_images_of_a_size_that_the_model_does_not_take(self, spec_side, message):
        directory = self.export_fixed(spec_side)
        fitting = frozen_encoder.FrozenEncoder(directory, image_size=32)
        self.assertEqual(layer_vectors.LayerVectors(fitting, ["features"]).dims["features"], 5)
        other = frozen_encoder.FrozenEncoder(directory, image_size=48)
        with self.assertRaisesRegex(InputError, message):
            layer_vectors.LayerVectors(other, ["features"])

    def test_one_pass_for_stages_and_features(self):
        calls = []
        make_function = frozen_encoder._make_function

        def make_counting(signature):
            function = make_function(signature)
            return lambda images: calls.append({*signature.structured_outputs}) or function(images)

        frozen = frozen_encoder.FrozenEncoder(self.frozen.directory)
        with mock.patch.object(frozen_encoder, "_make_function", make_counting):
            frozen.all_maps(["features", "stage1", "stage4"])(self.images)
        self.assertEqual(calls, [{"features", "stage1", "stage2", "stage3", "stage4"}])


if __name__ == "__main__":
    tf.test.main()
