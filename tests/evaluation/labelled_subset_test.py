import json

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from csml_tf.evaluation import labelled_subset
from tests.training import tiny_run

LABELS = np.arange(200) % 4


def make_source(labels=LABELS, brightness=0):
    images = np.full([200, 2, 2], brightness, np.uint8)
    return memory.MemorySource(images, labels, ["a", "b", "c", "d"], name="squares")


class ChooseTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.source = make_source()
        self.path = tiny_run.make_temp_dir(self.addCleanup) / "card.labels.json"

    def write(self, indices, source=None):
        self.path.write_text(labelled_subset.to_json(source or self.source, indices, "drawn"))

    def test_draw(self):
        indices, origin = labelled_subset.choose(self.source, fraction=0.1, seed=3)
        self.assertEqual(np.bincount(LABELS[indices]).tolist(), [5] * 4)
        self.assertEqual(origin, "20 of 200 images, 0.1, drawn with seed 3")
        self.assertAllEqual(indices, np.unique(indices))
        other, _ = labelled_subset.choose(self.source, fraction=0.1, seed=4)
        self.assertNotAllEqual(indices, other)

    def test_images_without_a_label_are_never_drawn(self):
        source = make_source(np.where(np.arange(200) < 100, LABELS, -1))
        indices, _ = labelled_subset.choose(source, fraction=0.2)
        self.assertLen(indices, 20)  # Of those that have one.
        self.assertAllLess(indices, 100)
        for fraction in (None, 1.0):
            indices, _ = labelled_subset.choose(source, fraction)
            self.assertAllEqual(indices, np.arange(100))

    def test_draw_per_class(self):
        labels = np.where(np.arange(200) < 7, 3, LABELS % 3)  # Class 3 has seven images.
        source = make_source(np.where(np.arange(200) >= 190, -1, labels))
        previous = []
        for count, drawn in ((1, 4), (7, 28), (20, 67)):
            indices, origin = labelled_subset.choose(source, per_class=count, seed=2)
            self.assertEqual(
                origin, f"{drawn} of 200 images, {count} of each class, drawn with seed 2"
            )
            expected = [count, count, count, min(count, 7)]
            self.assertEqual(np.bincount(source.labels[indices]).tolist(), expected)
            self.assertAllEqual(indices, np.unique(indices))
            self.assertContainsSubset(previous, indices)
            previous = indices
        other, _ = labelled_subset.choose(source, per_class=20, seed=3)
        self.assertNotAllEqual(previous, other)

    def test_file_gives_the_draw_again(self):
        drawn, _ = labelled_subset.choose(self.source, fraction=0.05)
        self.write(drawn)
        self.assertEqual(json.loads(self.path.read_text())["origin"], "drawn")
        indices, origin = labelled_subset.choose(make_source(), path=self.path)
        self.assertAllEqual(indices, drawn)
        self.assertEqual(origin, f"10 of 200 images, listed in {self.path}")

    @parameterized.parameters(0.0, -0.1, 1.5, float("nan"))
    def test_rejects_fraction(self, fraction):
        with self.assertRaisesRegex(InputError, "--labels must be .* above 0 and at most 1, got"):
            labelled_subset.choose(self.source, fraction)

    def test_rejects_a_class_without_a_label(self):
        with self.assertRaisesRegex(
            InputError, r"--labels=0.01 of squares is 2 images and leaves 2 of 4 .*: 0.02 gives"
        ):
            labelled_subset.choose(self.source, 0.01)
        labelled_subset.choose(self.source, 0.02)

    def test_the_named_fraction_is_enough(self):
        labels = np.where(np.arange(200) < 7, 3, LABELS % 3)
        for seed in range(20):
            indices, _ = labelled_subset.choose(make_source(labels), 1 / 7, seed=seed)
            self.assertGreaterEqual(np.bincount(labels[indices])[3], 1)

    def test_rejects_no_labels(self):
        for labels in (None, np.full(200, -1)):
            with self.assertRaisesRegex(InputError, "needs labels, and squares has none"):
                labelled_subset.choose(make_source(labels), 0.1)

    def test_rejects_two_origins(self):
        with self.assertRaisesRegex(InputError, "--labels or --labels_file: leave one out"):
            labelled_subset.choose(self.source, 0.1, path=self.path)
        with self.assertRaisesRegex(InputError, "--labels or --labels_per_class: leave one out"):
            labelled_subset.choose(self.source, 0.1, 5)

    def test_rejects_a_list_of_other_images(self):
        self.write([1, 2], make_source(brightness=9))
        with self.assertRaisesRegex(InputError, "was drawn from other images .* than squares"):
            labelled_subset.choose(self.source, path=self.path)

    @parameterized.parameters(([0, 200],), ([-1],), ([0.5],), ([4, 5],), ([],))
    def test_rejects_indices(self, indices):
        source = make_source(np.where(np.arange(200) == 5, -1, LABELS))
        self.write(indices)
        with self.assertRaisesRegex(
            InputError, "names no images, or some that squares does not have or"
        ):
            labelled_subset.choose(source, path=self.path)

    @parameterized.parameters("no JSON", "[1, 2]", '{"indices": [1]}')
    def test_rejects_a_file_of_another_kind(self, text):
        self.path.write_text(text)
        with self.assertRaisesRegex(InputError, "is no list of labelled images"):
            labelled_subset.choose(self.source, path=self.path)

    def test_rejects_a_missing_file(self):
        with self.assertRaisesRegex(InputError, "cannot be read .*check --labels_file"):
            labelled_subset.choose(self.source, path=self.path)


if __name__ == "__main__":
    tf.test.main()
