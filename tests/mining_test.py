from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf import approximate_search, mining
from csml_tf.augment import center_view
from csml_tf.data.sources import memory
from csml_tf.models import encoder
from tests import approximate_search_test
from tests.data.sources import image_files

# The last two are copies of the first two.
IMAGES = np.stack([image_files.noise(seed, 12, 12) for seed in [*range(15), 0, 1]])


def make_backbone():
    images = tf.keras.Input([None, None, 3])
    maps = tf.keras.layers.Conv2D(16, 3, 2, activation="relu")(images)
    return tf.keras.Model(images, {"stage4": tf.keras.layers.BatchNormalization()(maps)})


class MineNeighborsTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.encoder = encoder.MultiLevelEncoder(make_backbone, {"stage4": 3})
        self.view = center_view.CenterView(image_size=8)

    @parameterized.parameters(4, 17)
    def test_matches_brute_force(self, batch_size):
        maps = self.encoder.backbone(self.view(IMAGES), training=False)["stage4"].numpy()
        features = maps.mean(axis=(1, 2), dtype="float64")
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        similarities = features @ features.T
        np.fill_diagonal(similarities, -np.inf)

        source = memory.MemorySource(IMAGES)
        actual, recall = mining.mine_neighbors(
            self.encoder.pooled_features, source, self.view, 3, batch_size
        )
        self.assertIsNone(recall)
        self.assertEqual((actual.shape, actual.dtype), ((17, 3), np.int32))
        found = np.take_along_axis(similarities, actual, axis=1)
        # By similarity: two neighbors that are as near as each other may swap.
        self.assertAllClose(found, -np.sort(-similarities, axis=1)[:, :3], rtol=0, atol=1e-6)
        self.assertGreater(np.mean(actual == np.argsort(-similarities, axis=1)[:, :3]), 0.9)

    def test_never_itself_but_its_copy(self):
        source = memory.MemorySource(IMAGES)
        actual, _ = mining.mine_neighbors(self.encoder.pooled_features, source, self.view, 5)
        self.assertAllEqual(actual[[0, 1, 15, 16], 0], [15, 16, 0, 1])
        for i, row in enumerate(actual):
            self.assertNotIn(i, row)
            self.assertLen(set(row), 5)

    def test_rows_shared_by_workers(self):
        source = memory.MemorySource(IMAGES[:15])  # Of copies either may come first.
        options = (self.encoder.pooled_features, source, self.view, 3)
        parts = [slice(0, 5), slice(5, 6), slice(6, 15)]

        def share_rows(num_rows, search):
            self.assertEqual(num_rows, 15)
            return np.concatenate([search(rows) for rows in parts])

        actual, _ = mining.mine_neighbors(*options, share_rows=share_rows)
        self.assertAllEqual(actual, mining.mine_neighbors(*options)[0])

    @approximate_search_test.needs_faiss
    def test_approximate(self):
        source = memory.MemorySource(IMAGES[:15])
        options = (self.encoder.pooled_features, source, self.view, 3)
        exact, _ = mining.mine_neighbors(*options)
        whole, recall = mining.mine_neighbors(*options, approximate=True)
        self.assertAllEqual(whole, exact)  # So few rows are one list.
        self.assertEqual(recall, 1.0)
        parts = [slice(0, 5), slice(5, 6), slice(6, 15)]
        make = mock.Mock(wraps=approximate_search.InvertedFile)
        with mock.patch.object(approximate_search, "InvertedFile", make):
            shared, _ = mining.mine_neighbors(
                *options,
                share_rows=lambda _, search: np.concatenate([search(rows) for rows in parts]),
                approximate=True,
            )
        self.assertAllEqual(shared, whole)
        self.assertEqual(make.call_count, 1)  # Not one for each part.

    @approximate_search_test.needs_faiss
    def test_recall_is_that_of_the_whole_table(self):
        source = memory.MemorySource(IMAGES[:15])
        options = (self.encoder.pooled_features, source, self.view, 3)
        exact, _ = mining.mine_neighbors(*options)

        def share_rows(num_rows, search):
            table = search(slice(0, num_rows)).copy()
            for row in range(5):  # Of a third of the rows, one of three is a stranger.
                table[row, 0] = next(i for i in range(15) if i != row and i not in exact[row])
            return table

        _, recall = mining.mine_neighbors(*options, share_rows=share_rows, approximate=True)
        self.assertAlmostEqual(recall, 1 - 5 / 45)

    def test_the_encoder_stays_as_it_is(self):
        before = self.encoder.get_weights()
        mining.mine_neighbors(
            self.encoder.pooled_features, memory.MemorySource(IMAGES), self.view, 5
        )
        for value, start in zip(self.encoder.get_weights(), before):
            self.assertAllEqual(value, start)

    def test_rejects_more_neighbors_than_others(self):
        source = memory.MemorySource(IMAGES)
        with self.assertRaisesRegex(ValueError, "from 1 to the 16 candidates .* got 17"):
            mining.mine_neighbors(self.encoder.pooled_features, source, self.view, 17)


if __name__ == "__main__":
    tf.test.main()
