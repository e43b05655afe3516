"""kNN accuracy of the query encoder while it trains."""

import time

LAYERS = ("features", "embedding")


class KnnMonitor:
    """Measures kNN on held-out images every few epochs, in inference mode.

    Args:
        evaluation: `knn.KnnEvaluation`.
        layer: "features" (pooled features of the last stage, as exported) or
            "embedding" (output of the last level's head, as MoCo's CIFAR demo does).
        every_epochs: between two measurements; the last epoch is always measured.

    Raises:
        ValueError: if an argument is outside the above.
    """

    def __init__(self, evaluation, layer="features", every_epochs=1):
        if layer not in LAYERS:
            raise ValueError(f"layer must be one of {LAYERS}, got {layer!r}.")
        if every_epochs < 1:
            raise ValueError(f"every_epochs must be at least 1, got {every_epochs}.")
        self._evaluation = evaluation
        self._layer = layer
        self._every_epochs = every_epochs

    def is_due(self, finished_epochs, epochs):
        """Whether to measure after this many epochs."""
        return finished_epochs % self._every_epochs == 0 or finished_epochs == epochs

    def measure(self, encoder):
        """-> {"knn_top1": accuracy in [0, 1], "knn_protocol": text, "knn_seconds": float}."""
        started = time.perf_counter()
        encode = encoder.pooled_features if self._layer == "features" else encoder.embedding
        return {
            "knn_top1": self._evaluation.top1(encode),
            "knn_protocol": str(self._evaluation.protocol(self._layer)),
            "knn_seconds": time.perf_counter() - started,
        }
