"""The notebooks of examples/ run from their first cell to their last, in a kernel of their own."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from sklearn import datasets

from tests.training import tiny_run

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.ipynb"))


def write_photographs(folder, num_images):
    """Patches of scikit-learn's two photographs, in a folder for each."""
    rng = np.random.default_rng(0)
    for name, photograph in zip(("china", "flower"), datasets.load_sample_images().images):
        (folder / name).mkdir(parents=True)
        for number in range(num_images // 2):
            top, left = (rng.integers(side - 64) for side in photograph.shape[:2])
            patch = photograph[top : top + 64, left : left + 64]
            tf.io.write_file(str(folder / name / f"{number}.png"), tf.io.encode_png(patch))


class NotebooksTest(tf.test.TestCase, parameterized.TestCase):
    def test_there_are_three(self):
        self.assertLen(NAMES, 3)

    @parameterized.parameters(NAMES)
    def test_is_kept_without_its_outputs(self, name):
        notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            self.assertEmpty(cell.get("outputs", []), f"clear the outputs of {name}")

    @parameterized.parameters(NAMES)
    @pytest.mark.slow
    def test_runs(self, name):
        folder = tiny_run.make_temp_dir(self.addCleanup)
        write_photographs(folder / "photos", 80)
        notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:  # Less than a person would train.
            cell.source = cell.source.replace("EPOCHS = 20", "EPOCHS = 1")
        client = nbclient.NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        client.execute()  # Raises what a cell raises.
        drawn = [
            output
            for cell in notebook.cells
            for output in cell.get("outputs", [])
            if "image/png" in output.get("data", {})
        ]
        if "matplotlib" in str([cell.source for cell in notebook.cells]):
            self.assertNotEmpty(drawn)


if __name__ == "__main__":
    tf.test.main()
