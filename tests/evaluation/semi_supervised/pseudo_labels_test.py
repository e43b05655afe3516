import math

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from scipy import special, stats

from csml_tf.augment.center_view import CenterView
from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from csml_tf.evaluation.semi_supervised import pseudo_labels
from csml_tf.evaluation.semi_supervised.pseudo_labels import KeepingRule, PseudoLabels

CLASSES = 4


def loop_select(labels, entropies, max_entropy, kept_share, balance_classes):
    """The docstring of `KeepingRule`, one image at a time, surest first."""
    surest = sorted(range(len(labels)), key=lambda i: (entropies[i], i))
    if max_entropy is not None:
        surest = [i for i in surest if entropies[i] <= max_entropy]
        sizes = [sum(labels[i] == c for i in surest) for c in range(CLASSES)]
        quota = min([size for size in sizes if size > 0], default=0)
    else:
        total = round(kept_share * len(labels))
        quota = round(kept_share * len(labels) / CLASSES)
        if not balance_classes:
            surest = surest[:total]
    kept, count = [], [0] * CLASSES
    for i in surest:
        if not balance_classes or count[labels[i]] < quota:
            kept.append(i)
            count[labels[i]] += 1
    return sorted(kept)


class EntropyTest(tf.test.TestCase):
    def test_matches_scipy(self):
        rng = np.random.default_rng(0)
        logits = rng.normal(size=[50, 7]) * rng.uniform(0.01, 20, [50, 1])
        expected = stats.entropy(special.softmax(logits, axis=1), axis=1)
        actual = pseudo_labels.softmax_entropy(logits.astype("float32"))
        self.assertAllClose(actual, expected, rtol=1e-4, atol=1e-6)

    def test_limits(self):
        logits = [[0.0, 0, 0, 0], [1000, 0, 0, 0], [1000, 1000, -1000, 0], [-1e4, 0, -1e4, -1e4]]
        entropy = pseudo_labels.softmax_entropy(tf.constant(logits))
        self.assertAllClose(entropy, [math.log(4), 0.0, math.log(2), 0.0])


class InferTest(tf.test.TestCase):
    def test_labels_and_entropies_in_order(self):
        images = np.random.default_rng(0).integers(0, 256, [300, 4, 4, 3], np.uint8)
        source = memory.MemorySource(images)
        indices = np.arange(299, 0, -2)
        view = CenterView(4, mean=(0.0,) * 3, std=(1.0,) * 3)
        guesses = pseudo_labels.infer(
            lambda x: tf.reduce_mean(x, [1, 2]) * 30.0, source, indices, view
        )
        self.assertAllEqual(guesses.indices, indices)
        logits = images[indices].mean(axis=(1, 2)) / 255 * 30
        self.assertAllEqual(guesses.labels, logits.argmax(axis=1))
        self.assertEqual(guesses.labels.dtype, np.int64)
        expected = stats.entropy(special.softmax(logits, axis=1), axis=1)
        self.assertAllClose(guesses.entropies, expected, rtol=1e-3, atol=1e-4)


class KeepingRuleTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        # Few of class 0, none of class 3; equal entropies among them.
        self.labels = rng.choice(CLASSES, 97, p=[0.1, 0.4, 0.5, 0.0])
        self.entropies = rng.uniform(0, 1.2, 97).round(2)

    @parameterized.product(
        threshold=[(0.3, None), (0.6, None), (2.0, None), (None, 0.25), (None, 0.6), (None, 1.0)],
        balance_classes=[False, True],
    )
    def test_matches_loops(self, threshold, balance_classes):
        kept = KeepingRule(*threshold, balance_classes).select(self.labels, self.entropies, CLASSES)
        expected = loop_select(self.labels, self.entropies, *threshold, balance_classes)
        self.assertNotEmpty(expected)
        self.assertAllEqual(kept, expected)

    def test_by_hand(self):
        labels, entropies = [0, 0, 0, 1, 1, 0], [0.1, 0.2, 0.3, 0.4, 0.5, 0.5]
        for rule, expected in (
            (KeepingRule(max_entropy=0.3), [0, 1, 2]),
            (KeepingRule(max_entropy=0.5), [0, 1, 2, 3, 4, 5]),
            (KeepingRule(max_entropy=0.5, balance_classes=True), [0, 1, 3, 4]),
            (KeepingRule(kept_share=0.5), [0, 1, 2]),
            (KeepingRule(kept_share=0.34, balance_classes=True), [0, 3]),
            (KeepingRule(kept_share=5 / 6), [0, 1, 2, 3, 4]),  # A tie: the first.
            (KeepingRule(kept_share=1.0, balance_classes=True), [0, 1, 2, 3, 4]),
            (KeepingRule(), [0, 1, 2]),  # Half of them.
        ):
            self.assertAllEqual(rule.select(labels, entropies, 2), expected, str(rule))

    def test_says_what_it_does(self):
        self.assertEqual(str(KeepingRule(0.25)), "entropy at most 0.25 nats")
        self.assertEqual(
            str(KeepingRule(None, 0.5, True)),
            "the 0.5 share of lowest entropy, classes balanced",
        )

    def test_rejects(self):
        for arguments, message in (
            ((0.1, 0.5), "--max_entropy or by --kept_share: leave one out"),
            ((-0.1, None), "a number from 0, got -0.1"),
            ((float("nan"), None), "a number from 0, got nan"),
            ((None, 0.0), "above 0 and at most 1, got 0.0"),
            ((None, 1.1), "above 0 and at most 1, got 1.1"),
        ):
            with self.assertRaisesRegex(InputError, message):
                KeepingRule(*arguments)

    def test_rejects_to_keep_nothing(self):
        for rule, message in (
            (KeepingRule(0.05), "at most 0.05 nats, the lowest is 0.1, half are below 0.3: raise"),
            (KeepingRule(0.05, balance_classes=True), "at most 0.05 nats"),
            (KeepingRule(None, 0.01), "--kept_share=0.01 of 3 unlabelled images keeps none"),
        ):
            with self.assertRaisesRegex(InputError, message):
                rule.select([0, 1, 1], [0.1, 0.3, 0.4], 2)


class PseudoLabelsTest(tf.test.TestCase):
    guesses = PseudoLabels(
        np.array([3, 5, 6, 7, 9]), np.array([0, 1, 1, 2, 2]), np.float32([0.5, 0.1, 0.25, 0.9, 0.3])
    )

    def make_source(self, *truth):
        labels = np.full(10, -1)
        labels[self.guesses.indices] = truth
        return memory.MemorySource(np.zeros([10, 2, 2], np.uint8), labels)

    def test_keep(self):
        kept = self.guesses.keep(KeepingRule(max_entropy=0.4), 3)
        self.assertAllEqual(kept.indices, [5, 6, 9])
        self.assertAllEqual(kept.labels, [1, 1, 2])
        self.assertAllClose(kept.entropies, [0.1, 0.25, 0.3])
        self.assertLen(kept, 3)

    def test_assess(self):
        kept = self.guesses.keep(KeepingRule(max_entropy=0.4), 3)
        row = pseudo_labels.assess(self.guesses, kept, self.make_source(0, 1, 2, 2, -1))
        self.assertEqual((row["unlabelled"], row["kept"]), (5, 3))
        self.assertEqual((row["rarest_class"], row["commonest_class"]), (0, 2))
        self.assertAllClose(row["highest_entropy"], 0.3)
        self.assertEqual((row["accuracy"], row["accuracy_of_all"]), (1 / 2, 3 / 4))

    def test_assess_without_truth(self):
        kept = self.guesses.keep(KeepingRule(max_entropy=0.4), 3)
        row = pseudo_labels.assess(self.guesses, kept, self.make_source(0, -1, -1, 2, -1))
        self.assertNotIn("accuracy", row)

    def test_csv(self):
        text = self.guesses.keep(KeepingRule(max_entropy=0.25), 3).to_csv()
        self.assertEqual(text, "index,label,entropy_nats\n5,1,0.1\n6,1,0.25\n")


if __name__ == "__main__":
    tf.test.main()
