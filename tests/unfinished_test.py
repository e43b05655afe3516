"""What is used of a run that has not finished; its checkpoint is of a model that nobody trained."""

import gin
import pytest
import tensorflow as tf

from csml_tf import recipes, unfinished
from csml_tf.errors import InputError
from csml_tf.export import saved_model
from csml_tf.training import optim
from csml_tf.training.checkpoint import Progress, RunCheckpoint
from csml_tf.training.run_directory import RunDirectory
from csml_tf.zoo import registry
from tests.training import tiny_run

KNOBS = ("WIDTH = 1", "NUM_NEGATIVES = 64", "EPOCHS = 7")


class FindModelTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(gin.clear_config)
        self.directory = RunDirectory(tiny_run.make_temp_dir(self.addCleanup))

    @pytest.mark.slow
    def test_newest_checkpoint(self):
        recipe = recipes.parse(["quickstart.gin"], KNOBS)
        model = recipe.make_model()
        recipe.make_center_view()
        model.compile(optim.TorchSGD())
        self.directory.config.write_text(f"DATASET = 'digits'\n{recipe.settings()}")
        checkpoints = RunCheckpoint(self.directory.checkpoints, model)
        checkpoints.save(Progress(2))
        checkpoints.save(Progress(2, step=5))
        with self.assertLogs("absl", "INFO") as logs:
            folder = unfinished.find_model(self.directory.path)
        self.assertIn(
            "has not finished: its encoder after step 5 of epoch 3 is taken", "".join(logs.output)
        )
        card = saved_model.read_card(folder)
        self.assertContainsSubset(
            {"data": "digits", "epochs": 2, "step": 5, "image_size": 16}, card
        )
        images = tf.random.stateless_uniform([2, 32, 32, 3], [0, 1])
        view = recipe.make_center_view()
        expected = model.encoder.pooled_features((images - view.mean) / view.std)
        self.assertAllClose(registry.load_model(folder)(images), expected, rtol=1e-3, atol=1e-4)
        # It is made once, and passed over when the run has exported as many epochs.
        written = (folder / "saved_model.pb").stat().st_mtime_ns
        self.assertEqual(unfinished.find_model(self.directory.path), folder)
        self.assertEqual((folder / "saved_model.pb").stat().st_mtime_ns, written)
        folder.rename(self.directory.saved_model)
        self.assertEqual(unfinished.find_model(self.directory.path), self.directory.saved_model)

    def test_no_checkpoint_yet(self):
        self.directory.config.write_text("EPOCHS = 1\n")
        with self.assertRaisesRegex(InputError, "has no saved_model/ yet: let csml-tf train"):
            unfinished.find_model(self.directory.path)


if __name__ == "__main__":
    tf.test.main()
