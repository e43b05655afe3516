import numpy as np
from absl.testing import absltest, parameterized

from csml_tf.conversion import architecture
from csml_tf.errors import InputError
from tests.conversion import numpy_resnet


def names_of(blocks, bottleneck, first=(4, 3, 7, 7)):
    """Only the names and the shape that are looked at."""
    last = 3 if bottleneck else 2
    state = {
        f"layer{stage}.{block}.conv{last}.weight": np.zeros([1])
        for stage, count in enumerate(blocks, start=1)
        for block in range(count)
    }
    return {"conv1.weight": np.zeros(first), **state}


class RecognizeTest(parameterized.TestCase):
    # arXiv:1512.03385, table 1.
    @parameterized.parameters(
        ((2, 2, 2, 2), False, 18),
        ((3, 4, 6, 3), False, 34),
        ((3, 4, 6, 3), True, 50),
        ((3, 4, 23, 3), True, 101),
        ((3, 8, 36, 3), True, 152),
    )
    def test_depth(self, blocks, bottleneck, depth):
        found = architecture.recognize(names_of(blocks, bottleneck))
        self.assertEqual((found.depth, found.width, found.stem), (depth, 4, "imagenet"))
        self.assertEqual(found.name, f"resnet{depth}")
        self.assertEqual(str(found), f"ResNet-{depth} of width 4")

    def test_stem_and_width(self):
        state = numpy_resnet.random_state(18, width=64, stem="cifar")
        found = architecture.recognize(state, "resnet18")
        self.assertEqual((found.depth, found.width, found.stem), (18, 64, "cifar"))
        self.assertEqual(str(found), "ResNet-18 with the CIFAR stem")

    def test_the_name_decides_where_blocks_are_missing(self):
        state = names_of((2, 2, 2, 1), False)
        self.assertEqual(architecture.recognize(state, "resnet18").depth, 18)
        with self.assertRaisesRegex(InputError, "with 2, 2, 2, 1 basic blocks in its stages"):
            architecture.recognize(state)

    @parameterized.parameters(
        (names_of((3, 4, 6, 3), True), "resnet101", "of a resnet50 and not of a resnet101: mend"),
        (names_of((3, 24, 36, 3), True), None, "with 3, 24, 36, 3 bottleneck blocks .* none of"),
        (names_of((2, 2, 2, 2), False, (4, 3, 5, 5)), None, r"is \[4, 3, 5, 5\]: a ResNet with"),
        ({**names_of((2, 2, 2, 2), False), "conv1.weight": np.zeros([4])}, None, r"is \[4\]: a R"),
    )
    def test_refuses(self, state, name, message):
        with self.assertRaisesRegex(InputError, message):
            architecture.recognize(state, name)

    def test_refuses_a_stem_without_its_convolution(self):
        state = names_of((2, 2, 2, 2), False)
        del state["conv1.weight"]
        with self.assertRaisesRegex(InputError, "conv1.weight, is missing"):
            architecture.recognize(state)


if __name__ == "__main__":
    absltest.main()
