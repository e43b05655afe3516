"""Against PyTorch itself: torchvision's networks, and MoCo's layout made of them."""

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.conversion import convert
from csml_tf.models.backbones import contract
from tests.training import tiny_run

try:
    import torch
    import torchvision
except (ImportError, RuntimeError) as error:  # RuntimeError: builds that do not fit each other.
    pytest.skip(f"torchvision cannot be imported ({error})", allow_module_level=True)

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def make_network(name, seed):
    """Random in everything, moving statistics and counters included."""
    torch.manual_seed(seed)
    network = getattr(torchvision.models, name)().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                torch.nn.init.normal_(tensor, std=0.2)
            module.num_batches_tracked.fill_(12 + seed)
    return network


def outputs_of(network, images):
    """{"stage1".. "stage4", "features"}, channels last."""
    maps = torch.from_numpy(((images - MEAN) / STD).transpose(0, 3, 1, 2).copy())
    outputs = {}
    with torch.no_grad():
        maps = network.maxpool(network.relu(network.bn1(network.conv1(maps))))
        for number, stage in enumerate(contract.STAGES, start=1):
            maps = getattr(network, f"layer{number}")(maps)
            outputs[stage] = maps.numpy().transpose(0, 2, 3, 1)
    return {**outputs, "features": maps.mean(dim=(2, 3)).numpy()}


@pytest.mark.slow
class TorchvisionTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tiny_run.make_temp_dir(self.addCleanup)
        self.images = np.random.default_rng(0).uniform(size=[2, 97, 64, 3]).astype("float32")

    def convert(self, content):
        """-> the signatures of the converted checkpoint."""
        torch.save(content, self.folder / "x.pth.tar")
        convert.convert(self.folder / "x", checkpoint=self.folder / "x.pth.tar")
        return tf.saved_model.load(str(self.folder / "x")).signatures

    def assert_close(self, actual, expected):
        scale = np.abs(expected).max()
        self.assertAllClose(actual, expected, rtol=0, atol=1e-4 * scale)

    def assert_back(self, network, head):
        convert.convert(self.folder / "back.pth", model=self.folder / "x", to="torch", head=head)
        back = torch.load(self.folder / "back.pth", weights_only=True)
        expected = network.state_dict()
        expected = {n: t for n, t in expected.items() if head or not n.startswith("fc.")}
        self.assertEqual({*back}, {*expected})
        for name, tensor in expected.items():
            self.assertEqual(back[name].dtype, tensor.dtype)
            self.assertEqual(back[name].numpy().tobytes(), tensor.numpy().tobytes(), name)

    @parameterized.parameters("resnet18", "resnet50", "resnet101")
    def test_computes_the_same_and_comes_back(self, name):
        network = make_network(name, seed=0)
        signatures = self.convert(network.state_dict())
        actual = signatures["endpoints"](images=tf.constant(self.images))
        for output, expected in outputs_of(network, self.images).items():
            self.assert_close(actual[output], expected)
        self.assert_back(network, head=False)

    def test_layout_of_the_authors(self):
        encoders = {}
        for seed, name in enumerate(("encoder_q", "encoder_k")):
            encoder = encoders[name] = make_network("resnet50", seed)
            encoder.fc = torch.nn.Sequential(
                torch.nn.Linear(2048, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 128)
            )
        state = {
            f"module.{name}.{tensor}": value
            for name, encoder in encoders.items()
            for tensor, value in encoder.state_dict().items()
        }
        queue = torch.nn.functional.normalize(torch.randn(128, 64), dim=0)
        state.update({"module.queue": queue, "module.queue_ptr": torch.tensor([32])})
        signatures = self.convert({"epoch": 200, "state_dict": state, "optimizer": {"state": {}}})
        query = encoders["encoder_q"]
        expected = outputs_of(query, self.images)
        actual = signatures["endpoints"](images=tf.constant(self.images))
        for output in expected:
            self.assert_close(actual[output], expected[output])
        with torch.no_grad():
            embedding = query.fc(torch.from_numpy(expected["features"]))
            embedding = torch.nn.functional.normalize(embedding, dim=1).numpy()
        actual = signatures["embed"](images=tf.constant(self.images))["embedding"]
        self.assert_close(actual, embedding)
        self.assert_back(query, head=True)


if __name__ == "__main__":
    tf.test.main()
