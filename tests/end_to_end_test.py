"""From a recipe to an evaluated model, as a user goes."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import gin
import numpy as np
import pytest
import tensorflow as tf

import csml_tf
from csml_tf import recipes, runs
from csml_tf.data import catalog
from csml_tf.evaluation import frozen_encoder, protocols
from csml_tf.export import model_card
from csml_tf.reports import views
from csml_tf.training import strategies
from csml_tf.training.run_directory import RunDirectory
from csml_tf.zoo import registry
from tests.training import tiny_run

ROOT = pathlib.Path(__file__).parents[1]


class QuickstartTest(tf.test.TestCase):
    def test_from_recipe_to_accuracy(self):
        self.addCleanup(gin.clear_config)
        directory = tiny_run.make_temp_dir(self.addCleanup) / "quickstart"
        bindings = ["EPOCHS = 2", "WIDTH = 4", "LINEAR_EVERY_EPOCHS = 2"]
        recipe = recipes.parse(["quickstart.gin"], bindings)
        summary = runs.pretrain(recipe, str(directory), strategies.make("none")).summary()
        self.assertRegex(summary, r"2 epochs, loss [\d.]+, kNN top-1 [\d.]+% \(k=20, .*saved_model")

        contents = {path.name for path in directory.iterdir()}
        expected = {"config.gin", "checkpoints", "tensorboard", "metrics.jsonl", "saved_model"}
        self.assertEqual(contents, expected)
        config = (directory / "config.gin").read_text()
        for line in ("DATASET = 'digits'", "EPOCHS = 2", "CrossSamples.cutmix_alpha = 2.0"):
            self.assertIn(line, config)
        rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
        fields = {"epoch", "step", "learning_rate", "loss", "images_per_sec", "input_wait_fraction"}
        for stage in ("stage3", "stage4"):
            fields |= {f"loss_{stage}_{kind}" for kind in ("image", "neighbor", "mixed")}
        self.assertEqual([row["epoch"] for row in rows], [1, 2])
        for row in rows:
            self.assertContainsSubset(fields, row)
        self.assertIn("neighbor_purity", rows[0])
        self.assertNotEmpty([*(directory / "tensorboard").iterdir()])

        digits = catalog.open_dataset("digits")
        sources = digits.split("train"), digits.split("test")
        encoder = frozen_encoder.FrozenEncoder(registry.find_saved_model(directory))
        card = protocols.measure("knn", encoder, *sources)
        self.assertAlmostEqual(card.result["top1"], rows[-1]["knn_top1"], delta=0.01)
        self.assertGreater(card.result["top1"], 0.5)  # Chance is 0.1.
        card = protocols.measure("linear_cached", encoder, *sources, l2=[1e-3])
        self.assertAlmostEqual(card.result["top1"], rows[-1]["linear_top1"], delta=0.01)
        self.assertNotIn("linear_top1", rows[0])
        written = model_card.read(directory / "saved_model")
        self.assertEqual(
            written["command"],
            "csml-tf train --gin_file=quickstart.gin '--gin_bindings=EPOCHS = 2' "
            "'--gin_bindings=WIDTH = 4' '--gin_bindings=LINEAR_EVERY_EPOCHS = 2'",
        )
        self.assertIn(f"# Code: {written['trained_by']}\n", config)
        expected = [
            {name: row[name] for name in ("epoch", "loss", "knn_top1") if name in row}
            for row in rows
        ]
        self.assertEqual(written["curve"], expected)
        self.check_neighbors_of_a_teacher(directory, encoder, sources[0])
        model = csml_tf.load_model(directory)
        images = np.zeros([2, 48, 32, 3], "float32")
        self.assertEqual(model(images).shape, [2, 32])

        recipe = recipes.parse([directory / "config.gin"])
        page = views.write(str(directory / "report"), recipe, str(directory))
        expected = "8 anchors of quickstart, epoch 2, step 1 of 22; neighbors mined before epoch 1"
        self.assertStartsWith(page, f"{directory / 'report' / 'views.png'}: {expected}")

    def check_neighbors_of_a_teacher(self, teacher, encoder, source):
        """It mines before the first step, and never again."""
        images = np.stack([encoder.center_view(source.read(i)) for i in range(len(source))])
        rows = tf.math.l2_normalize(encoder.encode()(tf.constant(images)), axis=1).numpy()
        cosines = rows @ rows.T
        np.fill_diagonal(cosines, -2)
        nearest = np.argsort(-cosines, axis=1)[:, :5]
        purity = np.mean(source.labels[nearest] == source.labels[:, None])

        bindings = ["EPOCHS = 2", "WIDTH = 1", "MINE_EVERY_EPOCHS = 1", f"MINE_WITH = '{teacher}'"]
        recipe = recipes.parse(["quickstart.gin"], bindings)
        directory = runs.pretrain(recipe, f"{teacher}_taught", strategies.make("none"))
        first, second = directory.read_metrics()
        self.assertAlmostEqual(first["neighbor_purity"], purity, delta=2e-3)  # Of near ties.
        self.assertNotIn("neighbor_purity", second)
        self.assertIn("MINE_WITH_FINGERPRINT = '", directory.config.read_text())

    @pytest.mark.slow
    def test_killed_run_goes_on(self):
        directory = tiny_run.make_temp_dir(self.addCleanup)
        command = [sys.executable, "tools/train.py", "--gin_file=quickstart.gin"]
        command += [f"--model_dir={directory}", "--gin_bindings=EPOCHS = 3"]
        command += ["--gin_bindings=WIDTH = 2", "--gin_bindings=MONITOR_EVERY_EPOCHS = 1"]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        self.addCleanup(process.kill)
        deadline = time.monotonic() + 300
        while not (directory / "checkpoints" / "checkpoint").exists():
            self.assertIsNone(process.poll())
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertLess(len(RunDirectory(directory).read_metrics()), 3)

        again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertRegex(again.stderr, r"Going on from .* after .*epoch [1-3]\.")
        rows = RunDirectory(directory).read_metrics()
        self.assertEqual([row["epoch"] for row in rows], [1, 2, 3])
        self.assertTrue((directory / "saved_model" / "saved_model.pb").exists())


if __name__ == "__main__":
    tf.test.main()
