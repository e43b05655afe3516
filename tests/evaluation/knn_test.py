import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from sklearn.neighbors import KNeighborsClassifier

from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from csml_tf.evaluation import knn
from tests.evaluation.pixel_encoder import PixelEncoder


def loop_classify(train_features, train_labels, test_features, k, temperature):
    predicted = []
    for query in test_features:
        cosines = [
            query @ key / (np.linalg.norm(query) * np.linalg.norm(key)) for key in train_features
        ]
        votes = np.zeros(max(train_labels) + 1)
        for i in np.argsort(cosines)[-k:]:
            votes[train_labels[i]] += np.exp(cosines[i] / temperature)
        predicted.append(votes.argmax())
    return predicted


class ClassifyTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        centers = rng.normal(size=[4, 6])
        self.train_labels = rng.integers(0, 4, 200)
        self.test_labels = rng.integers(0, 4, 100)
        self.train = (centers[self.train_labels] + rng.normal(size=[200, 6])).astype("float32")
        self.test = (centers[self.test_labels] + rng.normal(size=[100, 6])).astype("float32")

    def classify(self, k, temperature):
        return knn.classify(self.train, self.train_labels, self.test, k, temperature)

    @parameterized.product(k=[1, 5, 20, 200], temperature=[0.07, 0.1, 1.0])
    def test_matches_loops(self, k, temperature):
        expected = loop_classify(self.train, self.train_labels, self.test, k, temperature)
        self.assertAllEqual(self.classify(k, temperature), expected)

    @parameterized.product(k=[1, 5, 20, 200], temperature=[0.1, 1.0])
    def test_matches_scikit_learn(self, k, temperature):
        model = KNeighborsClassifier(
            k, weights=lambda distances: np.exp((1 - distances) / temperature), metric="cosine"
        )
        expected = model.fit(self.train, self.train_labels).predict(self.test)
        self.assertAllEqual(self.classify(k, temperature), expected)
        self.assertGreater(np.mean(expected == self.test_labels), 0.5)

    def test_cosines_that_float32_cannot_tell_apart(self):
        rng = np.random.default_rng(1)
        train, test = ((10 + 0.02 * rng.normal(size=[n, 32])).astype("float32") for n in (300, 200))
        labels = rng.integers(0, 4, 300)
        for k in (3, 20):
            expected = loop_classify(train.astype(float), labels, test.astype(float), k, 0.1)
            self.assertAllEqual(knn.classify(train, labels, test, k, 0.1), expected)

    def test_length_does_not_count(self):
        before = self.classify(20, 0.1)
        self.train *= np.linspace(0.01, 100, 200, dtype=np.float32)[:, None]
        self.assertAllEqual(self.classify(20, 0.1), before)

    def test_low_temperature_is_the_nearest_neighbor(self):
        # exp(1 / 1e-4) is far above the largest float.
        self.assertAllEqual(self.classify(20, 1e-4), self.classify(1, 1.0))

    def test_by_hand(self):
        # Cosines 1, 0.8 and 0.8: one near vote of class 1 against two far ones of class 0.
        train = np.float32([[1, 0], [0.8, 0.6], [0.8, -0.6]])
        arguments = (train, [1, 0, 0], np.float32([[2, 0]]), 3)
        self.assertAllEqual(knn.classify(*arguments, temperature=0.1), [1])  # e^10 > 2 e^8.
        self.assertAllEqual(knn.classify(*arguments, temperature=1.0), [0])  # e < 2 e^0.8.

    def test_rejects(self):
        with self.assertRaisesRegex(ValueError, "above 0, got 0"):
            self.classify(5, 0)
        with self.assertRaisesRegex(ValueError, "k must be from 1 to the 200"):
            self.classify(201, 0.1)


class MeasureTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        digits = memory.load_digits()
        self.sources = digits.subset(range(100), "train"), digits.subset(range(100, 150), "test")

    def expected(self, k, temperature, cut=slice(None), sources=None):
        sources = sources or self.sources
        train, test = (
            np.stack([s.read(i).numpy()[cut].ravel() for i in range(len(s))]).astype(float)
            for s in sources
        )
        labels = loop_classify(train, sources[0].labels, test, k, temperature)
        return np.mean(labels == sources[1].labels)

    def test_grid(self):
        outcome = knn.measure(
            PixelEncoder(),
            *self.sources,
            layer=["features", "upper"],
            k=[7, 3],
            temperature=[0.1, 9.0],
        )
        rows = outcome.result["grid"]
        self.assertLen(rows, 8)
        for row in rows:
            cut = slice(4) if row["layer"] == "upper" else slice(None)
            self.assertAlmostEqual(row["top1"], self.expected(row["k"], row["temperature"], cut))
        self.assertEqual(
            {(row["layer"], row["k"], row["temperature"]) for row in rows},
            {(a, b, c) for a in ("features", "upper") for b in (3, 7) for c in (0.1, 9.0)},
        )
        self.assertNotIn("top1", outcome.result)

    def test_one_pass_for_all_layers(self):
        reads = []

        class CountingEncoder(PixelEncoder):
            def encode_layers(self, layers):
                encode = super().encode_layers(layers)
                return lambda images: reads.append(len(images)) or encode(images)

        knn.measure(CountingEncoder(), *self.sources, layer=["features", "upper", "features"])
        self.assertEqual(sum(reads), 150)

    def test_one_point(self):
        outcome = knn.measure(PixelEncoder(), *self.sources)
        self.assertEqual(outcome.settings["k"], [20])
        self.assertEqual(outcome.result, {"top1": self.expected(20, 0.1), "near_duplicates": 0})
        self.assertEmpty(outcome.notes)

    def test_without_near_duplicates(self):
        """Two of five test images are training images: the figure is also that of the others."""
        digits = memory.load_digits()
        train = digits.subset(range(100), "train")
        test = digits.subset([100, 3, 101, 102, 5], "test")
        # The nearest one votes: a copy is always right.
        outcome = knn.measure(PixelEncoder(), train, test, k=[1])
        others = self.expected(1, 0.1, sources=(train, digits.subset([100, 101, 102])))
        self.assertEqual(outcome.result["near_duplicates"], 2)
        self.assertAlmostEqual(outcome.result["top1"], (2 + 3 * others) / 5)
        self.assertAlmostEqual(outcome.result["top1_without_near_duplicates"], others)
        self.assertEqual(
            outcome.notes,
            (
                "2 of 5 test images are also training images, or nearly: without them top1 is "
                f"{others:.2%}.",
            ),
        )
        lines = outcome.files["near_duplicates.csv"].splitlines()
        self.assertEqual(
            [line.split(",")[:2] for line in lines[1:]],
            [["test[1]", "train[3]"], ["test[4]", "train[5]"]],
        )
        for row in knn.measure(PixelEncoder(), train, test, k=[1, 7]).result["grid"]:
            self.assertIn("top1_without_near_duplicates", row)
        blind = knn.measure(PixelEncoder(), train, test, k=[1], near_duplicates=False)
        self.assertEqual(blind.result, {"top1": outcome.result["top1"]})
        copies = knn.measure(PixelEncoder(), train, train.subset([1, 2], "some"), k=[1])
        self.assertEqual(copies.result, {"top1": 1.0, "near_duplicates": 2})
        self.assertIn("test on images that training has not seen", copies.notes[0])

    def test_rejects(self):
        for options, message in (
            ({"k": [5, 101]}, "from 1 to the 100 images of train, got 101"),
            ({"temperature": [0.1, 0.0]}, "above 0, got 0"),
        ):
            with self.assertRaisesRegex(InputError, message):
                knn.measure(PixelEncoder(), *self.sources, **options)


if __name__ == "__main__":
    tf.test.main()
