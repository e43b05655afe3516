import json

import numpy as np
import tensorflow as tf

from csml_tf import features
from csml_tf.augment.center_view import CenterView
from csml_tf.errors import InputError
from csml_tf.evaluation import baselines, frozen_encoder, knn, protocols
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

    def test_baselines(self):
        """Each protocol's own figure of each; the first point of a grid stands for it."""
        grid = {"k": [5, 3], "temperature": [0.2, 0.1]}
        for name, options, figure, is_default in (
            ("knn", {**grid, "layer": ["stage3", "features"]}, "top1", True),
            ("retrieval", {"k": [2]}, "map", True),
            ("linear", {"epochs": 1, "learning_rate": [1.0]}, "top1", False),
            ("linear_cached", {"l2": [0.1]}, "top1", False),
        ):
            with self.subTest(name):
                alone = protocols.measure(
                    name, self.encoder, *self.sources, baselines=False, **options
                )
                own = [key for key in alone.result if key.startswith(tuple(baselines.NAMES))]
                self.assertEmpty(own)
                asked = None if is_default else True
                card = protocols.measure(
                    name, self.encoder, *self.sources, baselines=asked, **options
                )
                self.assertContainsSubset(alone.result, card.result)
                self.assertEqual(card.figure(), alone.figure())
                added = [key for key in card.result if key not in alone.result]
                names = ("pixels", "color_histogram", "untrained")
                keys = [f"{key}_{figure}" for key in names]
                self.assertEqual(added, [*keys, f"untrained_{figure}_std"])
                for key in keys:
                    self.assertBetween(card.result[key], 0.0, 1.0)

    def test_baselines_by_the_protocol_of_the_encoder(self):
        card = protocols.measure("knn", self.encoder, *self.sources, k=[7], temperature=[0.3])
        view = self.encoder.center_view
        train, test = (
            features.extract_features(features.flatten, source, view) for source in self.sources
        )
        labels = [source.labels for source in self.sources]
        expected = np.mean(knn.classify(train, labels[0], test, 7, 0.3) == labels[1])
        self.assertAlmostEqual(card.result["pixels_top1"], expected)
        # The tiny network has learnt nothing.
        self.assertGreater(expected, card.result["top1"])
        points = 100 * (expected - card.result["top1"])
        self.assertIn(f"Raw pixels are ahead of the encoder by {points:.2f} points", card.notes[-1])
        self.assertEqual(card.summary().splitlines(), [*card.notes, card.headline()])

    def test_part_of_the_labels(self):
        """The encoder and what it has to beat learn from the same images."""
        train, test = self.sources
        path = tiny_run.make_temp_dir(self.addCleanup) / "labels.json"
        for name, options in (("knn", {"k": [3]}), ("linear_cached", {"l2": [0.1]})):
            with self.subTest(name):
                options = {**options, "baselines": True}
                card = protocols.measure(
                    name, self.encoder, train, test, labels=0.3, labels_seed=1, **options
                )
                indices = json.loads(card.files["labels.json"])["indices"]
                self.assertBetween(len(indices), 25, 35)
                self.assertLen(set(train.labels[indices]), 10)
                part = train.subset(indices)
                expected = protocols.measure(name, self.encoder, part, test, **options).result
                self.assertContainsSubset({"pixels_top1", "untrained_top1"}, expected)
                self.assertEqual(card.result, expected)
                self.assertStartsWith(card.settings["labels"], f"{len(indices)} of 100 images, ")
                path.write_text(card.files["labels.json"])
                again = protocols.measure(
                    name, self.encoder, train, test, labels_file=path, **options
                )
                self.assertEqual(again.result, expected)

    def test_the_best_layer_stands_for_the_encoder(self):
        for result, expected in (
            ({"top1": 0.5, "top1_without_near_duplicates": 0.4, "top5": 0.9}, 0.5),
            ({"stage3_top1": 0.3, "features_top1": 0.4, "grid": []}, 0.4),
            (
                {
                    "grid": [
                        {"layer": "a", "k": 5, "temperature": 0.1, "top1": 0.3},
                        {"layer": "a", "k": 9, "temperature": 0.1, "top1": 0.8},
                        {"layer": "b", "k": 5, "temperature": 0.1, "top1": 0.6},
                    ]
                },
                0.6,
            ),
        ):
            self.assertEqual(protocols._own_figure(result, "top1"), expected)

    def test_rejects_baselines_of_what_is_looked_up(self):
        with self.assertRaisesRegex(InputError, "--queries gives none: leave one out"):
            protocols.measure(
                "retrieval", self.encoder, *self.sources, queries="x.png", baselines=True
            )

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
