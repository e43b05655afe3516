import pathlib

import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data import labelled_batches, parallel, pipeline
from csml_tf.data.sources import memory
from tests.data.sources import image_files
from tests.training import tiny_run

PACKAGE = pathlib.Path(__file__).parents[2] / "csml_tf"


def make_source(encoded):
    images = tiny_run.make_source(8).read(tf.range(8)).numpy()
    if not encoded:
        return memory.MemorySource(images, [0, 1] * 4)
    return memory.EncodedSource([image_files.encode(image, "PNG") for image in images], [0, 1] * 4)


class PrefetchTest(tf.test.TestCase, parameterized.TestCase):
    def test_same_elements_in_order(self):
        dataset = tf.data.Dataset.range(10).map(lambda i: 3 * i, parallel.CALLS).batch(4)
        batches = list(parallel.prefetch(dataset).as_numpy_iterator())
        self.assertAllEqual(batches[0], [0, 3, 6, 9])
        self.assertAllEqual(batches[-1], [24, 27])
        self.assertLen(batches, 3)

    @parameterized.product(encoded=[False, True], augment_on=["host", "device"])
    def test_no_epoch_is_tuned(self, encoded, augment_on):
        source, augmentation = make_source(encoded), labelled_batches.make_crop_and_flip(4)
        batches = pipeline.make_epoch(
            source, {"query": augmentation}, 4, 0, 0, augment_on=augment_on
        )
        self.assertIs(batches.options().autotune.enabled, False)
        labelled = labelled_batches.make_labelled_epoch(source, augmentation, 4, 0, 0)
        self.assertIs(labelled.options().autotune.enabled, False)

    def test_nothing_is_tuned_elsewhere(self):
        # Who asks for tuning, or ends a pipeline otherwise, brings its thread back.
        for path in PACKAGE.rglob("*.py"):
            if path.name != "parallel.py":
                text = path.read_text(encoding="utf-8").replace("parallel.prefetch(", "")
                self.assertNotRegex(text, r"AUTOTUNE|\.prefetch\(", path.name)


if __name__ == "__main__":
    tf.test.main()
