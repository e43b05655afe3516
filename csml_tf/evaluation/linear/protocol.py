"""Linear evaluation as MoCo does it: a linear layer trained on augmented images.

arXiv:1911.05722, section 4.1, and its public code: the backbone is frozen and in inference
mode, the layer sees random crops and flips, and the test images are centre crops.
"""

import numpy as np
import tensorflow as tf

from csml_tf import features, progress, setting_rules
from csml_tf.errors import InputError
from csml_tf.evaluation import accuracy, labelled_pair
from csml_tf.evaluation.linear import crop_features, held_out
from csml_tf.evaluation.linear.heads import LinearHeads
from csml_tf.evaluation.linear.layer_vectors import LayerVectors, headline_name
from csml_tf.evaluation.protocol_card import Outcome
from csml_tf.training import optim

# MoCo's 30 suits the small features of its ResNet-50. What is best falls with the square of the
# features' length, and others are a hundred times as long.
LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_MILESTONES = (0.6, 0.8)
_TOP = 5


def measure(
    encoder,
    train_source,
    test_source,
    layer=("features",),
    stage_features=None,
    learning_rate=LEARNING_RATES,
    epochs=100,
    batch_size=256,
    seeds=1,
):
    """Accuracy of linear classifiers trained online; the protocol "linear".

    SGD with momentum 0.9 and no weight decay; the learning rate is the one given, whatever
    the batch, and drops to a tenth after 0.6 and 0.8 of the epochs. The weights are those after
    the last epoch. All layers and learning rates are trained in one run; seeds are runs one
    after the other, each with its own order, crops and initial weights.

    Several learning rates are trained twice each, side by side: on all training images, for
    the figures, and on four fifths of them, to choose on the last fifth.

    Args:
        encoder: `FrozenEncoder`.
        train_source: labelled `ImageSource` to train on.
        test_source: labelled `ImageSource` to be tested on.
        layer: those of `frozen_encoder.LAYERS` to measure.
        stage_features: as for `LayerVectors`.
        learning_rate: peaks to try, each above 0.
        epochs: at least 1.
        batch_size: images per step, over all replicas; fewer where there are fewer images.
        seeds: number of runs; their seeds count from 0.

    Returns:
        `Outcome`; its result has "top1", "top5" (of more than 5 classes) and
        "learning_rate", the chosen one, means over the seeds, with "top1_std" and "top5_std",
        n - 1 in the denominator, if there are several; with "stage3_top1" and so on in their
        place for several layers. "grid" is a list of {"layer", "seed", "learning_rate",
        "held_out_top1", "top1", "top5", "chosen"}.

    Raises:
        InputError: if the labels do not fit, a setting is out of range, or the encoder lacks a
            layer, does not take such images or makes features that are not finite.
    """
    num_classes = labelled_pair.check(train_source, test_source)
    counts = {"epochs": epochs, "batch_size": batch_size, "seeds": seeds}
    setting_rules.check({"learning_rate": learning_rate, **counts})
    rates = list(dict.fromkeys(map(float, learning_rate)))
    vectors = LayerVectors(encoder, layer, stage_features)
    chooses = len(rates) > 1
    hidden = held_out.draw(train_source.labels) if chooses else np.zeros(len(train_source), bool)
    count = min(_TOP, num_classes)
    ks = (1, _TOP) if num_classes > _TOP else (1,)

    rows = []
    for seed in range(seeds):
        heads = {
            name: LinearHeads(dim, num_classes, len(rates) * (1 + chooses), seed)
            for name, dim in vectors.dims.items()
        }
        view = encoder.center_view
        crops = crop_features.CropFeatures(
            vectors.__call__, train_source, view.image_size, batch_size, seed
        )
        _train(heads, crops, train_source.labels, hidden, rates, epochs, seed)
        ranked = _rank(vectors, heads, test_source, view, count)
        chosen_by = None
        if chooses:
            hidden_source = train_source.subset(np.flatnonzero(hidden), "held-out images")
            chosen_by = _rank(vectors, heads, hidden_source, view, count=1)
        for name in heads:
            for i, rate in enumerate(rates):
                row = {"layer": name, "seed": seed, "learning_rate": rate}
                if chooses:
                    votes = chosen_by[name][:, len(rates) + i]
                    row["held_out_top1"] = accuracy.top_k(votes, hidden_source.labels, 1)
                for k in ks:
                    row[f"top{k}"] = accuracy.top_k(ranked[name][:, i], test_source.labels, k)
                rows.append(row)

    result = {}
    for name in vectors.dims:
        result.update(_summarize(name, rows, rates, seeds, ks, len(vectors.dims)))
    settings = {
        "layer": vectors.pooling,
        "learning_rate": rates,
        "choice": held_out.CHOICE if chooses else held_out.NO_CHOICE,
        "optimizer": "SGD, momentum 0.9, weight decay 0, rate not scaled by the batch",
        "initial_weights": "N(0, 0.01), zero bias",
        "batch_size": crops.batch_size,
        "epochs": epochs,
        "times_0.1_after": [round(share * epochs) for share in _MILESTONES],
        "train_view": crop_features.VIEW,
        "test_view": str(encoder.center_view),
        "backbone": "frozen, inference mode",
        "weights_of": "last epoch",
        "seeds": seeds,
    }
    return Outcome(settings, {**result, "grid": rows})


