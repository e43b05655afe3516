"""Fine-tuning with few labels, and self-training on the rest: the protocol "semi_supervised".

CsMl, arXiv:2012.02733: the whole network is trained on a labelled fraction of the training
set, backbone and head at different rates; then it labels the other images itself, and is
trained again on both.
"""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from csml_tf import amounts, setting_rules
from csml_tf.data import labelled_batches, pipeline
from csml_tf.errors import InputError
from csml_tf.evaluation import labelled_pair, labelled_subset
from csml_tf.evaluation.linear import held_out
from csml_tf.evaluation.protocol_card import Outcome
from csml_tf.evaluation.semi_supervised import (
    fine_tuning,
    pseudo_labels,
    rate_choice,
)
from csml_tf.evaluation.semi_supervised.trials import Trials

# Of fine-tuning: this many epochs, or as many as make this many steps on a small set.
_EPOCHS = 20
_LEAST_STEPS = 500
# Of retraining: this many epochs, or as many as make the steps of the fine-tuning.
_RETRAIN_EPOCHS = 5


def measure(
    encoder,
    train_source,
    test_source,
    labels=None,
    labels_per_class=None,
    labels_file=None,
    labels_seed=0,
    seeds=3,
    epochs=None,
    batch_size=128,
    backbone_learning_rate=None,
    head_learning_rate=None,
    schedule="cosine",
    weight_decay=1e-4,
    from_scratch=False,
    scratch_learning_rate=None,
    self_training=False,
    max_entropy=None,
    kept_share=None,
    balance_classes=False,
    retrain_epochs=None,
):
    """Accuracy after fine-tuning on the labelled part of the training set.

    Args:
        encoder: `FrozenEncoder` of a Keras model; it stays as it is, a copy is trained.
        train_source: `ImageSource`; images that have no label, -1, count as unlabelled.
        test_source: labelled `ImageSource`.
        labels: share of the labels that is used, in (0, 1]; None is all.
        labels_per_class: so many labels of each class in its place.
        labels_file: list of the labelled images that an earlier measurement has written.
        labels_seed: of the draw by either, one draw for all seeds.
        seeds: how many runs, seeds 0, 1, ..., of head, order and augmentation.
        epochs: None takes 20, or as many as make 500 steps.
        batch_size: images per step; at most as many as are labelled.
        backbone_learning_rate: of the first epoch, for the batch size as it is; None takes what
            is best on held-out labelled images, as `rate_choice.choose` finds it.
        head_learning_rate: the same.
        schedule: "cosine", or "step": times 0.1 at 60 % and 80 % of the epochs.
        weight_decay: L2, on every parameter.
        from_scratch: whether to train the same network from fresh weights, too.
        scratch_learning_rate: of all its parameters; None likewise.
        self_training: whether to label the other images and train on both, too.
        max_entropy: as for `pseudo_labels.KeepingRule`.
        kept_share: the same.
        balance_classes: the same.
        retrain_epochs: None takes 5, or as many as make the steps of the fine-tuning.

    Returns:
        `Outcome`. Its result has "top1", "top1_std" over the seeds and, with more than five
        classes, "top5"; the same after "self_trained_" and "from_scratch_"; and the tables
        "comparison", "runs", "learning_rates", where there were some to choose from, and
        "pseudo_labels". Its files are the list of labelled images and the kept pseudo labels of
        each seed.

    Raises:
        InputError: if a setting is out of range or has no use, the labels do not fit, or
            nothing is left to learn from.
    """
    rule = _make_rule(self_training, max_entropy, kept_share, balance_classes, retrain_epochs)
    setting_rules.check(
        {
            **{"seeds": seeds, "epochs": epochs, "batch_size": batch_size},
            "retrain_epochs": retrain_epochs,
            "backbone_learning_rate": backbone_learning_rate,
            "head_learning_rate": head_learning_rate,
            "scratch_learning_rate": scratch_learning_rate,
            "weight_decay": weight_decay,
        }
    )
    indices, origin = labelled_subset.choose(
        train_source, labels, labels_per_class, labels_file, labels_seed
    )
    labelled = train_source.subset(indices, f"the labelled part of {train_source.name}")
    num_classes = labelled_pair.check(labelled, test_source)
    others = np.setdiff1d(np.arange(len(train_source)), indices)
    if rule is not None and not len(others):
        raise InputError(
            f"Every image of {train_source.name} is labelled, which leaves none for "
            "--self_training: keep labels back with --labels or --labels_file."
        )

    view = encoder.center_view
    labelled_batch_size = _fit_batch(batch_size, labelled)
    pairs = rate_choice.candidates(backbone_learning_rate, head_learning_rate)
    rates = rate_choice.SCRATCH_RATES if scratch_learning_rate is None else [scratch_learning_rate]
    plan = fine_tuning.TrainingPlan(
        epochs or _count_epochs(labelled, labelled_batch_size, _EPOCHS, _LEAST_STEPS),
        labelled_batch_size,
        *pairs[0],
        schedule,
        labelled_batches.make_crop_and_flip(view.image_size),
    )
    network = encoder.network()
    pretrained = network.get_weights()
    classifier = fine_tuning.Classifier(network, num_classes, weight_decay)

    def choose(trained, weights, pairs):
        fit_batch = functools.partial(_fit_batch, batch_size)
        return rate_choice.choose(
            classifier, trained, weights, labelled, plan, pairs, fit_batch, view
        )

    plan, rate_rows = choose("fine_tuned", pretrained, pairs)
    if from_scratch:
        fresh = encoder.untrained_network(0).get_weights()
        scratch_plan, scratch_rows = choose("from_scratch", fresh, [(r, r) for r in rates])
        rate_rows += scratch_rows
    steps = plan.epochs * pipeline.steps_per_epoch(labelled, plan.batch_size)
    settings = {
        "labels": origin,
        **_describe(plan),
        "choice": rate_choice.CHOICE if rate_rows else held_out.NO_CHOICE,
        "steps": steps,
        "weight_decay": weight_decay,
        "test_view": str(view),
        "seeds": seeds,
    }
    if from_scratch:
        settings["scratch_learning_rate"] = scratch_plan.backbone_learning_rate
    if rule is not None:
        settings["pseudo_labels"] = str(rule)
        settings["retrained_from"] = "pretrained weights"
        settings["retrain_epochs"] = retrain_epochs or (
            f"{_RETRAIN_EPOCHS}, or as many as make {steps} steps"
        )

    trials = Trials(classifier, test_source, view)
    files = {"labels.json": labelled_subset.to_json(train_source, indices, origin)}
    rounds = []
    for seed in range(seeds):
        trials.run("fine_tuned", seed, pretrained, labelled, labelled.labels, plan)
        if rule is not None:
            guesses = pseudo_labels.infer(classifier.logits, train_source, others, view)
            kept = guesses.keep(rule, num_classes)
            rounds.append({"seed": seed, **pseudo_labels.assess(guesses, kept, train_source)})
            files[f"pseudo_labels_{seed}.csv"] = kept.to_csv()
            both = train_source.subset(np.concatenate([indices, kept.indices]))
            both_labels = np.concatenate([labelled.labels, kept.labels])
            size = _fit_batch(batch_size, both)
            longer = dataclasses.replace(
                plan,
                epochs=retrain_epochs or _count_epochs(both, size, _RETRAIN_EPOCHS, steps),
                batch_size=size,
            )
            trials.run("self_trained", seed, pretrained, both, both_labels, longer)
        if from_scratch:
            fresh = encoder.untrained_network(seed).get_weights()
            trials.run("from_scratch", seed, fresh, labelled, labelled.labels, scratch_plan)
    result = _make_result(trials, rounds, rate_rows)
    return Outcome(settings, result, files, _judge(result))


