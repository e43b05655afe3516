"""How long a recipe takes until kNN on its encoder's features is as good as wanted."""

import dataclasses
import tempfile
import time
from typing import Any, Callable

import tensorflow as tf
from absl import logging

from csml_tf import amounts, setting_rules
from csml_tf.benchmarks import measuring
from csml_tf.errors import InputError


def measure(recipe: Any, pretrain: Callable[..., Any], target_knn: float) -> dict:
    """Trains until the run's own kNN monitor first reaches a target, and no further.

    The run is an ordinary one, in a temporary folder. Its clock begins before the images are
    opened, so that setting up, mining, checkpoints and measuring count; what measuring took is
    given beside it. How often kNN is measured is the recipe's MONITOR_EVERY_EPOCHS.

    Args:
        recipe: `runs.Recipe`; its own callbacks are left out.
        pretrain: function of a recipe, `model_dir` and `callbacks`: `runs.pretrain` with its
            strategy and images.
        target_knn: top-1 accuracy, above 0 and at most 1.

    Returns:
        dict of "recipe" (files and overrides), "target_knn", "seconds" (to the target, of the
        clock; None where the recipe ends below it, which a line of the log says, too),
        "measuring_s" (of them, in the monitors), "epochs" and "images" (anchors of the steps)
        until then, "knn_top1" (the best, in [0, 1]) and its "knn_protocol", "curve" (a dict of
        epoch, seconds, images and knn_top1 for each measurement), "peak_rss_mb" (of the process,
        2**20 bytes) and "tensorflow" (version).

    Raises:
        InputError: if the target is out of range, the images have no labels to measure by, or
            recipe and images do not fit each other.
    """
    setting_rules.check({"target_knn": target_knn})
    watch = _Watch(recipe.make_monitors, target_knn)
    with tempfile.TemporaryDirectory(prefix="csml_tf_benchmark_") as folder:
        watched = dataclasses.replace(recipe, make_monitors=watch.make_monitors)
        pretrain(watched, model_dir=f"{folder}/run", callbacks=[watch])
    if not watch.curve:
        raise InputError(
            f"kNN was measured in none of {amounts.count(watch.epochs, 'epoch')}: see the warnings "
            "above, and mend what they say."
        )
    best = max(watch.curve, key=lambda point: point["knn_top1"])
    if not watch.is_reached:
        logging.warning(
            "The recipe ended after %s, with a kNN top-1 of %.4f at best, below the target of %g: "
            "raise EPOCHS, or lower --target_knn.",
            *(amounts.count(watch.epochs, "epoch"), best["knn_top1"], target_knn),
        )
    return {
        "bench": "time_to_accuracy",
        "recipe": recipe.describe(),
        "target_knn": target_knn,
        "seconds": watch.curve[-1]["seconds"] if watch.is_reached else None,
        "measuring_s": round(watch.measuring_s, 2),
        "epochs": watch.epochs,
        "images": watch.images,
        "knn_top1": best["knn_top1"],
        "knn_protocol": watch.protocol,
        "curve": watch.curve,
        "peak_rss_mb": round(watch.peak_rss_mb, 1),
        "tensorflow": tf.__version__,
    }


class _Watch(tf.keras.callbacks.Callback):
    """Notes what a run measures, and ends it at the target."""

    def __init__(self, make_monitors, target_knn):
        super().__init__()
        self._make_monitors, self._target_knn = make_monitors, target_knn
        self._has_monitors = self.is_reached = False
        self.curve, self.protocol = [], None
        self.epochs = self.images = 0
        self.measuring_s = self.peak_rss_mb = 0.0
        self._started = time.perf_counter()

    def make_monitors(self, *pair):
        """The recipe's; a run asks for them only where its images have labels."""
        self._has_monitors = True
        return self._make_monitors(*pair)

    def on_train_begin(self, logs=None):
        if not self._has_monitors:
            raise InputError(
                "kNN cannot be measured without labels: choose a --dataset that has them, class "
                "folders or a TFDS name."
            )

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self._started
        self.epochs = epoch + 1
        self.images += logs["anchors"]
        of_monitors = ("knn_seconds", "knn_baselines_seconds", "linear_seconds")
        self.measuring_s += sum(logs.get(name, 0.0) for name in of_monitors)
        self.peak_rss_mb = measuring.peak_rss_mb()
        if "knn_top1" not in logs:
            return
        self.protocol = logs["knn_protocol"]
        point = {"epoch": self.epochs, "seconds": round(seconds, 2), "images": self.images}
        self.curve.append({**point, "knn_top1": round(float(logs["knn_top1"]), 4)})
        if logs["knn_top1"] >= self._target_knn:
            self.is_reached = True
            self.model.stop_training = True
