"""How long a run takes from now on: steps, what lies between epochs, mining, accuracy, export."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from absl import logging

from csml_tf.training import forward_units
from csml_tf.training.assembly import Assembly
from csml_tf.training.checkpoint import Progress
from csml_tf.training.step_clock import Pace

# An image that is encoded without a gradient is one unit, and it is read and resized: as measured
# with ResNet-18 of width 16 at 64 px, 1.5 to 1.8 units of MoCo's, to 2.2 of BYOL's.
_UNITS_OF_AN_ENCODED_IMAGE = 1.75
_EXPORT_S = 10.0  # As measured for a ResNet-18; of no weight in a run of an hour.


def seconds(pace: Pace, assembled: Assembly, monitors: Sequence[Any], progress: Progress) -> float:
    """An estimate of the seconds that are left of a run.

    A step of another epoch is taken to last as its forward units say, see `forward_units`.

    Args:
        pace: as measured.
        assembled: what is trained.
        monitors: as for `pretrain.run`.
        progress: of the run.
    """
    parts, model, num_steps = assembled.parts, assembled.model, assembled.num_steps

    def units(epoch):
        return forward_units.per_image(model, assembled.augmentations, epoch)

    left = range(progress.epoch, parts.epochs)
    steps_units = num_steps * sum(map(units, left)) - progress.step * units(progress.epoch)
    images = sum(
        monitor.num_images
        for epoch in left
        for monitor in monitors
        if monitor.is_due(epoch + 1, parts.epochs)
    )
    if assembled.refresh is not None:
        images += len(assembled.source) * sum(map(assembled.refresh.is_due, left))
    steps_units += _UNITS_OF_AN_ENCODED_IMAGE * images / parts.global_batch_size
    steps_s = pace.step_s * steps_units / units(pace.epoch)
    return steps_s + pace.between_epochs_s * max(0, len(left) - 1) + _EXPORT_S


def announce(pace: Pace, assembled: Assembly, monitors: Sequence[Any], progress: Progress) -> None:
    """Logs how long the run takes from now on, and when it will end; arguments of `seconds`."""
    left = datetime.timedelta(seconds=round(seconds(pace, assembled, monitors, progress)))
    logging.info(
        "%.0f images/s, and %.1f s between epochs: %s (h:mm:ss) to go, until %s.",
        *(assembled.parts.global_batch_size / pace.step_s, pace.between_epochs_s, left),
        f"{datetime.datetime.now() + left:%Y-%m-%d %H:%M}",
    )
