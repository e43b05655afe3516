import functools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data import labelled_batches
from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from csml_tf.evaluation.linear import heads, held_out, protocol
from tests.evaluation import pixel_encoder
from tests.evaluation.linear import heads_test

BATCH = 32
RATES = [0.5, 0.001]


@functools.cache
def read_batches(epoch, seed):
    """What the training sees: a list of ([BATCH, 64] pixels, [BATCH] indices)."""
    train, _ = pixel_encoder.make_sources()
    batches = labelled_batches.make_labelled_epoch(
        *(train, labelled_batches.make_crop_and_flip(8), BATCH, seed, epoch),
        labels=np.arange(len(train)),
    )
    return [(x[..., 0].reshape([BATCH, 64]), indices) for x, indices in batches.as_numpy_iterator()]


def loop_scores(train, test, peak, seed, is_seen):
    """The whole protocol of one learning rate, from the batches on: scores of `test`'s images."""
    kernel = heads.LinearHeads(64, 10, 1, seed).kernel.numpy()[:, 0]
    weights = kernel, np.zeros(10)
    buffers = [np.zeros([64, 10]), np.zeros(10)]
    steps = [
        (rate * peak, x, train.labels[indices], is_seen[indices].astype(float))
        for epoch, rate in enumerate([1.0, 1.0, 1.0, 0.1, 0.01])
        for x, indices in read_batches(epoch, seed)
    ]
    for rate, *batch in steps:
        # One plain step from zero momentum gives the gradient.
        stepped = heads_test.loop_train(*weights, [batch], 1.0)
        gradients = [before - after for before, after in zip(weights, stepped)]
        buffers = [0.9 * buffer + gradient for buffer, gradient in zip(buffers, gradients)]
        weights = [before - rate * buffer for before, buffer in zip(weights, buffers)]
    return pixel_encoder.pixels(test) @ weights[0] + weights[1]


def top_k(scores, labels, k):
    return np.mean([label in row for label, row in zip(labels, np.argsort(-scores)[:, :k])])


class MeasureTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.outcome = cls.measure(epochs=5, seeds=2)
        cls.quick = cls.measure().result

    @staticmethod
    def measure(sources=None, **options):
        options = {"epochs": 1, "batch_size": BATCH, "learning_rate": RATES, **options}
        sources = sources or pixel_encoder.make_sources()
        return protocol.measure(pixel_encoder.PixelEncoder(), *sources, **options)

    def test_matches_loops(self):
        train, test = pixel_encoder.make_sources()
        rows = self.outcome.result["grid"]
        hidden = held_out.draw(train.labels)
        every = np.ones(len(train), bool)
        self.assertLen(rows, 4)
        for row in rows:
            settings = row["learning_rate"], row["seed"]
            scores = loop_scores(train, test, *settings, every)
            self.assertAlmostEqual(row["top1"], top_k(scores, test.labels, 1))
            self.assertAlmostEqual(row["top5"], top_k(scores, test.labels, 5))
            hidden_source = train.subset(np.flatnonzero(hidden))
            scores = loop_scores(train, hidden_source, *settings, ~hidden)
            self.assertAlmostEqual(row["held_out_top1"], top_k(scores, hidden_source.labels, 1))

    def test_summary(self):
        result = self.outcome.result
        rows = result["grid"]
        means = [
            np.mean([row["held_out_top1"] for row in rows if row["learning_rate"] == rate])
            for rate in RATES
        ]
        self.assertEqual(result["learning_rate"], RATES[np.argmax(means)])
        for row in rows:
            self.assertEqual(row["chosen"], row["learning_rate"] == result["learning_rate"])
        for k in (1, 5):
            first, second = (
                row[f"top{k}"] for row in rows if row["learning_rate"] == result["learning_rate"]
            )
            self.assertAlmostEqual(result[f"top{k}"], (first + second) / 2)
            self.assertAlmostEqual(result[f"top{k}_std"], abs(first - second) / np.sqrt(2))

    def test_the_held_out_images_choose_and_not_the_test_images(self):
        train, test = pixel_encoder.make_sources()
        # Labels that nobody can guess: what is best there is best by accident.
        noise = np.random.default_rng(0).integers(0, 10, len(test))
        images = test.read(np.arange(len(test))).numpy()
        other = memory.MemorySource(images, noise, name="noise")
        result = self.measure((train, other)).result
        self.assertEqual(result["learning_rate"], self.quick["learning_rate"])
        for row, quick in zip(result["grid"], self.quick["grid"]):
            self.assertEqual(row["held_out_top1"], quick["held_out_top1"])
            self.assertNotEqual(row["top1"], quick["top1"])

    def test_layers_side_by_side_are_as_alone(self):
        layers = ["stage1", "features"]
        result = self.measure(layer=layers, stage_features=12).result
        stage = self.measure(layer=["stage1"], stage_features=12).result
        for layer, alone in zip(layers, (stage, self.quick)):
            own = [row for row in result["grid"] if row["layer"] == layer]
            self.assertEqual(own, alone["grid"])
            for figure in ("top1", "top5", "learning_rate"):
                self.assertEqual(result[f"{layer}_{figure}"], alone[figure])
        self.assertNotIn("top1", result)

    def test_one_rate_needs_no_choice(self):
        outcome = self.measure(learning_rate=[0.5])
        self.assertEqual(outcome.settings["choice"], held_out.NO_CHOICE)
        (row,) = outcome.result["grid"]
        self.assertNotIn("held_out_top1", row)
        self.assertEqual(row["top1"], self.quick["grid"][0]["top1"])

    def test_replicas_share_the_work(self):
        strategy = tf.distribute.MirroredStrategy(
            ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
        )
        with strategy.scope():
            self.assertEqual(self.measure().result, self.quick)

    def test_settings_say_everything(self):
        settings = self.outcome.settings
        self.assertEqual(settings["layer"], ["features:64"])
        self.assertEqual(settings["times_0.1_after"], [3, 4])
        self.assertEqual(settings["test_view"], "shorter side 8 px, centre 8 px")
        numbers = [settings[name] for name in ("batch_size", "epochs", "seeds", "learning_rate")]
        self.assertEqual(numbers, [BATCH, 5, 2, RATES])
        self.assertEqual(settings["choice"], held_out.CHOICE)

    def test_batch_of_a_set_that_is_smaller(self):
        self.assertEqual(self.measure(batch_size=256).settings["batch_size"], 100)

    def test_chance_level_on_noise(self):
        rng = np.random.default_rng(0)
        sources = [
            memory.MemorySource(rng.integers(0, 256, [n, 8, 8], np.uint8), rng.integers(0, 10, n))
            for n in (500, 1000)
        ]
        result = self.measure(sources, learning_rate=[0.1]).result
        self.assertBetween(result["top1"], 0.06, 0.14)
        self.assertBetween(result["top5"], 0.44, 0.56)

    @parameterized.parameters(
        ({"learning_rate": [1.0, 0.0]}, "--learning_rate must be a number above 0, got 0.0"),
        ({"learning_rate": [float("nan")]}, "above 0, got nan"),
        ({"epochs": 0}, "--epochs must be a whole number from 1, got 0"),
        ({"batch_size": -1}, "--batch_size must be a whole number from 1, got -1"),
        ({"seeds": 0}, "--seeds must be a whole number from 1, got 0"),
    )
    def test_rejects(self, options, message):
        with self.assertRaisesRegex(InputError, message):
            self.measure(**options)

    def test_rejects_labels(self):
        train, _ = pixel_encoder.make_sources()
        images = np.zeros([4, 8, 8], np.uint8)
        nameless = memory.MemorySource(images, name="nameless")
        lonely = memory.MemorySource(images, [0] * 4, name="lonely")
        foreign = memory.MemorySource(images, [11] * 4, name="foreign")
        for sources, message in (
            ((nameless, train), "needs labels, and nameless has none"),
            ((lonely, train), "lonely has one class only"),
            ((train, foreign), r"foreign has 1 class that train lacks"),
        ):
            with self.assertRaisesRegex(InputError, message):
                self.measure(sources)

    def test_rejects_features_that_are_not_finite(self):
        class Broken(pixel_encoder.PixelEncoder):
            def all_maps(self, layers):
                return lambda images: {layer: images[:, 0, :, 0] / 0.0 for layer in layers}

        with self.assertRaisesRegex(InputError, "The layer features has values that are not fin"):
            protocol.measure(Broken(), *pixel_encoder.make_sources(), epochs=1)


if __name__ == "__main__":
    tf.test.main()
