import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.models import key_bank


class KeyBankTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(False, True)
    def test_matches_a_dictionary(self, compiled):
        rng = np.random.default_rng(0)
        bank, expected = key_bank.KeyBank(6, dim=3), {}
        write = tf.function(bank.write) if compiled else bank.write
        for _ in range(4):
            indices = rng.permutation(6)[:2]
            keys = rng.normal(size=[2, 3]).astype("float32")
            keys[0, 1] = 0  # A component, not the key.
            write(tf.constant(indices), tf.constant(keys))
            expected.update(zip(indices.tolist(), keys))
            for i in range(6):
                self.assertAllEqual(bank.read([i])[0], expected.get(i, np.zeros(3)))
                self.assertEqual(bool(key_bank.has_key(bank.read([i]))), i in expected)
        self.assertNotIn(len(expected), (0, 6))

    def test_is_not_trainable(self):
        bank = key_bank.KeyBank(4, 2)
        self.assertEmpty(bank.trainable_variables)
        self.assertLen(bank.variables, 1)


if __name__ == "__main__":
    tf.test.main()
