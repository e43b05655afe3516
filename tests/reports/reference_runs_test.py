import json
import pathlib

import gin
from absl.testing import absltest

from csml_tf import recipe_files, recipes
from csml_tf.errors import InputError
from csml_tf.reports import reference_runs, run_record
from tests.reports import tiny_record
from tests.training import tiny_run

CONFIG = tiny_record.CONFIG.replace("pretrain.seed = 0", "pretrain.seed = %SEED\nSEED = 0")


class ReferenceRunsTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tiny_run.make_temp_dir(self.addCleanup)
        self.path = self.folder / reference_runs.FILE

    def read(self, rows, changed=("", ""), name="run"):
        """The record of a run with these rows, its configuration changed in one place."""
        (self.folder / name).mkdir(exist_ok=True)
        tiny_record.write(self.folder / name, rows, config=CONFIG.replace(*changed))
        return run_record.read(self.folder / name)

    def add(self, seed, losses, top1):
        rows = tiny_record.make_rows(3)
        for row, loss, accuracy in zip(rows, losses, top1):
            row.update(loss=loss, knn_top1=accuracy)
        rows[2]["knn_protocol"] = tiny_record.PROTOCOL
        record = self.read(rows, ("\nSEED = 0", f"\nSEED = {seed}"))
        return reference_runs.add(record, self.folder)

    def judge(self, loss, top1, epoch=2, protocol=tiny_record.PROTOCOL):
        row = {"epoch": epoch, "loss": loss, "knn_top1": top1, "knn_protocol": protocol}
        record = self.read([*tiny_record.make_rows(1), row], ("\nSEED = 0", "\nSEED = 9"))
        band = reference_runs.find(record, self.path)
        return reference_runs.judge(record.rows, band)

    def add_two(self):
        self.add(0, [5.0, 4.0, 3.0], [0.2, 0.4, 0.6])
        return self.add(1, [6.0, 4.4, 3.1], [0.3, 0.44, 0.7])

    def test_band(self):
        line = self.add_two()
        self.assertEqual(line, f"{self.path}: 2 runs of tiny.gin with EPOCHS = 3")
        band = reference_runs.find(self.read(tiny_record.make_rows(1)), self.path)
        self.assertEqual(band.num_runs, 2)
        self.assertEqual([*band.loss], [1, 2, 3])
        # 3 per cent of the loss and 3 points beyond the range.
        self.assertSequenceAlmostEqual(band.loss[2], (4.0 * 0.97, 4.4 * 1.03))
        self.assertSequenceAlmostEqual(band.knn_top1[3], (0.57, 0.73))
        self.add(2, [5.0, 4.0, 3.0], [0.01, 0.4, 0.98])
        band = reference_runs.find(self.read(tiny_record.make_rows(1)), self.path)
        self.assertSequenceAlmostEqual(band.knn_top1[1], (0.0, 0.33))
        self.assertSequenceAlmostEqual(band.knn_top1[3], (0.57, 1.0))

    def test_verdict(self):
        self.add_two()
        for loss, top1, healthy in (
            (4.2, 0.42, True),
            (3.89, 0.371, True),
            (4.52, 0.99, True),  # More accuracy is no fault.
            (3.87, 0.42, False),
            (4.54, 0.42, False),
            (4.2, 0.369, False),
        ):
            with self.subTest(f"loss {loss}, top-1 {top1}"):
                self.assertEqual(self.judge(loss, top1).healthy, healthy)
        self.assertEqual(
            self.judge(4.2, 0.31).text,
            "Not as the reference runs went: after epoch 2 the loss is 4.200, theirs 3.880 to "
            "4.532; after epoch 2 kNN top-1 is 31.00%, theirs 37.00% to 47.00%.",
        )

    def test_accuracy_by_another_protocol_is_not_compared(self):
        self.add_two()
        verdict = self.judge(4.2, 0.01, protocol="k=5")
        self.assertTrue(verdict.healthy)
        self.assertNotIn("kNN", verdict.text)

    def test_newest_epochs_with_figures(self):
        self.add_two()
        # The loss of epoch 3, and the accuracy of epoch 1, which was the last one measured.
        row = {"epoch": 3, "loss": 2.0, "knn_top1": None}
        rows = [*tiny_record.make_rows(1), row]
        rows[0]["knn_top1"] = 0.1
        band = reference_runs.find(self.read(rows), self.path)
        text = reference_runs.judge(rows, band).text
        self.assertIn("after epoch 3 the loss is 2.000", text)
        self.assertIn("after epoch 1 kNN top-1 is 10.00%", text)
        self.assertEqual(
            reference_runs.judge([{"epoch": 4, "loss": 1.0}], band).text,
            "No epoch has a figure that the reference runs have, too.",
        )

    def test_other_settings_have_no_references(self):
        self.add_two()
        for changed in (
            ("tiny.gin", "other.gin"),
            ("with EPOCHS = 3", ""),
            ("with EPOCHS = 3", "with EPOCHS = 4"),
            ("with EPOCHS = 3", "with EPOCHS = 3, WIDTH = 4"),
            ("\nEPOCHS = 3", "\nEPOCHS = 4"),  # A recipe of that name with another length.
            ("DATASET = 'digits'", "DATASET = 'cifar10'"),  # By --dataset.
            ("# Macros:", "INIT_FROM = 'runs/r18'"),
            ("# Recipe: tiny.gin with EPOCHS = 3\n", ""),
        ):
            with self.subTest(changed[1]):
                record = self.read(tiny_record.make_rows(1), changed)
                self.assertIsNone(reference_runs.find(record, self.path))

    def test_what_changes_no_result_does_not_count(self):
        text = "WIDTH = 8, KINDS = ('a', 'b = c'), EPOCHS = 3, make_model = @CsMl"
        record = self.read(tiny_record.make_rows(3), ("EPOCHS = 3\n#", f"{text}\n#"))
        line = reference_runs.add(record, self.folder)
        self.assertEndsWith(line, f"1 runs of tiny.gin with {text}")
        for same in (
            "SEED = 4, WIDTH = 8, KINDS = ('a', 'b = c'), EPOCHS = 3, make_model = @CsMl",
            "make_model=@CsMl, KINDS=('a','b = c'),EPOCHS=3, MONITOR_EVERY_EPOCHS=2, WIDTH=8",
            "EPOCHS = 30, DATASET = 'digits', WIDTH = 8, KINDS = ('a', \"b = c\"), "
            "CHECKPOINT_EVERY_STEPS = 5, make_model = @CsMl, EPOCHS = 3",
        ):
            with self.subTest(same):
                record = self.read(tiny_record.make_rows(1), ("EPOCHS = 3\n#", f"{same}\n#"))
                self.assertIsNotNone(reference_runs.find(record, self.path))
        other = text.replace("'a'", "'d'")
        record = self.read(tiny_record.make_rows(1), ("EPOCHS = 3\n#", f"{other}\n#"))
        self.assertIsNone(reference_runs.find(record, self.path))

    def test_same_seed_replaces(self):
        self.add_two()
        self.add(1, [1.0] * 3, [0.5] * 3)
        (entry,) = json.loads(self.path.read_text())
        self.assertEqual([run["seed"] for run in entry["runs"]], [0, 1])
        self.assertLen(self.path.read_text().splitlines(), 6)  # A line for each run.
        self.assertEqual(entry["runs"][1]["loss"], [1.0] * 3)

    def test_refuses(self):
        record = self.read(tiny_record.make_rows(2))
        with self.assertRaisesRegex(InputError, "2 of 3 epochs done: a reference is a whole run"):
            reference_runs.add(record, self.folder)
        self.path.write_text("no JSON")
        with self.assertRaisesRegex(InputError, "cannot be read"):
            reference_runs.find(record, self.path)


class PackagedTest(absltest.TestCase):
    def test_belong_to_recipes_as_they_are(self):
        content = (pathlib.Path(reference_runs.__file__).parent / reference_runs.FILE).read_text()
        known = {name.rpartition("/")[2]: name for name in recipe_files.list_recipes()}
        for entry in json.loads(content):
            with self.subTest(entry["recipe"]):
                bindings = [f"{name} = {value}" for name, value in entry["bindings"].items()]
                recipes.parse([known[entry["recipe"]]], bindings)
                self.assertEqual(gin.query_parameter("%EPOCHS"), entry["epochs"])
                self.assertEqual(gin.query_parameter("%DATASET"), entry["dataset"])
                for run in entry["runs"]:
                    self.assertLen(run["loss"], entry["epochs"])
                    self.assertContainsSubset(run["knn_top1"], map(str, range(entry["epochs"] + 1)))


if __name__ == "__main__":
    absltest.main()
