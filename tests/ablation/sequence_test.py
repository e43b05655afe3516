"""The order of the runs, what is skipped and what is tried again; the processes are stand-ins."""

import json
import pathlib
import subprocess
import sys
from unittest import mock

import pytest
from absl.testing import absltest, parameterized

from csml_tf import cli
from csml_tf.ablation import child_process, sequence
from csml_tf.ablation.results import Results, Settings
from csml_tf.errors import InputError
from tests.training import tiny_run

ROOT = pathlib.Path(__file__).parents[2]
ROW = {
    "epoch": 1,
    "seconds": 3.0,
    "anchors": 40,
    "forward_units": 160.0,
    "images_per_sec": 8.0,
    "knn_top1": 0.5,
}


class SequenceTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.output = tiny_run.make_temp_dir(self.addCleanup) / "ablation"
        self.calls = []
        self.failing = {}
        self.enter_context(mock.patch.object(child_process, "run", self.stand_in))

    def stand_in(self, verb, arguments, lock):
        """What the two verbs leave, without their work."""
        self.assertIn(verb, cli.VERBS)
        self.assertFalse(lock.closed)
        options = dict(word[2:].split("=", 1) for word in arguments)
        model_dir = pathlib.Path(options.get("model_dir") or options["model"])
        name = model_dir.relative_to(self.output).as_posix()
        self.calls.append((verb, name, arguments))
        if (verb, name) in self.failing:
            return 2, self.failing[verb, name]
        if verb == "train":
            model_dir.mkdir(parents=True, exist_ok=True)
            (model_dir / "metrics.jsonl").write_text(json.dumps(ROW))
            (model_dir / "config.gin").write_text("DATASET = 'own'\n")
        else:
            card = {"result": {"top1": 0.25}, "dataset": options["dataset"]}
            pathlib.Path(options["json"]).write_text(json.dumps(card))
        return 0, "done"

    def run_plan(self, recipes=("ablation/a.gin", "b.gin"), num_seeds=2, **options):
        options = {"settings": Settings(), "protocols": ("knn",), **options}
        return sequence.run(sequence.Plan(recipes, num_seeds, **options), self.output)

    def names(self, verb):
        return [name for called, name, _ in self.calls if called == verb]

    def test_all_recipes_of_a_seed_come_before_the_next_seed(self):
        found = self.run_plan()
        order = ["a/seed0", "b/seed0", "a/seed1", "b/seed1"]
        self.assertEqual(self.names("train"), order)
        self.assertEqual(self.names("evaluate"), order)
        self.assertEqual(found.exit_code(), 0)
        entry = found.entries["ablation/a.gin", 1]
        self.assertEqual(entry["model_dir"], "a/seed1")
        self.assertEqual(entry["curve"][0]["knn_top1"], 0.5)
        self.assertEqual(entry["protocols"]["knn"]["result"], {"top1": 0.25})
        self.assertEqual(Results(self.output).entries, found.entries)

    def test_commands(self):
        settings = Settings(("EPOCHS = 2", "WIDTH = 1"), "digits")
        self.run_plan(("ablation/a.gin",), 1, settings=settings, data_dir="data")
        (_, _, train), (_, _, evaluate) = self.calls
        model_dir = self.output / "a" / "seed0"
        self.assertEqual(
            train,
            [
                "--gin_file=ablation/a.gin",
                f"--model_dir={model_dir}",
                "--gin_bindings=EPOCHS = 2",
                "--gin_bindings=WIDTH = 1",
                "--gin_bindings=SEED = 0",
                "--dataset=digits",
                "--data_dir=data",
            ],
        )
        self.assertEqual(
            evaluate,
            [
                "--protocol=knn",
                f"--model={model_dir}",
                "--dataset=digits",
                f"--json={model_dir / 'knn.json'}",
                "--data_dir=data",
            ],
        )

    def test_measures_on_the_recipes_own_data_set(self):
        found = self.run_plan(("a.gin",), 1)
        self.assertEqual(found.entries["a.gin", 0]["protocols"]["knn"]["dataset"], "own")

    def test_finished_runs_are_skipped(self):
        self.run_plan(num_seeds=1)
        self.calls.clear()
        self.run_plan(num_seeds=1)
        self.assertEmpty(self.calls)
        self.run_plan(("b.gin", "c.gin"), num_seeds=2)
        self.assertEqual(self.names("train"), ["c/seed0", "b/seed1", "c/seed1"])

    def test_another_protocol_is_added(self):
        self.run_plan(("a.gin",), 1)
        self.calls.clear()
        found = self.run_plan(("a.gin",), 1, protocols=("knn", "linear"))
        self.assertEqual(self.names("evaluate"), ["a/seed0"])
        self.assertIn("--protocol=linear", self.calls[-1][2])
        self.assertEqual([*found.entries["a.gin", 0]["protocols"]], ["knn", "linear"])

    @parameterized.parameters("train", "evaluate")
    def test_a_failure_does_not_end_the_list(self, verb):
        self.failing[verb, "a/seed0"] = "No space."
        found = self.run_plan()
        self.assertEqual(self.names("train"), ["a/seed0", "b/seed0", "a/seed1", "b/seed1"])
        failed = found.entries["ablation/a.gin", 0]["failed"]
        self.assertEqual(failed, f"{verb} has ended with 2: No space.")
        self.assertEqual(found.exit_code(), 1)
        self.calls.clear()
        self.failing.clear()
        found = self.run_plan()
        self.assertEqual(self.names("train"), ["a/seed0"])
        self.assertEqual(found.exit_code(), 0)

    @parameterized.parameters(
        ({"recipes": ("a.gin", "ablation/a.gin")}, "names of their own"),
        ({"recipes": ()}, "Give --gin_file"),
        ({"num_seeds": 0}, "--seeds must be a whole number from 1, got 0"),
        ({"settings": Settings(("SEED = 3",))}, "leave SEED out"),
    )
    def test_rejects(self, options, message):
        with self.assertRaisesRegex(InputError, message):
            self.run_plan(**options)
        self.assertEmpty(self.calls)

    def test_rejects_a_file_as_output(self):
        self.output.write_text("")
        with self.assertRaisesRegex(InputError, "cannot be made .* another --output"):
            self.run_plan()


@pytest.mark.slow
class ToolTest(absltest.TestCase):
    def test_two_recipes(self):
        output = tiny_run.make_temp_dir(self.addCleanup)
        command = [sys.executable, "tools/ablate.py", f"--output={output}", "--dataset=digits"]
        command += ["--gin_file=ablation/moco_v2.gin", "--gin_file=ablation/csml_pairs.gin"]
        bindings = ("EPOCHS = 2", "WIDTH = 1", "GLOBAL_BATCH_SIZE = 64", "NUM_NEGATIVES = 128")
        command += [f"--gin_bindings={line}" for line in bindings]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertIn("| ablation/moco_v2 | 1 | 2 | 4 (×1) | ×1 |", process.stdout)
        # A step of 7 units, and the images mined once on top.
        self.assertIn("| ablation/csml_pairs | 1 | 2 | 7 (×1.75) | ×1.8", process.stdout)
        again = subprocess.run(
            [sys.executable, "tools/ablate.py", "--table", f"--output={output}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        self.assertEqual(again.stdout, process.stdout)


if __name__ == "__main__":
    absltest.main()
