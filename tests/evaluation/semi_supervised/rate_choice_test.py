import dataclasses

import numpy as np
import tensorflow as tf

from csml_tf.augment.center_view import CenterView
from csml_tf.data.sources import memory
from csml_tf.evaluation.linear import held_out
from csml_tf.evaluation.semi_supervised import fine_tuning, rate_choice
from tests.evaluation.semi_supervised import fine_tuning_test

LABELS = np.arange(40) % 4
VIEW = CenterView(2, mean=(0.0,) * 3, std=(1.0,) * 3)


class FakeClassifier:
    """Right about so many of the held-out images as its rates say, and as sure as they say."""

    def __init__(self, outcomes):
        self.outcomes = outcomes  # {(backbone, head): (how many are right, how sure)}
        self.seen = []

    def start(self, weights, seed):
        self.started = weights, seed

    def train(self, source, labels, plan, seed, description):
        self.seen.append((source, plan))
        self.outcome = self.outcomes[plan.backbone_learning_rate, plan.head_learning_rate]
        if self.outcome is None:
            raise fine_tuning.Diverged("The loss is no number any more.")

    def logits(self, images):
        label = tf.cast(tf.round(images[:, 0, 0, 0] * 255.0), tf.int32)
        num_right, sure = self.outcome
        told = tf.where(tf.range(len(images)) < num_right, label, (label + 1) % 4)
        return sure * tf.one_hot(told, 4)


class ChooseTest(tf.test.TestCase):
    def choose(self, outcomes, pairs=None):
        images = np.tile(LABELS.astype(np.uint8)[:, None, None], [1, 2, 2])
        self.source = memory.MemorySource(images, LABELS)
        self.classifier = FakeClassifier(outcomes)
        return rate_choice.choose(
            *(self.classifier, "from_scratch", "weights", self.source),
            fine_tuning_test.make_plan(epochs=30, batch_size=16),
            *(pairs or list(outcomes), lambda source: len(source) // 2, VIEW),
        )

    def test_the_held_out_images_decide(self):
        outcomes = {(0.1, 0.1): (3, 1.0), (0.2, 0.3): (6, 1.0), (0.5, 0.5): (5, 9.0)}
        plan, rows = self.choose(outcomes)
        expected = fine_tuning_test.make_plan(epochs=30, batch_size=16)
        rates = {"backbone_learning_rate": 0.2, "head_learning_rate": 0.3}
        changed = {**rates, "augmentation": plan.augmentation}
        self.assertEqual(plan, dataclasses.replace(expected, **changed))
        # A fifth of 40 images is held out.
        self.assertAllClose([row["held_out_top1"] for row in rows], [3 / 8, 6 / 8, 5 / 8])
        self.assertEqual([row["chosen"] for row in rows], [False, True, False])
        self.assertEqual({row["trained"] for row in rows}, {"from_scratch"})
        self.assertEqual(self.classifier.started, ("weights", 0))
        hidden = held_out.draw(LABELS)
        for source, short in self.classifier.seen:
            self.assertAllEqual(source.labels, LABELS[~hidden])
            self.assertEqual((short.epochs, short.batch_size), (10, 16))

    def test_of_equals_the_lower_cross_entropy(self):
        # As often right, but surer where it is right less than where it is wrong.
        plan, _ = self.choose({(0.1, 0.1): (4, 2.0), (0.2, 0.2): (4, 1.0), (0.3, 0.3): (4, 3.0)})
        self.assertEqual(plan.backbone_learning_rate, 0.2)

    def test_what_diverges_is_never_chosen(self):
        plan, rows = self.choose({(0.1, 0.1): None, (0.2, 0.2): (0, 1.0)})
        self.assertEqual(plan.backbone_learning_rate, 0.2)
        self.assertEqual(rows[0]["held_out_top1"], 0.0)

    def test_one_pair_is_taken_as_it_is(self):
        plan, rows = self.choose({}, [(0.7, 0.9)])
        self.assertEqual((plan.backbone_learning_rate, plan.head_learning_rate), (0.7, 0.9))
        self.assertEmpty(rows)
        self.assertEmpty(self.classifier.seen)

    def test_cross_entropy(self):
        logits = np.float32([[2.0, 0.0], [0.0, 1.0]])
        expected = (np.log(1 + np.exp(-2.0)) + np.log(1 + np.exp(1.0))) / 2
        self.assertAlmostEqual(rate_choice._cross_entropy(logits, [0, 0]), expected, places=5)
        self.assertEqual(rate_choice._cross_entropy(np.float32([[np.nan, 0]]), [0]), np.inf)


class CandidatesTest(tf.test.TestCase):
    def test_given_rates_are_kept(self):
        self.assertEqual(rate_choice.candidates(), list(rate_choice.PAIRS))
        self.assertEqual(rate_choice.candidates(0.02, 0.5), [(0.02, 0.5)])
        self.assertEqual(rate_choice.candidates(0.02), [(0.02, 0.02), (0.02, 0.2)])
        heads = {head for _, head in rate_choice.candidates(head=0.5)}
        self.assertEqual(heads, {0.5})


if __name__ == "__main__":
    tf.test.main()
