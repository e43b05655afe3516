"""What each knob of a recipe may be: one table, checked as soon as a recipe has been read.

A knob that is not in the table is not checked here; the class that takes its value still is free
to refuse it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from csml_tf import value_rules
from csml_tf.data import pipeline
from csml_tf.evaluation import monitors
from csml_tf.models.backbones import contract, resnet
from csml_tf.training import automatic, precision
from csml_tf.value_rules import above, at_least, one_of, or_none, several, table, text, truth, whole

_STAGE = one_of(contract.STAGES)
_SHARE = at_least(0, 1)
# A row: the knob, the parameters that take the same values, and which these are.
_ROWS = (
    ("DATASET", (), or_none(text())),
    ("HOURS", (), or_none(above(0))),
    ("EPOCHS", ("pretrain.epochs",), whole(1)),
    ("GLOBAL_BATCH_SIZE", ("pretrain.global_batch_size",), whole(1)),
    ("LEARNING_RATE", ("pretrain.learning_rate_per_256_images",), above(0)),
    ("WEIGHT_DECAY", ("TorchSGD.l2_weight_decay", "Lars.l2_weight_decay"), at_least(0)),
    ("WARMUP_EPOCHS", ("warmup_cosine_schedule.warmup_epochs",), whole(0)),
    ("NUM_NEGATIVES", ("MoCo.num_negatives",), whole(1)),
    ("EMA_DECAY", tuple(f"{base}.ema_decay" for base in ("MoCo", "BYOL", "MoCoV3")), _SHARE),
    (
        "TEMPERATURE",
        tuple(f"{base}.temperature" for base in ("MoCo", "MoCoV3", "SimCLR", "SwAV")),
        above(0),
    ),
    ("NUM_PROTOTYPES", ("SwAV.num_prototypes",), whole(2)),
    ("QUEUE_LENGTH", ("SwAV.queue_length",), whole(0)),
    ("BACKBONE", ("make_backbone.name",), text()),
    ("DEPTH", ("make_resnet.depth",), one_of(sorted(resnet.PLANS))),
    ("WIDTH", ("make_resnet.width",), whole(1)),
    ("STEM", ("make_resnet.stem",), one_of(resnet.STEMS)),
    (
        "BN_GROUPS",
        tuple(f"make_{part}.bn_groups" for part in ("resnet", "application", "batch_norm_head")),
        whole(1),
    ),
    ("IMAGE_SIZE", ("ViewAugmentation.image_size", "CenterView.image_size"), whole(1)),
    ("AUGMENT_ON", ("pretrain.augment_on",), one_of(pipeline.AUGMENT_ON)),
    ("PRECISION", ("pretrain.precision",), one_of(precision.NAMES)),
    ("JIT_COMPILE", ("pretrain.jit_compile",), truth()),
    ("ACCUMULATION_STEPS", ("CsMl.accumulation_steps",), whole(1)),
    ("HEAD_HIDDEN_LAYERS", ("MultiLevelEncoder.hidden_layers",), whole(0)),
    ("HEAD_HIDDEN_DIM", ("make_batch_norm_head.hidden_dim",), or_none(whole(1))),
    ("EMBEDDING_DIM", (), whole(1)),
    ("MONITOR_EVERY_EPOCHS", ("KnnMonitor.every_epochs",), whole(1)),
    ("MONITOR_LAYER", ("KnnMonitor.layer",), one_of(monitors.LAYERS)),
    ("LINEAR_EVERY_EPOCHS", ("LinearMonitor.every_epochs",), whole(0)),
    ("CHECKPOINT_EVERY_STEPS", ("pretrain.checkpoint_every_steps",), or_none(whole(0))),
    ("SEED", ("pretrain.seed",), whole(0)),
    ("NEIGHBOR_WARMUP_EPOCHS", ("CrossSamples.neighbor_warmup_epochs",), whole(0)),
    ("CUTMIX_WARMUP_EPOCHS", ("CrossSamples.cutmix_warmup_epochs",), whole(0)),
    ("NUM_NEIGHBORS", ("NeighborRefresh.num_neighbors",), whole(1)),
    ("MINE_EVERY_EPOCHS", ("NeighborRefresh.every_epochs",), whole(1)),
    ("MINE_WITH", ("NeighborRefresh.mine_with",), or_none(text())),
    ("APPROXIMATE_MINING_FROM", ("NeighborRefresh.approximate_from",), whole(1)),
    ("LEVEL_WEIGHTS", ("CsMl.level_weights",), or_none(table(_STAGE, at_least(0)))),
    ("PAIRS", ("CrossSamples.pairs",), truth()),
    ("WARMUP_SHARE", ("share_of_epochs.share",), at_least(0)),
    ("NUM_SMALL_VIEWS", ("CrossSamples.num_small_views",), whole(0)),
    ("SMALL_IMAGE_SIZE", (), whole(1)),
    ("BLUR_PROBABILITY", ("ViewAugmentation.blur_probability",), _SHARE),
    ("BLUR_SIGMA_PX", ("ViewAugmentation.blur_sigma_px",), several(2, at_least(0))),
    ("CIFAR_MEAN", ("ViewAugmentation.mean", "CenterView.mean"), several(3, _SHARE)),
    ("CIFAR_STD", ("ViewAugmentation.std", "CenterView.std"), several(3, above(0))),
)
KNOBS = tuple(knob for knob, _, _ in _ROWS)
# Without a knob of their own.
_PARAMETERS = {
    "CrossSamples.cutmix_alpha": above(0),
    "CrossSamples.positive_weights": several(2, at_least(0)),
    "KnnEvaluation.k": or_none(whole(1)),
    "KnnEvaluation.temperature": above(0),
    "Lars.sgd_momentum": _SHARE,
    "Lars.trust_coefficient": above(0),
    "LinearEvaluation.l2": above(0),
    "MultiLevelEncoder.head_dims": table(_STAGE, whole(1)),
    "warmup_cosine_schedule.final_share": _SHARE,
    "SwAV.epsilon": above(0),
    "SwAV.frozen_epochs": whole(0),
    "SwAV.queue_from_epoch": whole(0),
    "SwAV.sinkhorn_iterations": whole(1),
    "TorchSGD.sgd_momentum": _SHARE,
    "ViewAugmentation.crop_scale": several(2, above(0, 1)),
    "ViewAugmentation.crop_ratio": several(2, above(0)),
    "ViewAugmentation.brightness": at_least(0),
    "ViewAugmentation.contrast": at_least(0),
    "ViewAugmentation.saturation": at_least(0),
    "ViewAugmentation.hue": at_least(0, 0.5),
    "ViewAugmentation.jitter_probability": _SHARE,
    "ViewAugmentation.grayscale_probability": _SHARE,
    "ViewAugmentation.solarize_probability": _SHARE,
    "ViewAugmentation.flip_probability": _SHARE,
}
RULES = {
    **_PARAMETERS,
    **{name: rule for knob, parameters, rule in _ROWS for name in (knob, *parameters)},
}


def check(values: Mapping[str, Any]) -> None:
    """Raises `InputError` at the first value that is not as the table says.

    Args:
        values: {name of a knob, or "Class.parameter": plain value}.
    """
    has_open = any(value == automatic.OPEN for name, value in values.items() if "." not in name)
    for name, value in values.items():
        # A class that a scope sets apart, "small/ViewAugmentation", takes the same values.
        rule = RULES.get(name.rpartition("/")[2])
        # Open knobs, and parameters that are set to them, are settled, and checked then.
        if rule is not None and not (has_open and value == automatic.OPEN):
            value_rules.check(name, value, rule)
