import collections
import csv
import io
import json
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.augment.center_view import CenterView
from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from csml_tf.evaluation import labelled_subset
from csml_tf.evaluation.semi_supervised import protocol
from tests.training import tiny_run


def make_digits(first, stop, labels=None):
    digits = memory.load_digits()
    images = digits.read(np.arange(first, stop)).numpy()
    labels = digits.labels[first:stop] if labels is None else labels
    return memory.MemorySource(images, labels, digits.class_names, f"digits {first} to {stop}")


# Given, so that none are chosen.
RATES = {"backbone_learning_rate": 0.1, "head_learning_rate": 0.1}


class TinyEncoder:
    """Two convolutions, in place of a `FrozenEncoder`; "pretrained" is another draw of weights."""

    center_view = CenterView(8, mean=(0.0,) * 3, std=(1.0,) * 3)

    def network(self):
        return self.untrained_network(99)

    def untrained_network(self, seed):
        tf.keras.utils.set_random_seed(seed)
        images = x = tf.keras.Input([None, None, 3])
        for channels, stride in ((16, 1), (48, 2)):
            x = tf.keras.layers.Conv2D(channels, 3, stride, "same", use_bias=False)(x)
            x = tf.keras.layers.BatchNormalization(momentum=0.9)(x)
            x = tf.keras.layers.ReLU()(x)
        return tf.keras.Model(images, tf.keras.layers.GlobalAveragePooling2D()(x))


class MeasureTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.encoder = TinyEncoder()
        cls.train, cls.test = make_digits(0, 600), make_digits(600, 1000)

    def setUp(self):
        super().setUp()
        self.folder = tiny_run.make_temp_dir(self.addCleanup)

    def measure(self, train=None, test=None, **settings):
        return protocol.measure(self.encoder, train or self.train, test or self.test, **settings)

    def test_end_to_end(self):
        outcome = self.measure(
            labels=0.5,
            seeds=2,
            epochs=30,
            batch_size=64,
            backbone_learning_rate=0.1,
            head_learning_rate=0.5,
            scratch_learning_rate=0.1,
            from_scratch=True,
            self_training=True,
            kept_share=0.6,
            retrain_epochs=10,
        )
        settings, result = outcome.settings, outcome.result
        self.assertEqual(settings["labels"], "300 of 600 images, 0.5, drawn with seed 0")
        self.assertEqual((settings["epochs"], settings["steps"]), (30, 30 * (300 // 64)))
        self.assertEqual(settings["pseudo_labels"], "the 0.6 share of lowest entropy")
        # Ten classes: chance is 10 %.
        for name in ("top1", "self_trained_top1", "from_scratch_top1"):
            self.assertGreater(result[name], 0.4)
        self.assertGreater(result["top5"], 0.8)

        runs = collections.defaultdict(list)
        for row in result["runs"]:
            runs[row["trained"]].append(row)
        self.assertEqual(set(runs), {"fine_tuned", "self_trained", "from_scratch"})
        for name, rows in runs.items():
            prefix = "" if name == "fine_tuned" else f"{name}_"
            scores = [row["top1"] for row in rows]
            self.assertLen(scores, 2)
            self.assertAllClose(result[f"{prefix}top1"], sum(scores) / 2)
            self.assertAllClose(result[f"{prefix}top1_std"], abs(scores[0] - scores[1]) / 2**0.5)
        self.assertEqual({row["images"] for row in runs["from_scratch"]}, {300})
        self.assertEqual({row["images"] for row in runs["self_trained"]}, {300 + 180})
        self.assertEqual({row["steps"] for row in runs["self_trained"]}, {10 * (480 // 64)})

        (self.folder / "labels.json").write_text(outcome.files["labels.json"])
        labelled = labelled_subset.load(self.folder / "labels.json", self.train)
        self.assertLen(labelled, 300)
        for row in result["pseudo_labels"]:
            guesses = outcome.files[f"pseudo_labels_{row['seed']}.csv"]
            guesses = list(csv.DictReader(io.StringIO(guesses)))
            self.assertLen(guesses, 180)
            self.assertEqual((row["kept"], row["unlabelled"]), (180, 300))
            indices = [int(guess["index"]) for guess in guesses]
            self.assertEmpty(set(indices) & set(labelled.tolist()))
            right = [int(g["label"]) == self.train.labels[i] for g, i in zip(guesses, indices)]
            self.assertAllClose(row["accuracy"], np.mean(right))
            self.assertGreater(row["accuracy"], row["accuracy_of_all"])  # What entropy is for.
            entropies = [float(guess["entropy_nats"]) for guess in guesses]
            self.assertAllClose(row["highest_entropy"], max(entropies), rtol=1e-4)

    def test_rates_are_chosen_and_those_given_kept(self):
        outcome = self.measure(
            **{"labels": 0.2, "seeds": 1, "epochs": 6, "batch_size": 32},
            **{"head_learning_rate": 0.7, "from_scratch": True},
        )
        rows = outcome.result["learning_rates"]
        tuned, scratch = (
            [row for row in rows if row["trained"] == trained]
            for trained in ("fine_tuned", "from_scratch")
        )
        self.assertEqual(
            [(row["backbone_learning_rate"], row["head_learning_rate"]) for row in tuned],
            [(rate, 0.7) for rate in (0.1, 0.03, 0.01, 0.3)],
        )
        self.assertEqual([row["backbone_learning_rate"] for row in scratch], [0.1, 0.03, 0.3])
        for kind, name in ((tuned, "backbone_learning_rate"), (scratch, "scratch_learning_rate")):
            (chosen,) = [row for row in kind if row["chosen"]]
            self.assertEqual(chosen["held_out_top1"], max(row["held_out_top1"] for row in kind))
            self.assertEqual(outcome.settings[name], chosen["backbone_learning_rate"])
        self.assertEqual(outcome.settings["head_learning_rate"], 0.7)
        self.assertIn("on a held-out fifth of the labelled images", outcome.settings["choice"])

    def test_says_when_fresh_weights_are_ahead(self):
        """A backbone that stands still under a head that stands still knows nothing."""
        outcome = self.measure(
            **{"labels": 0.5, "seeds": 1, "epochs": 15, "batch_size": 64, "from_scratch": True},
            **{"backbone_learning_rate": 0.0, "head_learning_rate": 0.0},
            scratch_learning_rate=0.1,
        )
        ahead = 100 * (outcome.result["from_scratch_top1"] - outcome.result["top1"])
        self.assertGreater(ahead, 10)
        self.assertStartsWith(
            outcome.notes[0],
            f"Fine-tuning ends {ahead:.2f} points below training from scratch: with these labels",
        )
        self.assertEqual(outcome.settings["choice"], "none, one value given")
        self.assertNotIn("learning_rates", outcome.result)
        self.assertEmpty(protocol._judge({"top1": 0.5, "from_scratch_top1": 0.5}))
        self.assertEmpty(protocol._judge({"top1": 0.5}))

    def test_images_without_label_are_used_without(self):
        labels = np.where(np.arange(600) < 200, self.train.labels, -1)
        source = make_digits(0, 600, labels)
        outcome = self.measure(
            *(source, None),
            **{"seeds": 1, "epochs": 1, "self_training": True, "kept_share": 0.5},
            **{"retrain_epochs": 1, **RATES},
        )
        self.assertEqual(outcome.settings["labels"], "200 of 600 images, all there are")
        (row,) = outcome.result["pseudo_labels"]
        self.assertEqual((row["unlabelled"], row["kept"]), (400, 200))
        self.assertNotIn("accuracy", row)
        self.assertNotIn("top1_std", outcome.result)

    def test_default_budget(self):
        """Enough steps on a small set, 20 epochs on a larger one; the batch fits."""
        for count, batch_size, expected in ((30, 128, (500, 30)), (600, 8, (20, 8))):
            source = make_digits(0, 600).subset(range(count))
            with self.subTest(count), self.assertRaises(StopAsSoonAsPlanned) as stop:
                self.capture_plan(source, batch_size)
            plan = stop.exception.plan
            self.assertEqual((plan.epochs, plan.batch_size), expected)

    def capture_plan(self, source, batch_size):
        def stop(*arguments):
            raise StopAsSoonAsPlanned(arguments[-1])

        with mock.patch.object(protocol.Trials, "run", stop):
            self.measure(source, seeds=1, batch_size=batch_size, **RATES)

    def test_labels_of_a_file(self):
        path = self.folder / "sixty.json"
        chosen = np.arange(60) * 7
        path.write_text(labelled_subset.to_json(self.train, chosen, "every seventh"))
        outcome = self.measure(labels_file=str(path), seeds=1, epochs=1, **RATES)
        self.assertIn("60 of 600 images, listed in", outcome.settings["labels"])
        self.assertEqual(json.loads(outcome.files["labels.json"])["indices"], chosen.tolist())

    def test_rejects(self):
        one_class = make_digits(0, 600, np.zeros(600, int))
        unlabelled = memory.MemorySource(np.zeros([30, 8, 8], np.uint8), name="nameless")
        for sources, settings, message in (
            ((unlabelled, None), {"labels": 0.1}, "needs labels, and nameless has none"),
            ((None, unlabelled), {"labels": 0.1}, "needs labels, and nameless has none"),
            ((one_class, None), {"labels": 0.1}, "has one class only"),
            ((None, None), {"labels": 0.005}, "leaves 7 of 10 classes without any"),
            ((None, None), {"max_entropy": 0.5}, "--max_entropy is of self-training: give"),
            ((None, None), {"balance_classes": True}, "--balance_classes is of self-training"),
            ((None, None), {"self_training": True}, "is labelled, which leaves none for"),
            ((None, None), {"seeds": 0}, "--seeds must be a whole number from 1, got 0"),
            ((None, None), {"epochs": 0}, "--epochs must be a whole number from 1, got 0"),
            ((None, None), {"batch_size": 0}, "--batch_size must be a whole number from 1, got 0"),
            ((None, None), {"head_learning_rate": -1.0}, "a number from 0, got -1.0"),
            ((None, None), {"weight_decay": float("nan")}, "a number from 0, got nan"),
            ((None, None), {"self_training": True, "retrain_epochs": 0}, "from 1, got 0"),
            (
                (None, None),
                {"labels": 0.1, "self_training": True, "max_entropy": 0.1, "kept_share": 0.1},
                "--max_entropy or by --kept_share",
            ),
        ):
            with self.assertRaisesRegex(InputError, message):
                self.measure(*sources, **settings)

    def test_rejects_a_threshold_that_keeps_nothing(self):
        settings = {"labels": 0.1, "seeds": 1, "epochs": 1, "self_training": True, **RATES}
        with self.assertRaisesRegex(InputError, "No pseudo label has an entropy of at most 1e-06"):
            self.measure(max_entropy=1e-6, **settings)


class StopAsSoonAsPlanned(Exception):
    def __init__(self, plan):
        super().__init__()
        self.plan = plan


if __name__ == "__main__":
    tf.test.main()