def _summarize(name, rows, rates, seeds, ks, num_layers):
    """Chooses the learning rate of one layer and marks its rows: the headline's figures."""
    rows = [row for row in rows if row["layer"] == name]
    chosen = rates[0]
    if len(rates) > 1:
        chosen = rates[
            held_out.choose(np.reshape([row["held_out_top1"] for row in rows], [seeds, -1]))
        ]
    for row in rows:
        row["chosen"] = row["learning_rate"] == chosen
    figures = {}
    for k in ks:
        values = [row[f"top{k}"] for row in rows if row["chosen"]]
        figures[f"top{k}"] = float(np.mean(values))
        if seeds > 1:
            figures[f"top{k}_std"] = float(np.std(values, ddof=1))
    figures["learning_rate"] = chosen
    return {headline_name(figure, name, num_layers): figures[figure] for figure in figures}


def _train(heads, crops, labels, hidden, rates, epochs, seed):
    """Trains all heads in one go; the second half of them, if any, without the hidden images."""
    labels = tf.constant(labels)
    sees_all = tf.range(next(iter(heads.values())).bias.shape[0]) < len(rates)
    is_seen = tf.constant(~hidden)

    # Every replica takes the step of the whole batch, so that all stay the same.
    @tf.function(autograph=False)
    def step(made, indices, learning_rates):
        weights = tf.cast(sees_all | tf.gather(is_seen, indices)[:, None], tf.float32)
        for name, bank in heads.items():
            bank.step(made[name], tf.gather(labels, indices), weights, learning_rates)

    with progress.bar(epochs * crops.num_images, f"linear, seed {seed}", unit="images") as advance:
        for epoch in range(epochs):
            current = [optim.step_schedule(epoch, epochs, rate, _MILESTONES) for rate in rates]
            current = tf.constant(current * (len(sees_all) // len(rates)), tf.float32)
            for made, indices in crops.read(epoch):
                step(made, indices, current)
                advance(crops.batch_size)
    for name, bank in heads.items():
        if not np.isfinite(bank.kernel.numpy()).all():
            raise InputError(
                f"The layer {name} has values that are not finite numbers, or too large to learn "
                "on: train the encoder anew, or choose another --layer."
            )


def _rank(vectors, heads, source, view, count):
    """The likeliest classes of each image: {layer: [num_images, num_heads, count] integer}."""

    @tf.function(reduce_retracing=True)
    def rank(images):
        made = vectors(images)
        ranks = [bank.top_classes(made[name], count) for name, bank in heads.items()]
        rows = [tf.reshape(each, [tf.shape(images)[0], -1]) for each in ranks]
        return tf.cast(tf.concat(rows, axis=1), tf.float32)  # Exact below 2^24 classes.

    ranked = features.extract_features(rank, source, view, description=f"testing {source.name}")
    ranked = ranked.astype(np.int64).reshape([len(source), len(heads), -1, count])
    return {name: ranked[:, i] for i, name in enumerate(heads)}
