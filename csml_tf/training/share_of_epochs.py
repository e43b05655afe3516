"""A number of epochs as a share of the run, for recipes whose length is a knob."""


def share_of_epochs(epochs, share):
    """Whole epochs nearest to a share of a run; of two equally near, the later one.

    The authors' 11 epochs of warm-up are of 200. A recipe sets
    `NEIGHBOR_WARMUP_EPOCHS = @share_of_epochs()` to have as much of a shorter run.

    Args:
        epochs: of the run.
        share: at least 0; may be above 1.

    Raises:
        ValueError: if `share` is below 0.

    Example:
        >>> share_of_epochs(200, 0.055), share_of_epochs(20, 0.055), share_of_epochs(2, 0.25)
        (11, 1, 1)
    """
    if share < 0:
        raise ValueError(f"share must be at least 0, got {share}.")
    return int(epochs * share + 0.5)
