"""What each setting of the verbs may be, whether it comes as a flag or as an argument in Python.

Which settings are paths, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from csml_tf import value_rules
from csml_tf.value_rules import above, at_least, whole

# The same name means the same in every verb; a list is checked value by value.
RULES = {
    "backbone_learning_rate": at_least(0),
    "batch": whole(1),
    "batch_size": whole(1),
    "clusters": whole(0),
    "crops": whole(1),
    "d": whole(1),
    "epochs": whole(1),
    "every_epochs": whole(1),
    "head_learning_rate": at_least(0),
    "image_size": whole(1),
    "k": whole(1),
    "kept_share": above(0, 1),
    "l2": above(0),
    "labels": above(0, 1),
    "labels_per_class": whole(1),
    "labels_seed": whole(0),
    "learning_rate": above(0),
    "max_entropy": at_least(0),
    "n": whole(2),
    "part_images": whole(1),
    "queue": whole(1),
    "repeats": whole(1),
    "res": whole(1),
    "retrain_epochs": whole(1),
    "scratch_learning_rate": at_least(0),
    "seed": whole(0),
    "seeds": whole(1),
    "stage_features": whole(1),
    "step": whole(1),
    "steps": whole(1),
    "target_knn": above(0, 1),
    "temperature": above(0),
    "train_images": whole(1),
    "warmup": whole(1),
    "weight_decay": at_least(0),
    "width": whole(1),
    "window_s": above(0),
    "windows": whole(1),
    "worker_timeout_s": whole(1),
}
# Those that are places on a disk: a "~" in front stands for the home folder.
PATHS = (
    *("checkpoint", "data_dir", "gin_file", "init_from", "json", "labels_file", "model"),
    *("model_dir", "output", "results"),
)
# The same, of images.
IMAGE_PATHS = ("dataset", "images", "queries")


def check(settings: Mapping[str, Any]) -> None:
    """Raises `InputError` at the first setting that is not as the table says.

    Args:
        settings: {name: value, list of values, or None where it is not given}. What has
            another name is not looked at.
    """
    for name, value in settings.items():
        if name in RULES:
            for each in value if isinstance(value, (list, tuple)) else [value]:
                if each is not None:
                    value_rules.check(f"--{name}", each, RULES[name])
