"""The Python of the documents runs as it stands there, beside an exported encoder."""

import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from csml_tf.export import saved_model
from tests.training import tiny_run

ROOT = pathlib.Path(__file__).parents[2]


def python_blocks(document):
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class DocumentsTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tiny_run.make_temp_dir(cls.addClassCleanup)
        cls.encoder = tiny_run.make_encoder()
        card = {"id": "tiny", "image_size": 64}
        saved_model.export(cls.encoder, cls.folder / "model", (0.5,) * 3, (0.2,) * 3, card)

    def test_using_encoders(self):
        # In a process of its own: TF Hub imports a second Keras.
        blocks = python_blocks("using_encoders.md")
        self.assertLen(blocks, 7)
        process = subprocess.run(
            [sys.executable, "-c", "\n".join(blocks)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.returncode, 0, process.stderr)

    def test_using_own_network(self):
        """Beside the user's recipe, in the folder where the training is started."""
        text = (ROOT / "docs" / "using_own_network.md").read_text(encoding="utf-8")
        (recipe,) = re.findall(r"^```\n(import .*?)^```$", text, re.MULTILINE | re.DOTALL)
        folder = tiny_run.make_temp_dir(self.addCleanup)
        module = "\n".join(python_blocks("using_own_network.md"))
        (folder / "my_network.py").write_text(module, encoding="utf-8")
        recipe += "MultiLevelEncoder.make_head = @make_my_head\n"
        (folder / "mine.gin").write_text(recipe, encoding="utf-8")
        program = """
            import gin
            from csml_tf import recipes
            from csml_tf.models.backbones import contract
            recipes.parse(["mine.gin"])
            encoder = gin.get_configurable("MultiLevelEncoder")()
            contract.check(encoder)
            assert encoder.bn_groups == 2 and encoder.feature_dim == 64, encoder
            encoder(__import__("numpy").zeros([2, 32, 32, 3]))
            recipe = gin.operative_config_str()
            assert "import my_network" in recipe and "make_my_head" in recipe, recipe
        """
        process = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"},
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.returncode, 0, process.stderr)

    @pytest.mark.slow
    def test_training_in_python(self):
        blocks = python_blocks("training_in_python.md")
        self.assertLen(blocks, 3)
        images = "import numpy as np\nimages = np.random.rand(64, 32, 32, 3).astype('float32')\n"
        process = subprocess.run(
            [sys.executable, "-c", images + "\n".join(blocks)],
            cwd=tiny_run.make_temp_dir(self.addCleanup),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertRegex(process.stdout, r"epoch 1: loss \d+\.\d{3}")

    @pytest.mark.slow
    def test_trackers(self):
        pytest.importorskip("mlflow")
        pytest.importorskip("wandb")
        process = subprocess.run(
            [sys.executable, "-c", "\n".join(python_blocks("trackers.md"))],
            cwd=tiny_run.make_temp_dir(self.addCleanup),
            env={**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"},
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.returncode, 0, process.stderr)

    def test_serving(self):
        (block,) = python_blocks("serving.md")
        names = {"np": np}
        exec(block, names)
        request = json.loads(names["body"])
        signatures = tf.saved_model.load(str(self.folder / "model")).signatures
        signature = signatures[request["signature_name"]]
        inputs = {name: tf.constant(value) for name, value in request["inputs"].items()}
        (features,) = signature(**inputs).values()
        normalized = (names["images"] - np.float32(0.5)) / np.float32(0.2)
        self.assertAllClose(features, self.encoder.pooled_features(normalized), rtol=1e-4)

    def test_tables_name_the_signatures(self):
        text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
        signatures = tf.saved_model.load(str(self.folder / "model")).signatures
        self.assertEqual({*re.findall(r"^\| `(\w+)`", text, re.MULTILINE)}, {*signatures})


if __name__ == "__main__":
    tf.test.main()
