import datetime
import re
import types

from absl import logging
from absl.testing import absltest, parameterized

from csml_tf.training import time_left
from csml_tf.training.checkpoint import Progress
from csml_tf.training.step_clock import Pace
from tests.training import tiny_run

MOCO = {"query_kinds": ("image",), "positive_weights": (1.0, 0.0)}
# A step of 0.4 s for 40 images in 4 units: 2.5 ms for a unit of an image.
PACE = Pace(0.4, 3.0)


def make_assembled(refresh=None, **options):
    model = tiny_run.make_model(**options)
    return types.SimpleNamespace(
        parts=types.SimpleNamespace(epochs=10, global_batch_size=40),
        model=model,
        augmentations={name: types.SimpleNamespace(image_size=16) for name in model.view_names},
        refresh=refresh,
        source=range(800),
        num_steps=20,
    )


def every(epochs, num_images):
    """A monitor that is due after so many epochs, and the next such."""
    return types.SimpleNamespace(
        num_images=num_images, is_due=lambda finished, of: finished % epochs == 0
    )


class SecondsTest(parameterized.TestCase):
    @parameterized.parameters(
        (Progress(), 10 * 20 * 0.4 + 9 * 3.0),
        (Progress(4, 5), (5 * 20 + 15) * 0.4 + 5 * 3.0),
        (Progress(9, 19), 0.4),
        (Progress(10), 0.0),
    )
    def test_steps_and_what_lies_between_epochs(self, progress, expected):
        actual = time_left.seconds(PACE, make_assembled(**MOCO), [], progress)
        self.assertAlmostEqual(actual, expected + time_left._EXPORT_S)

    def test_accuracy(self):
        """1,000 images after each second epoch, and 600 after the fifth and the last."""
        monitors = [every(2, 1_000), every(5, 600)]
        assembled = make_assembled(**MOCO)
        bare = time_left.seconds(PACE, assembled, [], Progress(3))
        actual = time_left.seconds(PACE, assembled, monitors, Progress(3)) - bare
        images = 4 * 1_000 + 2 * 600
        self.assertAlmostEqual(actual, images * 0.0025 * time_left._UNITS_OF_AN_ENCODED_IMAGE)

    def test_epochs_that_cost_more(self):
        """CutMix waits three epochs: 3 + 3 + 2 units before, 11 after; mined twice."""
        refresh = types.SimpleNamespace(is_due=lambda epoch: epoch in (0, 5))
        assembled = make_assembled(refresh, cutmix_warmup_epochs=3)
        actual = time_left.seconds(PACE, assembled, [], Progress())
        steps = 20 * 0.4 * (3 + 7 * 11 / 8)
        mining = 2 * 800 * 0.4 / 40 / 8 * time_left._UNITS_OF_AN_ENCODED_IMAGE
        self.assertAlmostEqual(actual, steps + mining + 9 * 3.0 + time_left._EXPORT_S)

    def test_timed_in_an_epoch_that_costs_more(self):
        assembled = make_assembled(cutmix_warmup_epochs=3)
        actual = time_left.seconds(Pace(0.4, epoch=5), assembled, [], Progress(2))
        self.assertAlmostEqual(actual, 20 * 0.4 * (8 / 11 + 7) + time_left._EXPORT_S)


class AnnounceTest(absltest.TestCase):
    def test_announces_the_end(self):
        self.addCleanup(logging.set_verbosity, logging.get_verbosity())
        logging.set_verbosity(logging.INFO)
        assembled = make_assembled(**MOCO)
        before = datetime.datetime.now()
        pace = Pace((3_600 - time_left._EXPORT_S) / 200)
        with self.assertLogs("absl", "INFO") as logs:
            time_left.announce(pace, assembled, [], Progress())
        line = logs.output[0]
        self.assertIn("2 images/s, and 0.0 s between epochs: 1:00:00 (h:mm:ss) to go", line)
        end = datetime.datetime.fromisoformat(re.search("until (.{16})\\.", line)[1])
        self.assertBetween((end - before).total_seconds(), 3_500, 3_700)


if __name__ == "__main__":
    absltest.main()
