import tensorflow as tf

from csml_tf.augment.center_view import CenterView
from csml_tf.errors import InputError
from csml_tf.evaluation import frozen_encoder, protocols
from csml_tf.export import saved_model
from tests.training import tiny_run


class MeasureTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tiny_run.make_temp_dir(cls.addClassCleanup) / "model"
        view = CenterView(16)
        card = {"id": "tiny", "image_size": 16, "resize_size": 16}
        saved_model.export(tiny_run.make_encoder(), directory, view.mean, view.std, card)
        cls.encoder = frozen_encoder.FrozenEncoder(directory)
        digits = tiny_run.make_source(150)
        cls.sources = digits.subset(range(100), "seen"), digits.subset(range(100, 150), "unseen")

    def test_card(self):
        card = protocols.measure("knn", self.encoder, *self.sources, k=[5], layer=None)
        self.assertEqual(card.protocol, "knn")
        self.assertEqual(card.encoder["id"], "tiny")
        self.assertEqual(card.encoder["sha256"], self.encoder.digest())
        self.assertEqual(card.settings["k"], [5])
        self.assertEqual(card.settings["layer"], ["features"])  # The default.
        self.assertEqual(card.data["train"]["name"], "seen")
        self.assertEqual(card.data["test"]["images"], 50)
        self.assertBetween(card.result["top1"], 0.0, 1.0)
        self.assertGreater(card.seconds, 0.0)

    def test_linear_protocols_leave_the_encoder_alone(self):
        for name, options in (
            ("linear", {"epochs": 1, "learning_rate": [1.0]}),
            ("linear_cached", {"l2": [0.1]}),
        ):
            card = protocols.measure(name, self.encoder, *self.sources, **options)
            self.assertEqual(card.encoder["sha256"], card.encoder["sha256_after"])
            self.assertEqual(card.encoder["sha256"], self.encoder.digest())
            self.assertBetween(card.result["top1"], 0.0, 1.0)
            self.assertIn(f"afterwards {self.encoder.digest()}", card.text())

    def test_rejects_an_encoder_that_changes_itself(self):
        directory = tiny_run.make_temp_dir(self.addCleanup) / "counting"
        model = tf.Module()
        model.calls = tf.Variable(0.0)

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], name="images")])
        def serve(images):
            model.calls.assign_add(1.0)
            return {"features": tf.reduce_mean(images, [1, 2]) + 0.0 * model.calls}

        tf.saved_model.save(model, str(directory), {"serving_default": serve})
        encoder = frozen_encoder.FrozenEncoder(directory, image_size=32)
        with self.assertRaisesRegex(InputError, "counting changes its own weights when it is used"):
            protocols.measure("linear_cached", encoder, *self.sources, l2=[0.1])

    def test_rejects_a_setting_of_another_protocol(self):
        with self.assertRaisesRegex(InputError, "--epochs means nothing to --protocol=knn"):
            protocols.measure("knn", self.encoder, *self.sources, epochs=3)

    def test_a_setting_of_any_protocol_will_do(self):
        protocols.check_settings(["knn", "retrieval"], {"temperature": [0.1], "queries": "x"})
        with self.assertRaisesRegex(
            InputError, "--queries means nothing to --protocol=knn, which knows --layer, --k, "
        ):
            protocols.check_settings(["knn"], {"queries": "x"})
        with self.assertRaisesRegex(InputError, "--size .* to --protocol=knn or retrieval, which"):
            protocols.check_settings(["knn", "retrieval"], {"size": 3})


if __name__ == "__main__":
    tf.test.main()
