import numpy as np
import tensorflow as tf

from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from csml_tf.evaluation import labelled_pair


def make_source(labels, name, class_names=None):
    count = len(labels) if labels is not None else 3
    return memory.MemorySource(np.zeros([count, 4, 4], np.uint8), labels, class_names, name)


class CheckTest(tf.test.TestCase):
    def test_counts_classes(self):
        pair = make_source([0, 4, 2], "a"), make_source([4, 4], "b")
        self.assertEqual(labelled_pair.check(*pair), 5)

    def test_rejects(self):
        good = make_source([0, 1, 2], "good", ["x", "y", "z"])
        named = make_source([0, 3], "new", ["x", "y", "z", "owl"])
        for pair, message in (
            ((make_source(None, "bare"), good), "needs labels, and bare has none"),
            ((good, make_source(None, "bare")), "needs labels, and bare has none"),
            ((good, make_source([0, -1], "part")), "needs labels, and part lacks some"),
            ((make_source([1, 1], "alike"), good), "alike has one class only"),
            ((good, named), r"new has 1 class that good lacks, the first is 'owl'"),
            ((make_source([0, 2], "t"), make_source([1], "u")), "the first is number 1:"),
        ):
            with self.assertRaisesRegex(InputError, message):
                labelled_pair.check(*pair)


if __name__ == "__main__":
    tf.test.main()
