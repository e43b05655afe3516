"""Every tool: its help, its exit codes, and one sentence for each bad input."""

import json
import pathlib
import subprocess
import sys

from absl.testing import absltest

from csml_tf.export import saved_model
from tests.data.sources import image_files
from tests.training import tiny_run

ROOT = pathlib.Path(__file__).parents[2]
TOOLS = sorted(f"tools/{path.name}" for path in (ROOT / "tools").glob("*.py"))


def train(*arguments, recipe="quickstart.gin"):
    return ["tools/train.py", f"--gin_file={recipe}", "--gin_bindings=WIDTH = 1", *arguments]


def evaluate(*arguments, dataset="digits"):
    return ["tools/evaluate.py", f"--dataset={dataset}", *arguments]


def report(*arguments):
    return ["tools/report.py", "--views", *arguments]


def benchmark(*arguments):
    return ["tools/benchmark.py", *arguments]


class ToolsTest(absltest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tiny_run.make_temp_dir(cls.addClassCleanup)
        for name in (
            "empty",
            "one",
            "corrupt",
            "flat",
            "other/checkpoints",
            "unfinished/checkpoints",
        ):
            (folder / name).mkdir(parents=True)
        image_files.write_pngs(folder / "one", 1)
        image_files.write_pngs(folder / "flat", 12)
        image_files.write_pngs(folder / "corrupt", 12)
        (folder / "corrupt" / "003.png").write_bytes(b"no image")
        (folder / "other" / "config.gin").write_text("BN_GROUPS = 2\nDATASET = 'cifar10'\n")
        saved_model.export(
            tiny_run.make_encoder(), folder / "model", (0.5,) * 3, (0.5,) * 3, {"image_size": 16}
        )
        run, model = f"--model_dir={folder}/run", f"--model={folder}/model"
        output, quickstart = f"--output={folder}/report", "--gin_file=quickstart.gin"
        linear, cached = "--protocol=linear", "--protocol=linear_cached"
        tiny = "--gin_bindings=GLOBAL_BATCH_SIZE = 2"
        # Name -> (command line, exit code, what its one line on stderr has to say).
        cls.bad = {
            "unknown recipe": (
                train(run, recipe="r51.gin"),
                2,
                "no recipe r51.gin.*quickstart.gin",
            ),
            "misspelt knob": (train(run, "--gin_bindings=EPOCSH = 2"), 2, "did you mean 'EPOCHS'"),
            "misspelt parameter": (
                train(run, "--gin_bindings=CsMl.temprature = 2"),
                2,
                "did you mean 'temperature'",
            ),
            "bad value": (train(run, "--gin_bindings=DEPTH = 19"), 2, "depth must be one of"),
            "missing data": (
                train(run, "--dataset=cifar10", f"--data_dir={folder}/tfds"),
                2,
                "cifar10 is not prepared in .*--download",
            ),
            "unknown data": (train(run, "--dataset=cifar01"), 2, "nearest are cifar10"),
            "missing folder": (
                train(run, f"--dataset=folder:{folder}/no"),
                2,
                "There is no folder",
            ),
            "empty folder": (train(run, f"--dataset=folder:{folder}/empty"), 2, "No image in"),
            "one image": (train(run, f"--dataset=folder:{folder}/one"), 2, "has 1 image"),
            "corrupt": (
                train(run, f"--dataset=folder:{folder}/corrupt"),
                2,
                "1 of 12 files .* no readable images, more than 1%: 003.png",
            ),
            "large batch": (
                train(run, f"--dataset=folder:{folder}/flat"),
                2,
                r"A batch of \d+ images is larger than .* has 12: lower GLOBAL_BATCH_SIZE",
            ),
            "small queue": (
                train(run, "--gin_bindings=NUM_NEGATIVES = 9"),
                2,
                "raise NUM_NEGATIVES",
            ),
            "groups": (
                train(run, f"--dataset=folder:{folder}/flat", tiny, "--gin_bindings=BN_GROUPS = 3"),
                2,
                "multiple of 3",
            ),
            "other run": (
                train(f"--model_dir={folder}/other"),
                2,
                "run with other settings .*not set there and .* here",
            ),
            "file as run": (
                train(f"--model_dir={folder}/other/config.gin"),
                2,
                "cannot be made .*--model_dir",
            ),
            "extra argument": (train(run, "more"), 2, "Unexpected arguments"),
            "no model": (evaluate("--model=r51"), 2, "no model 'r51'"),
            "unfinished run": (
                evaluate(f"--model={folder}/unfinished"),
                2,
                "let tools/train.py finish",
            ),
            "no labels": (
                evaluate(model, dataset=f"folder:{folder}/flat"),
                2,
                "needs labels, and ",
            ),
            "large k": (evaluate(model, "--k=5000"), 2, "k must be from 1 to the 1438 images"),
            "temperature": (evaluate(model, "--temperature=0"), 2, "above 0, got 0"),
            "corrupt test images": (
                evaluate(model, linear, dataset=f"folder:{folder}/corrupt"),
                2,
                "1 of 12 files .* no readable images",
            ),
            "learning rate": (evaluate(model, linear, "--learning_rate=0"), 2, "above 0 .*got 0"),
            "epochs": (evaluate(model, linear, "--epochs=0"), 2, "--epochs must be at least 1"),
            "seeds": (evaluate(model, linear, "--seeds=-1"), 2, "--seeds must be at least 1"),
            "l2": (evaluate(model, cached, "--l2=-1"), 2, "L2 must be above 0 .*got -1"),
            "room": (
                evaluate(model, cached, "--layer=stage1", "--stage_features=3"),
                2,
                "no room for the 4 channels of stage1",
            ),
            "setting of another protocol": (
                evaluate(model, cached, "--seeds=3"),
                2,
                "--seeds means nothing to --protocol=linear_cached",
            ),
            "nothing to report": (
                ["tools/report.py", f"--output={folder}/report"],
                2,
                "Say what to report: --views",
            ),
            "report of nothing": (report(output), 2, "either --model_dir, .* or --gin_file"),
            "report of no run": (
                report(output, f"--model_dir={folder}/unfinished"),
                2,
                "no run in .*/unfinished, which has no config.gin",
            ),
            "report of an unwritable file": (
                report(f"--output={folder}/one/000.png", quickstart),
                2,
                "000.png cannot be written .*--output",
            ),
            "report of a late step": (
                report(output, quickstart, "--gin_bindings=WIDTH = 1", "--step=99"),
                2,
                "steps 1 to 22, got 99",
            ),
            "no benchmark": (benchmark(), 2, "one of step, pipeline, knn: "),
            "unknown benchmark": (benchmark("pipelines"), 2, "one of step, pipeline, knn: "),
            "two benchmarks": (benchmark("step", "knn"), 2, "Unexpected arguments"),
            "size": (benchmark("pipeline", "--res=0"), 2, "res, batch and windows must be"),
            "many neighbors": (benchmark("knn", "--n=4", "--k=4"), 2, "k from 1 to n - 1"),
            "json": (evaluate(model, f"--json={folder}/no/x.json"), 2, "x.json cannot be written"),
        }
        cls.good = {
            "evaluate": evaluate(model, f"--json={folder}/result.json"),
            "linear": evaluate(model, linear, "--epochs=1"),
            "report": report(output, quickstart, "--gin_bindings=WIDTH = 1"),
            "benchmark": benchmark("knn", "--n=50", "--d=4", "--k=2"),
            **{f"{tool} --help": [tool, "--help"] for tool in TOOLS},
            **{f"{tool} --helpfull": [tool, "--helpfull"] for tool in TOOLS},
        }
        calls = {**{name: call for name, (call, _, _) in cls.bad.items()}, **cls.good}
        process = subprocess.run(
            [sys.executable, str(ROOT / "tests/conformance/run_tools.py")],
            input=json.dumps([*calls.values()]),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            env={**subprocess.os.environ, "PYTHONPATH": str(ROOT)},
        )
        cls.results = dict(zip(calls, json.loads(process.stdout.splitlines()[-1])))
        cls.folder = folder

    def test_bad_input_is_one_sentence(self):
        for name, (call, code, message) in self.bad.items():
            with self.subTest(name):
                actual, _, stderr = self.results[name]
                self.assertNotIn("Traceback", stderr)
                lines = stderr.splitlines()
                sentences = [line for line in lines if line.startswith(f"{call[0]}: ")]
                self.assertLen(sentences, 1, stderr)
                self.assertEqual(lines[-1], sentences[0])
                self.assertRegex(sentences[0], message)
                self.assertEndsWith(sentences[0], ".")
                self.assertEqual(actual, code)

    def test_help(self):
        for tool in TOOLS:
            usage = (ROOT / tool).read_text().split('"""')[1].strip()
            for flag in ("--help", "--helpfull"):
                with self.subTest(f"{tool} {flag}"):
                    code, stdout, stderr = self.results[f"{tool} {flag}"]
                    self.assertEqual((code, stderr), (0, ""))
                    self.assertStartsWith(stdout.strip(), usage)
                    self.assertIn(f"python {tool}", usage)

    def test_evaluation_says_its_protocol(self):
        code, stdout, stderr = self.results["evaluate"]
        self.assertEqual(code, 0)
        self.assertRegex(
            stdout, r"^knn top1 [\d.]+% \(k=20, temperature=0.1, layer=features, .*\)\n$"
        )
        self.assertNotIn("WARNING", stderr)
        card = json.loads((self.folder / "result.json").read_text())
        self.assertContainsSubset({"protocol", "encoder", "data", "settings", "result"}, card)
        self.assertIn("\ntop1: ", (self.folder / "result.txt").read_text())

    def test_linear_says_its_protocol(self):
        code, stdout, _ = self.results["linear"]
        self.assertEqual(code, 0)
        self.assertRegex(
            stdout,
            r"^linear top1 [\d.]+%, top5 [\d.]+%, learning rate [\d.]+ "
            r"\(layer=features:4, learning_rate=0.001\+.*\+30.0, choice=by .*; .*\)\n$",
        )

    def test_report(self):
        code, stdout, _ = self.results["report"]
        self.assertEqual(code, 0)
        page = self.folder / "report" / "views.png"
        self.assertEqual(
            stdout,
            f"{page}: 8 anchors of quickstart, epoch 1, step 1 of 22; neighbors not mined yet, "
            "random images in their place\n",
        )
        self.assertStartsWith(page.read_bytes(), b"\x89PNG")

    def test_benchmark_is_one_line_of_json(self):
        code, stdout, _ = self.results["benchmark"]
        self.assertEqual((code, stdout.count("\n")), (0, 1))
        self.assertEqual(json.loads(stdout)["bench"], "knn")

    def test_real_process_without_chatter(self):
        process = subprocess.run(
            [sys.executable, "tools/train.py", "--gin_file=r51.gin"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        self.assertEqual((process.returncode, process.stdout), (2, ""))
        first, last = process.stderr.splitlines()
        self.assertStartsWith(first, "TensorFlow ")
        self.assertStartsWith(last, "tools/train.py: There is no recipe r51.gin")


if __name__ == "__main__":
    absltest.main()