def _make_rule(self_training, max_entropy, kept_share, balance_classes, retrain_epochs):
    """The `KeepingRule`; None without self-training, of which the others are settings."""
    if self_training:
        return pseudo_labels.KeepingRule(max_entropy, kept_share, balance_classes)
    given = {
        "max_entropy": max_entropy is not None,
        "kept_share": kept_share is not None,
        "balance_classes": balance_classes,
        "retrain_epochs": retrain_epochs is not None,
    }
    for name, is_given in given.items():
        if is_given:
            raise InputError(f"--{name} is of self-training: give --self_training with it.")
    return None


def _fit_batch(batch_size, source):
    """The batch size, or the largest one that the source fills, a multiple of the replicas."""
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    fitting = min(batch_size, len(source)) // replicas * replicas
    if not fitting:
        raise InputError(
            f"A batch of {amounts.count(min(batch_size, len(source)), 'image')} cannot be spread "
            f"over {replicas} replicas: raise --batch_size or --labels, or give --strategy=none."
        )
    return fitting


def _count_epochs(source, batch_size, least_epochs, least_steps):
    """As few epochs as are at least so many, and at least so many steps."""
    steps_per_epoch = pipeline.steps_per_epoch(source, batch_size)
    return max(least_epochs, -(-least_steps // steps_per_epoch))


def _describe(plan):
    """The settings of a plan, for the card."""
    augmentation = plan.augmentation
    return {
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
        "backbone_learning_rate": plan.backbone_learning_rate,
        "head_learning_rate": plan.head_learning_rate,
        "schedule": plan.schedule,
        "sgd_momentum": fine_tuning.SGD_MOMENTUM,
        "batch_norm": "statistics of the batch, moving ones updated",
        "augmentation": (
            f"crop of {augmentation.crop_scale[0]:g} to {augmentation.crop_scale[1]:g} of the "
            f"area to {augmentation.image_size} px, flip {augmentation.flip_probability:g}"
        ),
    }


def _judge(result):
    """(a sentence where training from scratch is ahead,), else ()."""
    ahead = result.get("from_scratch_top1", 0.0) - result["top1"]
    if ahead <= 0:
        return ()
    return (
        f"Fine-tuning ends {100 * ahead:.2f} points below training from scratch: with these "
        "labels and rates the pretrained weights do not help.",
    )


def _make_result(trials, rounds, rate_rows):
    """Scores of all kinds of run as single numbers, then the tables they come from."""
    table = trials.summary()
    result = {}
    for row in table:
        prefix = "" if row is table[0] else f"{row['trained']}_"
        for name in ("top1", "top1_std", "top5"):
            if name in row:
                result[prefix + name] = row[name]
    for name in ("kept", "accuracy"):
        if rounds and name in rounds[0]:
            result[f"pseudo_labels_{name}"] = float(np.mean([row[name] for row in rounds]))
    result.update(comparison=table, runs=trials.rows)
    if rate_rows:
        result["learning_rates"] = rate_rows
    if rounds:
        result["pseudo_labels"] = rounds
    return result
