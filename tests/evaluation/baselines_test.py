import numpy as np
import tensorflow as tf

from csml_tf.errors import InputError
from csml_tf.evaluation import baselines, knn
from tests.evaluation import pixel_encoder
from tests.evaluation.knn_test import loop_classify


class Encoder(pixel_encoder.PixelEncoder):
    """Counts the networks that it is asked for."""

    def __init__(self, shift=0):
        self.shift = shift
        self.asked = []

    def untrained(self, seed=0):
        self.asked.append(seed)
        return super().untrained(seed + self.shift)


class BaselinesTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.sources = pixel_encoder.make_sources()
        self.calls = []

    def protocol(self, *arguments, layer):
        self.calls.append(layer)
        return knn.measure(*arguments, layer=layer, k=[5], near_duplicates=False)

    def expected(self, make):
        train, test = (
            np.stack([make(row.reshape([8, 8])) for row in pixel_encoder.pixels(source)])
            for source in self.sources
        )
        labels = [source.labels for source in self.sources]
        return np.mean(loop_classify(train, labels[0], test, 5, 0.1) == labels[1])

    def measure(self, measured, encoder, name="knn"):
        return measured.measure(encoder, name, self.protocol, "top1")

    def test_figures(self):
        figures = self.measure(baselines.Baselines(*self.sources), Encoder())
        self.assertAlmostEqual(figures["pixels"], self.expected(np.ravel))

        def histogram(image):  # Grey: one bin for each eighth.
            counts = np.bincount(np.minimum(np.ravel(image) * 8, 7).astype(int), minlength=8)
            return np.sqrt(counts)

        self.assertAlmostEqual(figures["color_histogram"], self.expected(histogram))
        draws = [self.expected(lambda image, s=s: image[s : s + 2].ravel()) for s in range(3)]
        self.assertAlmostEqual(figures["untrained"], np.mean(draws))
        self.assertAlmostEqual(figures["untrained_std"], np.std(draws, ddof=1))

    def test_each_is_measured_once(self):
        measured = baselines.Baselines(*self.sources)
        first = self.measure(measured, Encoder())
        self.assertLen(self.calls, 2)
        self.assertEqual(self.measure(measured, Encoder()), first)
        self.assertLen(self.calls, 2)
        # Another network has the same pixels.
        other = self.measure(measured, Encoder(shift=3))
        self.assertLen(self.calls, 3)
        self.assertEqual(other["pixels"], first["pixels"])
        self.assertNotEqual(other["untrained"], first["untrained"])
        # Another protocol has other figures.
        self.measure(measured, Encoder(), "retrieval")
        self.assertLen(self.calls, 5)

    def test_a_model_without_layers_has_no_untrained_weights(self):
        class Foreign(Encoder):
            def untrained(self, seed=0):
                raise InputError("It has no Keras layers.")

        with self.assertLogs("absl", "WARNING") as logs:
            figures = self.measure(baselines.Baselines(*self.sources), Foreign())
        self.assertEqual(list(figures), ["pixels", "color_histogram"])
        self.assertIn("Untrained weights are not measured: It has no", logs.output[0])


class JudgeTest(tf.test.TestCase):
    def test_the_best_one_is_named_where_it_is_ahead(self):
        figures = {"pixels": 0.5, "color_histogram": 0.25, "untrained": 0.25, "untrained_std": 0.9}
        self.assertIsNone(baselines.judge(0.5, figures))
        self.assertStartsWith(
            baselines.judge(0.4972, figures), "Raw pixels are ahead of the encoder by 0.28 points: "
        )
        self.assertNotIn("keep_colors", baselines.judge(0.4972, figures))
        sentence = baselines.judge(0.1, {**figures, "color_histogram": 0.75})
        self.assertStartsWith(
            sentence, "A color histogram is ahead of the encoder by 65.00 points: "
        )
        self.assertEndsWith(
            sentence,
            "views that keep them: --gin_file=base/keep_colors.gin after the recipe's.",
        )
        self.assertStartsWith(
            baselines.judge(0.1, {**figures, "untrained": 0.75}),
            "Untrained weights are ahead of the encoder by 65.00 points: ",
        )


if __name__ == "__main__":
    tf.test.main()
