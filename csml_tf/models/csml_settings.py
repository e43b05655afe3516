"""What `CsMl` can be set to, and what is said of settings that it cannot be."""

# What may serve as a query: a view of the anchor, of its neighbour, their CutMix. Small
# views of the anchor are one kind more, where there are any.
QUERY_KINDS = ("image", "neighbor", "mixed")

# Where the keys of neighbours come from: a view of theirs, or a bank of earlier keys.
NEIGHBOR_KEYS = ("view", "bank")


def check_level_weights(level_weights, levels):
    """{level: weight}, 1 for each where None is given.

    Raises:
        ValueError: if it names other levels.
    """
    if level_weights is None:
        return {level: 1.0 for level in levels}
    if set(level_weights) != set(levels):
        raise ValueError(
            f"level_weights must name the encoder's levels {list(levels)}, "
            f"got {sorted(level_weights)}."
        )
    return dict(level_weights)


def check_numbers(positive_weights, ema_decay, temperature, cutmix_alpha, accumulation_steps):
    """Raises `ValueError` if one is out of range."""
    if len(positive_weights) != 2 or min(positive_weights) < 0:
        raise ValueError(
            f"positive_weights must be (own, other), each at least 0, got {positive_weights}."
        )
    if not 0 <= ema_decay <= 1:
        raise ValueError(f"ema_decay must be in [0, 1], got {ema_decay}.")
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}.")
    if cutmix_alpha <= 0:
        raise ValueError(f"cutmix_alpha must be above 0, got {cutmix_alpha}.")
    if accumulation_steps < 1:
        raise ValueError(f"accumulation_steps must be at least 1, got {accumulation_steps}.")


def check_query_kinds(query_kinds, pairs, cutmix_warmup_epochs, num_small_views):
    """Raises `ValueError` if they are unknown, or leave nothing to train on."""
    unknown = sorted(set(query_kinds) - set(QUERY_KINDS))
    if unknown or not query_kinds or len(set(query_kinds)) < len(query_kinds):
        raise ValueError(
            f"query_kinds must be out of {QUERY_KINDS}, each once, got {tuple(query_kinds)}."
        )
    if pairs and not {"image", "neighbor"} <= set(query_kinds):
        raise ValueError(
            "In pairs every image is anchor and neighbor at once, so query_kinds must have both, "
            f"got {tuple(query_kinds)}."
        )
    if num_small_views < 0:
        raise ValueError(f"num_small_views must be at least 0, got {num_small_views}.")
    if cutmix_warmup_epochs < 0:
        raise ValueError(f"cutmix_warmup_epochs must be at least 0, got {cutmix_warmup_epochs}.")
    if cutmix_warmup_epochs and tuple(query_kinds) == ("mixed",) and not num_small_views:
        raise ValueError("Without another query there is no loss while the mixed ones wait.")


def check_neighbor_keys(neighbor_keys, num_images, pairs, uses_neighbors):
    """Raises `ValueError` if there is no such place, or a bank has no use or size."""
    if neighbor_keys not in NEIGHBOR_KEYS:
        raise ValueError(f"neighbor_keys must be one of {NEIGHBOR_KEYS}, got {neighbor_keys!r}.")
    if neighbor_keys == "bank" and (pairs or not uses_neighbors):
        raise ValueError(
            "A bank is for neighbours' keys, which pairs have already and MoCo does without: "
            "choose neighbor_keys = 'view'."
        )
    if neighbor_keys == "bank" and not num_images:
        raise ValueError(f"A bank has a key for each image: give num_images, got {num_images}.")
