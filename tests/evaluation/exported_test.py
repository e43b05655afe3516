import json

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf import features
from csml_tf.augment.center_view import CenterView
from csml_tf.errors import InputError
from csml_tf.evaluation import exported, knn
from csml_tf.export import saved_model
from csml_tf.models.encoder import pool
from tests.training import tiny_run

VIEW = CenterView(16)


class KnnResultTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.encoder = tiny_run.make_encoder()
        cls.directory = tiny_run.make_temp_dir(cls.addClassCleanup) / "model"
        card = {"image_size": 16, "resize_size": 16}
        saved_model.export(cls.encoder, cls.directory, VIEW.mean, VIEW.std, card)
        cls.foreign = cls.directory.with_name("foreign")
        dense = tf.keras.Sequential([tf.keras.Input([8]), tf.keras.layers.Dense(2)])
        tf.saved_model.save(dense, str(cls.foreign))
        digits = tiny_run.make_source(150)
        cls.sources = digits.subset(range(100)), digits.subset(range(100, 150))

    def result(self, **options):
        return exported.knn_result(self.directory, *self.sources, k=5, **options)

    def stage2(self, images):
        return pool(self.encoder.backbone(images, training=False)["stage2"])

    @parameterized.parameters("features", "embedding", "stage2")
    def test_same_as_the_encoder(self, layer):
        encode = {
            "features": self.encoder.pooled_features,
            "embedding": self.encoder.embedding,
            "stage2": self.stage2,
        }[layer]
        result = self.result(layer=layer)
        expected = knn.KnnEvaluation(*self.sources, VIEW, k=5)
        self.assertAlmostEqual(result["knn_top1"], expected.top1(encode))
        self.assertEqual(result["protocol"], str(expected.protocol(layer)))
        self.assertEqual(result["model"], str(self.directory))

    def test_baselines(self):
        result = self.result(baselines=True)
        view = CenterView(16, mean=(0.0,) * 3, std=(1.0,) * 3)
        pixels = knn.KnnEvaluation(*self.sources, view, k=5).top1(features.flatten)
        self.assertAlmostEqual(result["pixels_knn_top1"], pixels)
        self.assertBetween(result["untrained_knn_top1"], 0.0, 1.0)
        self.assertRegex(
            exported.describe(result),
            r"^kNN top-1 [\d.]+%, untrained [\d.]+%, raw pixels [\d.]+% \(k=5, temperature=0.1, ",
        )

    def test_other_image_size(self):
        self.assertIn("shorter side 32 px, centre 32 px", self.result(image_size=32)["protocol"])

    def test_rejects_image_size(self):
        with self.assertRaisesRegex(InputError, "at least 1 px, got 0"):
            self.result(image_size=0)

    def test_rejects_a_model_without_the_layer(self):
        with self.assertRaisesRegex(InputError, "no signature 'embed' with an output 'embedding'"):
            exported.knn_result(self.foreign, *self.sources, layer="embedding")
        with self.assertRaisesRegex(InputError, "'serving_default' with an output 'features'"):
            exported.knn_result(self.foreign, *self.sources)

    def test_rejects_a_damaged_model(self):
        damaged = tiny_run.make_temp_dir(self.addCleanup)
        (damaged / "saved_model.pb").write_bytes(b"no protocol buffer")
        with self.assertRaisesRegex(InputError, "cannot be read .*export it again"):
            exported.knn_result(damaged, *self.sources)


class SaveTest(tf.test.TestCase):
    def test_writes_json(self):
        path = tiny_run.make_temp_dir(self.addCleanup) / "result.json"
        exported.save({"knn_top1": np.float64(0.5)}, path)
        self.assertEqual(json.loads(path.read_text()), {"knn_top1": 0.5})

    def test_rejects_a_missing_folder(self):
        path = tiny_run.make_temp_dir(self.addCleanup) / "missing" / "result.json"
        with self.assertRaisesRegex(InputError, "result.json cannot be written .No such file"):
            exported.save({}, path)


if __name__ == "__main__":
    tf.test.main()
