"""What a training step computes, in a unit that is the same on every machine."""

from __future__ import annotations

from csml_tf.augment.view import ViewAugmentation
from csml_tf.methods.method import TrainingModel


def per_image(
    model: TrainingModel, augmentations: dict[str, ViewAugmentation], epoch: int
) -> float:
    """Forward units for each image of a batch, in an epoch.

    One unit is one forward pass of one large view through an encoder. A target costs what its
    method says, 1 for a key; a query, which is trained, 3; a small view less, by its area.
    Heads, losses and queues are not counted. So MoCo costs 4 and CsMl on it 2 + 3 * 3 = 11,
    2.75 times as much.

    Args:
        model: in training.
        augmentations: of all views that the model takes.
        epoch: from 0.
    """
    base, cross_samples = model.base, model.cross_samples
    # Where queries are each other's targets, no target has a pass of its own.
    has_passes = not base.queries_are_targets
    targets = len(cross_samples.target_views(base.both_views_are_queries)) if has_passes else 0
    large_px = augmentations["query"].image_size
    small_areas = (augmentations[n].image_size ** 2 for n in cross_samples.small_view_names)
    kinds = cross_samples.kinds_in_use(epoch, base.both_views_are_queries)
    queries = sum(kind != "small" for kind in kinds)
    queries += sum(area / large_px**2 for area in small_areas)
    # A batch that comes in parts is then embedded twice, see `methods.passes`.
    again = base.queries_are_targets and model.accumulation_steps > 1
    of_a_query = base.units_of_a_query + (1 if again else 0)
    return float(base.units_of_a_target * targets + of_a_query * queries)
