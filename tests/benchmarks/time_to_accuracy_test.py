import dataclasses
import functools
import json

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from csml_tf import recipes, runs
from csml_tf.benchmarks import time_to_accuracy
from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from csml_tf.training import strategies


@dataclasses.dataclass(frozen=True)
class FakeRecipe:
    make_monitors: object = lambda *pair: ["monitor"]

    def describe(self):
        return "fake.gin"


def fake_pretrain(accuracies, labels=True):
    """A run of 10 images an epoch; an accuracy that is None was not measured."""

    def pretrain(recipe, model_dir, callbacks):
        del model_dir
        (watch,) = callbacks
        watch.set_model(tf.keras.Sequential())
        if labels:
            recipe.make_monitors("train", "test", "view")
        watch.on_train_begin()
        for epoch, top1 in enumerate(accuracies):
            row = {"anchors": 10, "loss": 1.0}
            if top1 is not None:
                row.update(knn_top1=top1, knn_protocol="k=1", knn_seconds=2.0)
            if epoch == 0:
                row["knn_baselines_seconds"] = 0.5
            watch.on_epoch_end(epoch, row)
            if watch.model.stop_training:
                return

    return pretrain


class MeasureTest(tf.test.TestCase, parameterized.TestCase):
    def test_ends_at_the_target(self):
        pretrain = fake_pretrain([None, 0.25, None, 0.5, None, 0.75])
        result = time_to_accuracy.measure(FakeRecipe(), pretrain, 0.5)
        self.assertEqual(json.loads(json.dumps(result)), result)
        seconds = [point.pop("seconds") for point in result["curve"]]
        self.assertBetween(seconds[0], 0, seconds[1])
        self.assertEqual(result.pop("seconds"), seconds[1])
        self.assertGreater(result.pop("peak_rss_mb"), 10)
        self.assertEqual(
            result,
            {
                "bench": "time_to_accuracy",
                "recipe": "fake.gin",
                "target_knn": 0.5,
                "measuring_s": 4.5,
                "epochs": 4,
                "images": 40,
                "knn_top1": 0.5,
                "knn_protocol": "k=1",
                "curve": [
                    {"epoch": 2, "images": 20, "knn_top1": 0.25},
                    {"epoch": 4, "images": 40, "knn_top1": 0.5},
                ],
                "tensorflow": tf.__version__,
            },
        )

    def test_a_recipe_that_ends_below(self):
        with self.assertLogs("absl", "WARNING") as logs:
            result = time_to_accuracy.measure(FakeRecipe(), fake_pretrain([0.3, 0.2]), 0.4)
        self.assertEqual(
            logs.records[0].getMessage(),
            "The recipe ended after 2 epochs, with a kNN top-1 of 0.3000 at best, below the target "
            "of 0.4: raise EPOCHS, or lower --target_knn.",
        )
        self.assertIsNone(result["seconds"])
        self.assertEqual((result["knn_top1"], result["images"]), (0.3, 20))

    def test_without_labels(self):
        with self.assertRaisesRegex(InputError, "cannot be measured without labels: choose"):
            time_to_accuracy.measure(FakeRecipe(), fake_pretrain([None], labels=False), 0.4)

    def test_measured_never(self):
        with self.assertRaisesRegex(InputError, "measured in none of 1 epoch: see the warnings"):
            time_to_accuracy.measure(FakeRecipe(), fake_pretrain([None]), 0.4)

    @parameterized.parameters(0, 1.5, float("nan"))
    def test_targets_out_of_range(self, target):
        with self.assertRaisesRegex(InputError, "--target_knn must be"):
            time_to_accuracy.measure(FakeRecipe(), fake_pretrain([0.5]), target)


class RunTest(tf.test.TestCase):
    def recipe(self, *bindings):
        small = ("WIDTH = 1", "GLOBAL_BATCH_SIZE = 500", "MONITOR_EVERY_EPOCHS = 1")
        return recipes.parse(["quickstart.gin"], [*small, "NUM_NEGATIVES = 600", *bindings])

    @pytest.mark.slow
    def test_a_run_on_digits(self):
        pretrain = functools.partial(runs.pretrain, strategy=strategies.make("none"))
        result = time_to_accuracy.measure(self.recipe("EPOCHS = 3"), pretrain, 0.01)
        self.assertEqual((result["epochs"], result["images"]), (1, 1000))
        self.assertLen(result["curve"], 1)
        self.assertGreaterEqual(result["knn_top1"], 0.01)
        self.assertGreater(result["seconds"], result["measuring_s"])
        self.assertIn("tested on: digits", result["knn_protocol"])

    def test_images_without_labels(self):
        images = np.random.default_rng(0).integers(0, 256, [600, 16, 16, 3], np.uint8)
        source = memory.MemorySource(images)
        pretrain = functools.partial(
            runs.pretrain, strategy=strategies.make("none"), dataset=source
        )
        with self.assertRaisesRegex(InputError, "cannot be measured without labels"):
            time_to_accuracy.measure(self.recipe("NUM_NEIGHBORS = 1"), pretrain, 0.4)


if __name__ == "__main__":
    tf.test.main()
