"""What the card of a run's encoder says: recipe, data, code, figures, and the command."""

from __future__ import annotations

import shlex
from typing import Any

from csml_tf import code_version
from csml_tf.augment.center_view import CenterView
from csml_tf.data.sources.base import ImageSource
from csml_tf.export import model_card
from csml_tf.training.run_directory import RunDirectory


def describe(
    recipe: Any,
    model: Any,
    source: ImageSource,
    dataset: str,
    center_view: CenterView,
    directory: RunDirectory,
) -> dict:
    """The card of a finished run's encoder, but for the command.

    Args:
        recipe: `runs.Recipe`.
        model: that was trained.
        source: of its images.
        dataset: data set string that was given.
        center_view: `CenterView`.
        directory: of the run.
    """
    card = describe_encoder(recipe, model, center_view, directory)
    if "DATASET" in card["recipe"]:
        card["recipe"]["DATASET"] = dataset  # Not that of the recipe, where another was given.
    return {
        **card,
        "data": source.name,
        "data_fingerprint": source.fingerprint,
        "epochs": int(model.epoch.numpy()) + 1,
        "metrics": _read_metrics(directory),
    }


def describe_encoder(
    recipe: Any, model: Any, center_view: CenterView, directory: RunDirectory
) -> dict:
    """What the card of any encoder of a run says: {name: plain value}."""
    return {
        "id": directory.path.resolve().name,
        "recipe": recipe.read_settings(),
        "image_size": center_view.image_size,
        "resize_size": center_view.resize_size,
        "feature_dim": model.encoder.feature_dim,
        "trained_by": directory.read_notes().get("Code", "not recorded"),
        "csml_tf": code_version.version(),
        "commit": code_version.commit(),
        "curve": _read_curve(directory),
    }


def describe_command(recipe: Any, dataset: str | ImageSource | None, init_from: str | None) -> str:
    """What trains once more as the recipe says, wherever its data may lie."""
    if isinstance(dataset, ImageSource):
        options = "".join(f", {binding.replace(' = ', '=')}" for binding in recipe.bindings)
        options += "" if init_from is None else f", init_from={str(init_from)!r}"
        return f"csml_tf.pretrain(images, {recipe.files[-1]!r}{options})"
    words = [f"--gin_file={name}" for name in recipe.files]
    words += [f"--gin_bindings={' '.join(binding.split())}" for binding in recipe.bindings]
    words += [] if dataset is None else [f"--dataset={dataset}"]
    words += [] if init_from is None else [f"--init_from={init_from}"]
    return f"csml-tf train {shlex.join(words)}"


def _read_curve(directory):
    """Loss and accuracy by epochs."""
    names = ("epoch", "loss", "knn_top1")
    return [{name: row[name] for name in names if name in row} for row in directory.read_metrics()]


def _read_metrics(directory):
    """What a finished run measured last."""
    return [
        model_card.metric("kNN top-1", row["knn_top1"], row["knn_protocol"])
        for row in directory.read_metrics()[-1:]
        if "knn_top1" in row
    ]
