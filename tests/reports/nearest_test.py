from unittest import mock

import numpy as np
from absl.testing import absltest

from csml_tf.data.neighbor_table import NeighborTable
from csml_tf.data.sources import folder, memory
from csml_tf.reports import nearest, palette
from csml_tf.reports.part import LeftOut
from csml_tf.reports.trained_features import ImageFeatures
from tests.data.sources import image_files
from tests.training import tiny_run
from tests.training.saved_neighbors_test import write_checkpoint

NUM_IMAGES = 30


def make_source(num_images=NUM_IMAGES, labels=True, name="dots"):
    """Images whose grey says their index; their class is the last digit of it."""
    images = np.broadcast_to(
        np.arange(num_images, dtype=np.uint8)[:, None, None], [num_images, 4, 4]
    )
    return memory.MemorySource(images, np.arange(num_images) % 10 if labels else None, None, name)


def read(sheet):
    """The sheet as [[(index, cosine or None, colour of its frame or None)]] by row."""
    return [
        [(image.index, cosine, frame) for image, cosine, frame in row.cells()] for row in sheet.rows
    ]


class MinedTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.checkpoints = tiny_run.make_temp_dir(self.addCleanup)
        self.table = np.random.default_rng(0).integers(0, NUM_IMAGES, [NUM_IMAGES, 5])

    def write(self, epoch=3):
        table = NeighborTable(*self.table.shape)
        table.assign(self.table, epoch)
        write_checkpoint(self.checkpoints, 1, neighbor_table=table)

    def mined(self, source=None, fingerprint=None):
        source = source or make_source()
        return nearest.mined(self.checkpoints, source, fingerprint or source.fingerprint, 0)

    def test_neighbors_are_those_of_the_table(self):
        self.write()
        sheet, caption = self.mined()
        rows = read(sheet)
        self.assertLen(rows, nearest.NUM_ROWS)
        for (anchor, _, no_frame), *others in rows:
            self.assertIsNone(no_frame)
            self.assertEqual([index for index, _, _ in others], self.table[anchor].tolist())
            for index, _, frame in others:
                is_same = index % 10 == anchor % 10
                self.assertEqual(frame, palette.SAME if is_same else palette.OTHER)
        self.assertRegex(caption, "8 images of dots, .*seed 0, .*the 5 nearest of 30 images .*")
        self.assertRegex(caption, "mined before epoch 4.*Blue frame")

    def test_without_labels(self):
        self.write()
        sheet, caption = self.mined(make_source(labels=False))
        self.assertEqual({frame for row in read(sheet) for _, _, frame in row}, {None})
        self.assertNotIn("frame", caption)

    def test_left_out(self):
        with self.assertRaisesRegex(LeftOut, "no neighbor table in .*MoCo"):
            self.mined()
        self.write(epoch=-1)
        with self.assertRaisesRegex(LeftOut, "not mined yet"):
            self.mined()
        self.write()
        for source, fingerprint in ((make_source(), "other"), (make_source(29), None)):
            with self.assertRaisesRegex(LeftOut, "dots are not those .*--data_dir"):
                self.mined(source, fingerprint)


class OfHeldOutTest(absltest.TestCase):
    def test_nearest_by_cosine(self):
        rng = np.random.default_rng(1)
        values = rng.normal(size=[NUM_IMAGES + 6, 3]).astype(np.float32)
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        train = ImageFeatures(make_source(), values[:NUM_IMAGES])
        test = ImageFeatures(make_source(6, name="unseen"), values[NUM_IMAGES:])
        sheet, caption = nearest.of_held_out(test, train, 0, False)
        rows = read(sheet)
        self.assertEqual([row[0][0] for row in rows], [0, 1, 2, 3, 4, 5])
        for (anchor, _, _), *others in rows:
            cosines = [float(test.values[anchor] @ value) for value in train.values]
            order = np.argsort(cosines)[::-1][:5]
            self.assertEqual([index for index, _, _ in others], order.tolist())
            np.testing.assert_allclose(
                [cosine for _, cosine, _ in others], [cosines[index] for index in order], atol=1e-6
            )
        self.assertRegex(caption, "6 images .* out of unseen, .* 5 nearest of 30 images, dots")
        self.assertNotIn("trained on all", caption)
        self.assertIn("trained on all", nearest.of_held_out(test, train, 0, True)[1])


class OfQueriesTest(absltest.TestCase):
    def test_a_training_image_is_not_its_own_neighbor(self):
        directory = tiny_run.make_temp_dir(self.addCleanup)
        image_files.write_pngs(directory, 7)
        source = folder.FolderSource(directory)
        values = np.random.default_rng(1).normal(size=[7, 3]).astype(np.float32)
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        train = ImageFeatures(source, values)
        queries = ImageFeatures(source.subset([2, 5]), values[[2, 5]])
        sheet, caption = nearest.of_queries(queries, train)
        for query, ((anchor, *_), *others) in zip((2, 5), read(sheet)):
            self.assertEqual(sheet.rows[anchor].anchor.path, source.paths[query])
            order = np.argsort(-(values @ values[query]), kind="stable")
            self.assertEqual([index for index, _, _ in others], order[1:6].tolist())
        self.assertRegex(caption, "^2 images of .* for each the 5 nearest of 7 images, folder:")

    def test_the_first_of_many(self):
        directory = tiny_run.make_temp_dir(self.addCleanup)
        image_files.write_pngs(directory, 3)
        source = folder.FolderSource(directory)
        features = ImageFeatures(source, np.eye(3, dtype=np.float32))
        with mock.patch.object(nearest, "MAX_QUERIES", 2):
            sheet, caption = nearest.of_queries(features, features)
        self.assertLen(sheet.rows, 2)
        self.assertRegex(caption, "^The first 2 of 3 of folder:.* the 2 nearest of 3 images")


if __name__ == "__main__":
    absltest.main()
