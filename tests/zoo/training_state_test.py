import numpy as np
from absl.testing import absltest, parameterized

from csml_tf.errors import InputError
from csml_tf.zoo.training_state import TrainingState


class TrainingStateTest(parameterized.TestCase):
    def test_there_and_back(self):
        layers = {"stem": [np.ones([2])], "stem_bn": [np.full([3], i) for i in range(4)]}
        head = [np.full([1], i) for i in range(12)]
        state = TrainingState(layers, head, np.zeros([4, 2]), 3)
        found = TrainingState.unpack(state.pack())
        self.assertEqual([*found.key_layers], ["stem", "stem_bn"])
        np.testing.assert_array_equal(found.key_layers["stem_bn"], layers["stem_bn"])
        np.testing.assert_array_equal(found.key_head, head)  # Ten comes after nine, not one.
        np.testing.assert_array_equal(found.queue, state.queue)
        self.assertEqual(found.cursor, 3)
        self.assertEqual(state.describe(), "the key encoder, its head, a queue of 4 keys")

    @parameterized.parameters(
        {"queue": np.zeros([4])},
        {"queue": np.zeros([0, 2])},
        {"queue": np.array([["a"]])},
        {"queue_cursor": np.zeros([2], int)},
        {"queue_cursor": np.array("3")},
        {"queue_cursor": np.array(1.5)},
    )
    def test_arrays_from_elsewhere(self, **arrays):
        with self.assertRaisesRegex(InputError, "training_state.npz is none of MoCo's: delete"):
            TrainingState.unpack(arrays)

    def test_nothing(self):
        self.assertEqual(TrainingState().pack(), {})
        self.assertEqual(TrainingState.unpack({}), TrainingState())
        self.assertEqual(TrainingState().describe(), "")


if __name__ == "__main__":
    absltest.main()
