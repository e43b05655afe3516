import tensorflow as tf
from absl.testing import parameterized
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from csml_tf import features
from csml_tf.augment.center_view import CenterView
from csml_tf.errors import InputError
from csml_tf.evaluation import monitors
from tests.evaluation import pixel_encoder
from tests.training import tiny_run


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
        with self.assertRaisesRegex(InputError, "L2 must be above 0"):
            self.evaluation(l2=0.0)


if __name__ == "__main__":
    tf.test.main()
