"""What a training step computes, in a unit that is the same on every machine."""

from csml_tf.models.csml_settings import QUERY_KINDS

# A backward pass takes about twice as much as its forward pass.
_UNITS_OF_A_QUERY = 3
_UNITS_OF_A_KEY = 1


def per_image(model, augmentations):
    """Forward units for each image of a batch, in the model's present epoch.

    One unit is one forward pass of one large view through an encoder. A key costs 1, a
    query, which is trained, 3; a small view less, by its area. Heads, losses and queues
    are not counted. So MoCo costs 4 and CsMl 2 + 3 * 3 = 11, 2.75 times as much.

    Args:
        model: `CsMl`.
        augmentations: {view name: `ViewAugmentation`}, of all views that the model takes.

    Returns:
        float.
    """
    keys = sum(name.endswith("key") for name in model.view_names)
    queries = sum(kind in QUERY_KINDS for kind in model.kinds_in_use)
    large_px = augmentations["query"].image_size
    small_areas = (augmentations[n].image_size ** 2 for n in model.small_view_names)
    queries += sum(area / large_px**2 for area in small_areas)
    return float(_UNITS_OF_A_KEY * keys + _UNITS_OF_A_QUERY * queries)
