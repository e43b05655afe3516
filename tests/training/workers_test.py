import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data.neighbor_table import NeighborTable
from csml_tf.training import workers


def make_strategy(replicas=2):
    return tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(replicas)], tf.distribute.ReductionToOneDevice()
    )


class CheckSameStateTest(tf.test.TestCase, parameterized.TestCase):
    def make_variables(self, strategy):
        values = np.random.default_rng(0).normal(size=[5, 4]).astype("float32")
        with strategy.scope():
            return {
                "keys": tf.Variable(values, trainable=False),
                "cursor": tf.Variable(7, dtype=tf.int64, trainable=False),
            }

    @parameterized.parameters(1, 2, 4)
    def test_equal_replicas_pass(self, replicas):
        strategy = make_strategy(replicas) if replicas > 1 else tf.distribute.get_strategy()
        table = NeighborTable(num_images=3, num_neighbors=2)
        workers.check_same_state(strategy, self.make_variables(strategy), table)

    @parameterized.parameters("last bit", "swapped rows", "cursor")
    def test_names_what_differs(self, fault):
        strategy = make_strategy(4)
        variables = self.make_variables(strategy)
        copy = variables["cursor" if fault == "cursor" else "keys"].values[2]
        value = copy.numpy()
        if fault == "last bit":
            value[3, 1] = np.nextafter(value[3, 1], np.float32(np.inf))
        elif fault == "swapped rows":
            value = value[[1, 0, 2, 3, 4]]
        else:
            value += 1
        copy.assign(value)
        name = "cursor" if fault == "cursor" else "keys"
        with self.assertRaisesRegex(RuntimeError, f"The {name} of replica 2 is not that of"):
            workers.check_same_state(strategy, variables)


class ShareTest(tf.test.TestCase, parameterized.TestCase):
    def test_same_settings_in_one_process(self):
        workers.check_same_settings(make_strategy(), "EPOCHS = 3")

    def test_one_process_shares_with_itself(self):
        table = np.arange(6, dtype=np.int32).reshape([3, 2])
        self.assertAllEqual(workers.share(make_strategy(), table), table)

    @parameterized.parameters(2, 4)
    def test_rows_of_all_replicas(self, replicas):
        """7 rows, which no number of replicas divides; each is computed once."""
        table = np.random.default_rng(0).integers(0, 99, [7, 3]).astype(np.int32)
        computed = []

        def compute(rows):
            computed.extend(range(rows.start, rows.stop))
            return table[rows]

        self.assertAllEqual(workers.share_rows(make_strategy(replicas), 7, compute), table)
        self.assertEqual(computed, [*range(7)])


if __name__ == "__main__":
    tf.test.main()
