import os

import numpy as np
import tensorflow as tf

from csml_tf.data.sources import packed_names

NAMES = ["a.jpg", "ant/é é.jpg", os.fsdecode(b"bee/\xff.png"), "x" * 300]


class PackedNamesTest(tf.test.TestCase):
    def test_names_by_number(self):
        names = packed_names.PackedNames(NAMES)
        self.assertLen(names, 4)
        self.assertEqual(list(names), NAMES)
        dataset = tf.data.Dataset.from_tensor_slices(np.array([2, 0, 3, 1])).map(names.gather)
        gathered = [os.fsdecode(name) for name in dataset.as_numpy_iterator()]
        self.assertEqual(gathered, [NAMES[i] for i in (2, 0, 3, 1)])

    def test_slices(self):
        names = packed_names.PackedNames(NAMES)
        for start in range(5):
            for stop in range(start, 5):
                self.assertEqual(names.slice(start, stop), NAMES[start:stop])

    def test_one_name(self):
        names = packed_names.PackedNames(["a"])
        self.assertEqual((len(names), list(names), names.gather(0)), (1, ["a"], b"a"))

    def test_rejects_other_numbers(self):
        names = packed_names.PackedNames(NAMES)
        for index in (-1, 4, 5):
            with self.assertRaises(tf.errors.InvalidArgumentError):
                names.gather(tf.constant(index, tf.int64))


if __name__ == "__main__":
    tf.test.main()
