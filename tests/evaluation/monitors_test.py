import types
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from csml_tf import features
from csml_tf.augment.center_view import CenterView
from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from csml_tf.evaluation import monitors
from csml_tf.models import untrained_copy
from tests.evaluation import pixel_encoder
from tests.evaluation.knn_test import loop_classify
from tests.training import run_state, tiny_run


class KnnEvaluationTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.digits = memory.load_digits()
        self.train = self.digits.subset(range(100), "train digits")
        self.test = self.digits.subset(range(100, 150), "test digits")
        self.view = CenterView(8, mean=(0.0,) * 3, std=(1.0,) * 3)

    def test_top1_of_pixels(self):
        evaluation = monitors.KnnEvaluation(self.train, self.test, self.view, k=5)
        pixels = [
            np.stack([s.read(i).numpy().ravel() for i in range(len(s))])
            for s in (self.train, self.test)
        ]
        expected = loop_classify(
            pixels[0].astype(float), self.train.labels, pixels[1].astype(float), 5, 0.1
        )
        self.assertAlmostEqual(
            evaluation.top1(features.flatten), np.mean(expected == self.test.labels)
        )

    def test_chance_level_on_noise(self):
        sources = pixel_encoder.make_noise((2000, 1000), size=4, num_classes=10)
        accuracy = monitors.KnnEvaluation(*sources, CenterView(4)).top1(features.flatten)
        self.assertBetween(accuracy, 0.06, 0.14)

    @parameterized.parameters((9999, 20), (10000, 200))
    def test_default_k(self, num_images, k):
        images, labels = np.zeros([num_images, 1, 1], np.uint8), np.arange(num_images) % 10
        source = memory.MemorySource(images, labels)
        evaluation = monitors.KnnEvaluation(source, self.test, self.view)
        self.assertStartsWith(evaluation.protocol("x"), f"k={k}, ")

    def test_protocol_says_everything(self):
        evaluation = monitors.KnnEvaluation(self.train, self.test, CenterView(224), 7, 0.2)
        self.assertEqual(
            evaluation.protocol("embedding"),
            "k=7, temperature=0.2, layer=embedding, cosine, shorter side 256 px, centre 224 px; "
            "votes: train digits, 100 images; tested on: test digits, 50 images",
        )

    def test_rejects_k(self):
        with self.assertRaisesRegex(InputError, "from 1 to the 100 images of train .*got 0"):
            monitors.KnnEvaluation(self.train, self.test, self.view, 0)

    def test_k_shrinks_to_a_small_set(self):
        few = self.train.subset(range(12), "few")
        for k, level, words in (
            (None, "INFO", "20 is usual"),
            (200, "WARNING", "k of 200 is more"),
        ):
            with self.assertLogs("absl", level) as logs:
                evaluation = monitors.KnnEvaluation(few, self.test, self.view, k)
            self.assertIn(words, logs.output[0])
            self.assertStartsWith(evaluation.protocol("x"), "k=12, ")

    def test_rejects_temperature(self):
        with self.assertRaisesRegex(InputError, "above 0, got 0"):
            monitors.KnnEvaluation(self.train, self.test, self.view, temperature=0)

    def test_rejects_missing_labels(self):
        unlabelled = memory.MemorySource(np.zeros([30, 8, 8], np.uint8), name="nameless")
        for pair in ((unlabelled, self.test), (self.train, unlabelled)):
            with self.assertRaisesRegex(InputError, "needs labels, and nameless has none"):
                monitors.KnnEvaluation(*pair, self.view)


class KnnMonitorTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        digits = memory.load_digits()
        sources = digits.subset(range(100)), digits.subset(range(100, 150))
        self.evaluation = monitors.KnnEvaluation(*sources, CenterView(8), k=5)

    def test_is_due(self):
        monitor = monitors.KnnMonitor(self.evaluation, every_epochs=3)
        due = [epoch for epoch in range(1, 9) if monitor.is_due(epoch, epochs=8)]
        self.assertEqual(due, [3, 6, 8])

    @parameterized.parameters("features", "embedding")
    def test_measures_the_layer(self, layer):
        def brightness(images):
            return tf.reduce_mean(images, axis=[1, 2])

        pixels, means = features.flatten, brightness
        encoder = types.SimpleNamespace(pooled_features=pixels, embedding=means)
        row = monitors.KnnMonitor(self.evaluation, layer).measure(encoder)
        used = {"features": pixels, "embedding": means}[layer]
        self.assertEqual(row["knn_top1"], self.evaluation.top1(used))
        self.assertIn(f"k=5, temperature=0.1, layer={layer}", row["knn_protocol"])
        self.assertGreater(row["knn_seconds"], 0)

    def test_counts_what_it_encodes(self):
        encode = mock.Mock(side_effect=features.flatten)
        monitor = monitors.KnnMonitor(self.evaluation)
        monitor.measure(types.SimpleNamespace(pooled_features=encode))
        encoded = sum(len(call.args[0]) for call in encode.call_args_list)
        self.assertEqual((monitor.num_images, encoded), (150, 150))

    def test_rejects(self):
        with self.assertRaisesRegex(ValueError, "layer must be one of"):
            monitors.KnnMonitor(self.evaluation, "stage4")
        with self.assertRaisesRegex(ValueError, "every_epochs must be at least 1, got 0"):
            monitors.KnnMonitor(self.evaluation, every_epochs=0)


class KnnBaselinesTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.sources = pixel_encoder.make_sources()
        # A run normalises its images; pixels and colors are seen as they are.
        self.view = CenterView(16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
        self.evaluation = monitors.KnnEvaluation(*self.sources, self.view, k=5)

    def test_is_due_once(self):
        for every_epochs, epochs, expected in ((1, 4, [1]), (3, 8, [3]), (10, 4, [4])):
            monitor = monitors.KnnMonitor(self.evaluation, every_epochs=every_epochs)
            due = [e for e in range(1, epochs + 1) if monitor.baselines().is_due(e, epochs)]
            self.assertEqual(due, expected)
            self.assertTrue(monitor.is_due(*expected, epochs))

    def test_counts_what_it_encodes(self):
        """By pixels, by colors, and by untrained weights three times."""
        baselines = monitors.KnnBaselines(self.evaluation)
        self.assertEqual(baselines.num_images, 5 * sum(map(len, self.sources)))

    def test_measures(self):
        encoder = tiny_run.make_encoder()
        before = encoder.get_weights()
        row = monitors.KnnBaselines(self.evaluation).measure(encoder)
        for was, now in zip(before, encoder.get_weights()):
            self.assertAllEqual(was, now)
        self.assertGreater(row["knn_baselines_seconds"], 0)
        figures = row["knn_baselines"]
        self.assertEqual(list(figures), ["pixels", "color_histogram", "untrained"])
        pixels = [
            np.stack([s.read(i).numpy() for i in range(len(s))]).astype(float) for s in self.sources
        ]
        large = [tf.image.resize(images, [16, 16], antialias=True).numpy() for images in pixels]
        rows = [np.round(images).reshape([len(images), -1]) for images in large]
        labels = [source.labels for source in self.sources]
        expected = np.mean(loop_classify(rows[0], labels[0], rows[1], 5, 0.1) == labels[1])
        self.assertAlmostEqual(figures["pixels"], expected, delta=0.041)  # Two images of 50.
        draws = [
            self.evaluation.top1(
                lambda images, n=network: tf.reduce_mean(n(images)["stage4"], [1, 2])
            )
            for network in (untrained_copy.make(encoder.backbone, seed) for seed in range(3))
        ]
        self.assertAlmostEqual(figures["untrained"], np.mean(draws))

    def test_training_computes_the_same_and_names_what_is_ahead(self):
        """Every tensor of the checkpoint, bit by bit; and every figure but those added."""
        source = self.sources[0].subset(range(tiny_run.NUM_IMAGES))
        view = CenterView(16)
        states, figures = [], []
        for with_baselines in (False, True):
            directory = tiny_run.make_temp_dir(self.addCleanup)
            evaluation = monitors.KnnEvaluation(*self.sources, view, k=5)
            knn = monitors.KnnMonitor(evaluation)
            with self.assertLogs("absl", "INFO") as logs:
                monitored = [knn, knn.baselines()] if with_baselines else [knn]
                tiny_run.run(directory, 2, monitored, source=source)
            states.append(run_state.load(directory))
            figures.append(run_state.figures(directory))
        first, second = figures[1]
        found = first.pop("knn_baselines")
        self.assertNotIn("knn_baselines", second)
        self.assertEqual(*figures)
        for name, value in states[0].items():
            self.assertEqual(value.tobytes(), states[1][name].tobytes(), name)
        # Four convolutions of four channels, hardly trained.
        self.assertGreater(found["pixels"], second["knn_top1"])
        ends = [line for line in logs.output if "epoch 1/2: " in line or "epoch 2/2: " in line]
        self.assertLen(ends, 2)
        for line in ends:
            self.assertRegex(line, rf"knn_top1 [\d.]+ \(behind pixels, {found['pixels']:.4g}\), ")


class LinearMonitorTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.sources = pixel_encoder.make_sources()

    def evaluation(self, **options):
        return monitors.LinearEvaluation(*self.sources, CenterView(16), **options)

    @parameterized.parameters((0, []), (3, [3, 6, 8]))
    def test_is_due(self, every_epochs, expected):
        monitor = monitors.LinearMonitor(self.evaluation(), every_epochs)
        due = [epoch for epoch in range(1, 9) if monitor.is_due(epoch, epochs=8)]
        self.assertEqual(due, expected)

    def test_matches_scikit_learn_and_leaves_the_encoder_alone(self):
        encoder = tiny_run.make_encoder()
        encoder(tf.random.uniform([8, 16, 16, 3]), training=True)  # Batch norm has moved.
        before = encoder.get_weights()
        row = monitors.LinearMonitor(self.evaluation(l2=1e-2), 1).measure(encoder)
        for was, now in zip(before, encoder.get_weights()):
            self.assertAllEqual(was, now)

        train, test = (
            features.extract_features(encoder.pooled_features, source, CenterView(16))
            for source in self.sources
        )
        scaler = StandardScaler().fit(train)
        model = LogisticRegression(C=1 / (1e-2 * len(train)), tol=1e-8, max_iter=10_000)
        model.fit(scaler.transform(train), self.sources[0].labels)
        expected = model.score(scaler.transform(test), self.sources[1].labels)
        self.assertAlmostEqual(row["linear_top1"], expected, delta=0.021)  # One image of 50.
        self.assertGreater(expected, 0.15)
        self.assertEqual(
            row["linear_protocol"],
            "logistic regression at its optimum, l2=0.01, layer=features, standardised, "
            "shorter side 16 px, centre 16 px; trained on: train, 100 images; "
            "tested on: test, 50 images",
        )
        self.assertGreater(row["linear_seconds"], 0)

    def test_rejects(self):
        with self.assertRaisesRegex(ValueError, "every_epochs must be at least 0, got -1"):
            monitors.LinearMonitor(self.evaluation(), -1)
        with self.assertRaisesRegex(InputError, "--l2 must be a number above 0"):
            self.evaluation(l2=0.0)


if __name__ == "__main__":
    tf.test.main()
