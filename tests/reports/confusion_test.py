import numpy as np
from absl.testing import absltest

from csml_tf.data.sources import memory
from csml_tf.reports import confusion
from csml_tf.reports.measurements import Measurement
from csml_tf.reports.part import LeftOut
from csml_tf.reports.trained_features import ImageFeatures
from tests.evaluation.protocol_card_test import make_card

# True class, number of the corner that its features lie in.
TEST = [(0, 0), (0, 0), (0, 1), (1, 1), (2, 2), (2, 0)]


def make_features(labels, corners, name="dots"):
    source = memory.MemorySource(np.zeros([len(labels), 1, 1], np.uint8), labels, None, name)
    return ImageFeatures(source, np.eye(3, dtype=np.float32)[np.asarray(corners)])


class ByProbeTest(absltest.TestCase):
    def test_counts(self):
        train = make_features([0, 1, 2] * 5, [0, 1, 2] * 5)
        test = make_features(*zip(*TEST), name="unseen")
        matrix, caption = confusion.by_probe(test, train, seed=0)
        self.assertEqual(matrix.tolist(), [[2, 1, 0], [0, 1, 0], [1, 0, 1]])
        self.assertRegex(caption, "features of 15 images of dots, tested on 6 of unseen: 66.7% ")

    def test_left_out(self):
        train = make_features([0, 1, 2], [0, 1, 2])
        for labels, reason in (
            (None, "needs labels"),
            ([0, 1, -1], "lacks some"),
            ([0, 1, 3], "1 class that dots lacks"),
        ):
            with self.subTest(reason):
                test = make_features([0, 1, 2], [0, 1, 2])
                test.source.labels = None if labels is None else np.array(labels)
                with self.assertRaisesRegex(LeftOut, reason):
                    confusion.by_probe(test, train, seed=0)
        many = make_features(range(41), [0] * 41)
        with self.assertRaisesRegex(LeftOut, "41 classes cannot be read"):
            confusion.by_probe(many, many, seed=0)


class OfCardsTest(absltest.TestCase):
    def test_first_that_has_a_matrix(self):
        results = [
            {"top1": 0.5},
            {"confusion": [[3, 1], [0, 4]], "top1": 0.875},
            {"confusion": [[1, 0], [0, 1]]},
        ]
        cards = [Measurement("x.json", make_card(result)) for result in results]
        matrix, caption = confusion.of_cards(cards)
        self.assertEqual(matrix.tolist(), [[3, 1], [0, 4]])
        self.assertStartsWith(caption, "Measured by knn top1 87.50% (k=5+20")
        self.assertIsNone(confusion.of_cards(cards[:1]))


class DrawTest(absltest.TestCase):
    def test_per_cent_of_each_row(self):
        figure = confusion.draw(np.array([[3.0, 1, 0], [0, 0, 0], [0, 1, 199]]), ("a", "b", "c"))
        axes = figure.axes[0]
        shown = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
        self.assertEqual(shown, {(0, 0): "75", (0, 1): "25", (2, 1): "0", (2, 2): "100"})
        np.testing.assert_allclose(
            axes.images[0].get_array(), [[75, 25, 0], [0, 0, 0], [0, 0.5, 99.5]]
        )
        self.assertEqual([label.get_text() for label in axes.get_yticklabels()], ["a", "b", "c"])

    def test_many_classes_without_numbers(self):
        self.assertEmpty(confusion.draw(np.eye(16), None).axes[0].texts)


if __name__ == "__main__":
    absltest.main()
