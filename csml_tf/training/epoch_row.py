"""The row of an epoch in metrics.jsonl while it grows, over interruptions."""

import time

from csml_tf.training.checkpoint import Progress


class EpochRow:
    """What is known of an epoch, and the clock of its seconds.

    Args:
        begun: `Progress` that the epoch goes on from.
        num_steps: of an epoch.
        learning_rate: of the epoch.
    """

    def __init__(self, begun, num_steps, learning_rate):
        self._epoch = begun.epoch
        self._figures = {
            "epoch": begun.epoch + 1,
            "step": (begun.epoch + 1) * num_steps,
            "learning_rate": learning_rate,
            **begun.row,
        }
        self._started = time.perf_counter() - begun.row.get("seconds", 0.0)

    def __contains__(self, name):
        return name in self._figures

    def update(self, figures):
        """Adds {name: number} or {name: text}."""
        self._figures.update(figures)

    def read(self):
        """{name: figure}, with the seconds that the epoch has taken by now."""
        return {**self._figures, "seconds": time.perf_counter() - self._started}

    def progress(self, step, timed=(0, 0.0, 0.0)):
        """The `Progress` of the run after so many steps of the epoch; `timed` is the bar's."""
        return Progress(self._epoch, step, self.read(), timed)
