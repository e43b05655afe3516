import sys
import types
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf import features
from csml_tf.augment.center_view import CenterView
from csml_tf.data import neighbor_table
from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from csml_tf.training.neighbor_refresh import NeighborRefresh
from tests import approximate_search_test
from tests.training import tiny_run

PIXELS = types.SimpleNamespace(pooled_features=features.flatten)


class NeighborRefreshTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.source = tiny_run.make_source(30)
        self.view = CenterView(8)

    def nearest(self):
        pixels = np.stack([self.view(self.source.read(i)).numpy().ravel() for i in range(30)])
        return nearest_rows(pixels)

    def test_mines_the_nearest(self):
        refresh = NeighborRefresh(self.source, self.view, num_neighbors=3)
        logs = refresh.refresh(PIXELS, 0)
        self.assertAllEqual(refresh.table.neighbor_indices, self.nearest())
        self.assertAllEqual(refresh.table.mined_at_epoch, 0)
        purity = neighbor_table.purity(self.nearest(), self.source.labels)
        self.assertAlmostEqual(logs["neighbor_purity"], purity)
        self.assertNotIn("neighbor_churn", logs)
        self.assertNotIn("neighbor_recall", logs)

    @approximate_search_test.needs_faiss
    def test_approximate_from_a_number_of_images(self):
        refresh = NeighborRefresh(self.source, self.view, 3, approximate_from=30)
        with self.assertLogs("absl", "INFO") as logs:
            row = refresh.refresh(PIXELS, 0)
        self.assertAllEqual(refresh.table.neighbor_indices, self.nearest())
        self.assertEqual(row["neighbor_recall"], 1.0)
        self.assertIn("neighbor_recall 100.0%", logs.records[-1].getMessage())
        exact = NeighborRefresh(self.source, self.view, 3, approximate_from=31)
        self.assertNotIn("neighbor_recall", exact.refresh(PIXELS, 0))

    def test_without_faiss(self):
        with mock.patch.dict(sys.modules, {"faiss": None}):
            NeighborRefresh(self.source, self.view, 3, approximate_from=31)
            with self.assertRaisesRegex(
                InputError,
                r"^Mining 30 images, 30 or more, needs FAISS, which is not here .*: pip install "
                r"'csml_tf\[faiss\]', or set APPROXIMATE_MINING_FROM above 30 for an exact .*",
            ):
                NeighborRefresh(self.source, self.view, 3, approximate_from=30)

    def test_churn_against_the_table_before(self):
        refresh = NeighborRefresh(self.source, self.view, num_neighbors=3)
        previous = self.nearest()
        previous[:10] = np.arange(10)[:, None]  # A third of the rows holds strangers.
        refresh.table.assign(previous, 0)
        with self.assertLogs("absl", "INFO") as logs:
            row = refresh.refresh(PIXELS, 5)
        self.assertAlmostEqual(row["neighbor_churn"], 1 / 3)
        self.assertRegex(
            logs.records[0].getMessage(),
            r"^neighbors mined before epoch 6: neighbor_purity [\d.]+%, neighbor_churn 33.3%, ",
        )

    def test_no_purity_without_labels(self):
        source = memory.MemorySource(image_noise(6))
        logs = NeighborRefresh(source, self.view, 2).refresh(PIXELS, 0)
        self.assertEqual(logs.keys(), {"mining_seconds", "mined_images"})
        self.assertEqual(logs["mined_images"], 6)

    def test_is_due(self):
        refresh = NeighborRefresh(self.source, self.view, every_epochs=3)
        self.assertEqual([e for e in range(8) if refresh.is_due(e)], [0, 3, 6])
        # A run that ended after the mining of epoch 3 and before its checkpoint mines again;
        # one whose checkpoint has that table does not.
        refresh.table.mined_at_epoch.assign(3)
        self.assertFalse(refresh.is_due(3))

    def test_another_model_mines_once(self):
        """By its own view; the run's encoder is not asked."""
        view = CenterView(4)
        opened = []

        def open_teacher():
            opened.append(True)
            return features.flatten, view

        refresh = NeighborRefresh(
            self.source, self.view, 3, 2, mine_with="runs/first", open_teacher=open_teacher
        )
        self.assertEqual([e for e in range(8) if refresh.is_due(e)], [0])
        self.assertEmpty(opened)
        with self.assertLogs("absl", "INFO") as logs:
            refresh.refresh(types.SimpleNamespace(pooled_features=None), 0)
        self.assertIn("neighbors mined by runs/first: ", logs.records[-1].getMessage())
        pixels = np.stack([view(self.source.read(i)).numpy().ravel() for i in range(30)])
        self.assertAllEqual(refresh.table.neighbor_indices, nearest_rows(pixels))
        self.assertNotAllEqual(nearest_rows(pixels), self.nearest())
        self.assertEmpty([e for e in range(8) if refresh.is_due(e)])

    def test_another_model_that_nothing_opens(self):
        refresh = NeighborRefresh(self.source, self.view, 3, mine_with="runs/first")
        with self.assertRaisesRegex(InputError, "'runs/first', and nothing opens it: set the knob"):
            refresh.refresh(PIXELS, 0)

    @parameterized.parameters(30, 31)
    def test_too_few_images(self, num_neighbors):
        with self.assertRaisesRegex(InputError, "30 images, too few .* NUM_NEIGHBORS to 29"):
            NeighborRefresh(self.source, self.view, num_neighbors)

    @parameterized.parameters((0, 5, 9), (5, 0, 9), (5, 5, 0))
    def test_numbers_below_one(self, *numbers):
        with self.assertRaisesRegex(ValueError, "at least 1"):
            NeighborRefresh(self.source, self.view, *numbers)


def nearest_rows(rows):
    """The three others with the largest cosine, of each."""
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -2)
    return np.argsort(-cosines, axis=1)[:, :3]


def image_noise(count):
    return np.random.default_rng(0).integers(0, 256, [count, 8, 8], np.uint8)


if __name__ == "__main__":
    tf.test.main()
