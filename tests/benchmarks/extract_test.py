import pytest
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.benchmarks import extract
from csml_tf.errors import InputError


class MeasureTest(tf.test.TestCase, parameterized.TestCase):
    @pytest.mark.slow
    def test_fields(self):
        row = extract.measure("resnet18", "cifar", 2, 32, 3, steps=2, warmup=1)
        expected = {"bench": "extract", "arch": "resnet18", "res": 32, "batch": 3, "features": 16}
        self.assertEqual(row, {**row, **expected, "bn_folded": True})
        self.assertEqual(row["step_s"]["n"], 2)
        self.assertAllClose(row["images_per_s"], 3 / row["step_s"]["median"], rtol=0.1)

    @parameterized.parameters({"res": 31}, {"batch": 0}, {"width": 0}, {"steps": 0}, {"warmup": 0})
    def test_refuses_numbers(self, **changes):
        numbers = {"width": 2, "res": 32, "batch": 3, "steps": 1, "warmup": 1, **changes}
        with self.assertRaisesRegex(InputError, f"--{next(iter(changes))} must be "):
            extract.measure("resnet18", "cifar", **numbers)


if __name__ == "__main__":
    tf.test.main()
