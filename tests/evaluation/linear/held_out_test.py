import numpy as np
from absl.testing import absltest

from csml_tf.evaluation.linear import held_out


class HeldOutTest(absltest.TestCase):
    def test_a_fifth_of_each_class_and_always_the_same(self):
        labels = np.repeat([0, 1, 2], [50, 30, 20])
        hidden = held_out.draw(labels)
        self.assertEqual(np.bincount(labels[hidden]).tolist(), [10, 6, 4])
        np.testing.assert_array_equal(hidden, held_out.draw(labels))

    def test_choose(self):
        self.assertEqual(held_out.choose([0.1, 0.7, 0.7, 0.2]), 1)
        # The best mean is neither seed's best.
        self.assertEqual(held_out.choose([[0.9, 0.8, 0.0], [0.0, 0.8, 0.9]]), 1)


if __name__ == "__main__":
    absltest.main()
