import numpy as np
from absl.testing import absltest, parameterized

from csml_tf.conversion import torch_heads
from tests.conversion import numpy_resnet


def linear(inputs, outputs, place="", bias=True):
    layer = {f"{place}weight": np.zeros([outputs, inputs])}
    return {**layer, **({f"{place}bias": np.zeros([outputs])} if bias else {})}


class ReadHeadTest(parameterized.TestCase):
    @parameterized.parameters("", "layers.", "net.")
    def test_two_layers(self, prefix):
        head = numpy_resnet.random_head(6, 3)
        found, fault = torch_heads.read_head({prefix + n: a for n, a in head.items()}, 6)
        self.assertIsNone(fault)
        self.assertIs(found[0][0], head["0.weight"])
        self.assertIs(found[1][1], head["2.bias"])

    @parameterized.parameters("", "9.")
    def test_one_layer(self, place):
        found, _ = torch_heads.read_head(linear(6, 3, place), 6)
        self.assertEqual([(w.shape, b.shape) for w, b in found], [((3, 6), (3,))])

    def test_layers_come_in_the_order_of_their_numbers(self):
        head = {**linear(6, 3, "10."), **linear(6, 6, "9.")}
        found, _ = torch_heads.read_head(head, 6)
        self.assertEqual([len(bias) for _, bias in found], [6, 3])

    @parameterized.parameters(
        ({}, "has none"),
        ({**linear(6, 6, "0."), "1.running_mean": np.zeros([6])}, "batch norm"),
        # The scale and shift of batch norm have the names of a linear layer's weights.
        ({**linear(6, 6, "0."), "1.weight": np.zeros([6]), "1.bias": np.zeros([6])}, "batch norm"),
        (linear(6, 3, bias=False), "no bias"),
        ({**linear(6, 8, "0."), **linear(8, 3, "2.")}, "one hidden layer of 6 .* and it has 8"),
        (
            {**linear(6, 6, "0."), **linear(6, 6, "2."), **linear(6, 3, "4.")},
            "and it has 6 and 6",
        ),
        (linear(5, 3), "do not fit each other"),
        ({"weight": np.zeros([3, 6]), "bias": np.zeros([2])}, "do not fit each other"),
    )
    def test_is_not_like_ours(self, tensors, message):
        found, fault = torch_heads.read_head(tensors, 6)
        self.assertIsNone(found)
        self.assertRegex(fault, message)


if __name__ == "__main__":
    absltest.main()
