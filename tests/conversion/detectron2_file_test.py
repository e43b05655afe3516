import pickle

import numpy as np
from absl.testing import absltest

from csml_tf.conversion import detectron2_file
from tests.conversion import numpy_resnet
from tests.training import tiny_run

# Of Detectron2's ResNet-50, by its documentation: one block of each kind.
FIRST_BLOCK = {
    "conv1": "conv1",
    "bn1": "conv1.norm",
    "conv2": "conv2",
    "bn2": "conv2.norm",
    "conv3": "conv3",
    "bn3": "conv3.norm",
    "downsample.0": "shortcut",
    "downsample.1": "shortcut.norm",
}


class Detectron2FileTest(absltest.TestCase):
    def test_names_of_resnet50(self):
        state = numpy_resnet.random_state(50, width=1)
        expected = {}
        for name in state:
            *module, tensor = name.split(".")
            if len(module) == 1:
                expected[name] = f"stem.{FIRST_BLOCK[module[0]]}.{tensor}"
            else:
                stage, block = int(module[0][-1]) + 1, module[1]
                rest = FIRST_BLOCK[".".join(module[2:])]
                expected[name] = f"res{stage}.{block}.{rest}.{tensor}"
        self.assertEqual({name: detectron2_file.rename(name) for name in state}, expected)
        self.assertLen({*expected.values()}, 53 + 53 * 5)

    def test_file(self):
        path = tiny_run.make_temp_dir(self.addCleanup) / "x.pkl"
        state = numpy_resnet.random_state(50, width=1)
        detectron2_file.write(path, {**state, "fc.0.weight": np.ones([2, 2])})
        with path.open("rb") as file:
            content = pickle.load(file)
        self.assertEqual({*content}, {"model", "__author__", "matching_heuristics"})
        self.assertIs(content["matching_heuristics"], True)
        model = content["model"]
        self.assertEqual({type(array) for array in model.values()}, {np.ndarray})
        np.testing.assert_array_equal(
            model["res3.0.shortcut.norm.running_var"], state["layer2.0.downsample.1.running_var"]
        )
        np.testing.assert_array_equal(model["stem.conv1.weight"], state["conv1.weight"])
        # So does MoCo's script, and Detectron2 passes over it.
        self.assertIn("stem.fc.0.weight", model)


if __name__ == "__main__":
    absltest.main()
