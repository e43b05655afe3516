"""Every tool: its help, its exit codes, and one sentence for each bad input."""

import ast
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import tensorflow as tf
from absl.testing import absltest

from csml_tf import cli
from csml_tf.export import saved_model
from tests.data.sources import image_files
from tests.reports import tiny_record
from tests.training import tiny_run

ROOT = pathlib.Path(__file__).parents[2]
# What TensorFlow 2.21 writes while it is imported, before it obeys TF_CPP_MIN_LOG_LEVEL.
NATIVE = re.compile(r"WARNING: All log messages before absl|[IE]0000 ")
TOOLS = sorted(f"tools/{path.name}" for path in (ROOT / "tools").glob("*.py"))


def train(*arguments, recipe="quickstart.gin"):
    return ["tools/train.py", f"--gin_file={recipe}", "--gin_bindings=WIDTH = 1", *arguments]


def evaluate(*arguments, dataset="digits"):
    return ["tools/evaluate.py", f"--dataset={dataset}", *arguments]


def report(*arguments):
    return ["tools/report.py", "--views", *arguments]


def page(*arguments):
    return ["tools/report.py", *arguments]


def convert(*arguments):
    return ["tools/convert.py", *arguments]


def benchmark(*arguments):
    return ["tools/benchmark.py", *arguments]


def extract(model, *arguments):
    return ["tools/extract.py", model, *arguments]


def export(*arguments):
    return ["tools/export.py", *arguments]


class ToolsTest(absltest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        tf.keras.utils.set_random_seed(0)  # Of a few features some draws are all 0.
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
        for part, classes in (
            ("alike/train", "a"),
            ("alike/test", "a"),
            ("more/train", "ab"),
            ("more/test", "abc"),
            ("pair/train", "ab"),
            ("pair/test", "ab"),
        ):
            for name in classes:
                image_files.write_pngs(folder / part / name, 4)
        image_files.write_pngs(folder / "one", 1)
        image_files.write_pngs(folder / "flat", 12)
        image_files.write_pngs(folder / "corrupt", 12)
        for name in ("003.png", "007.png"):  # One of a few may be broken.
            (folder / "corrupt" / name).write_bytes(b"no image")
        (folder / "cut.safetensors").write_bytes(b"\x09\0\0\0\0\0\0\0{}")
        (folder / "other" / "config.gin").write_text("BN_GROUPS = 2\nDATASET = 'cifar10'\n")
        (folder / "other" / "checkpoints" / "ckpt-1.index").touch()
        saved_model.export(
            tiny_run.make_encoder(), folder / "model", (0.5,) * 3, (0.5,) * 3, {"image_size": 16}
        )
        tiny_record.write(folder / "begun", [])
        tiny_record.write(folder / "moved", tiny_record.make_rows(1))
        fixed = tf.Module()
        fixed.serve = tf.function(
            lambda images: {"features": tf.reduce_mean(images, [1, 2])},
            input_signature=[tf.TensorSpec([None, 40, 40, 3])],
        )
        tf.saved_model.save(fixed, str(folder / "fixed"), {"serving_default": fixed.serve})
        program = tf.Module()
        program.serve = tf.function(
            lambda images: tf.io.read_file(tf.strings.as_string(tf.reduce_mean(images))),
            input_signature=[tf.TensorSpec([None, None, None, 3])],
        )
        tf.saved_model.save(program, str(folder / "program"), {"serving_default": program.serve})
        run, model = f"--model_dir={folder}/run", f"--model={folder}/model"
        output, quickstart = f"--output={folder}/report", "--gin_file=quickstart.gin"
        converted = f"--output={folder}/converted"
        linear, cached = "--protocol=linear", "--protocol=linear_cached"
        tiny = "--gin_bindings=GLOBAL_BATCH_SIZE = 2"
        images, npz = f"--images={folder}/corrupt", f"--output={folder}/features.npz"
        saved, exported = f"--model_dir={folder}/model", f"--output={folder}/exported"
        # Name -> (command line, exit code, what its one line on stderr has to say).
        cls.bad = {
            "unknown recipe": (
                train(run, recipe="r51.gin"),
                2,
                "no recipe r51.gin.*quickstart.gin",
            ),
            "misspelt knob": (train(run, "--gin_bindings=EPOCSH = 2"), 2, "did you mean 'EPOCHS'"),
            "misspelt parameter": (
                train(run, "--gin_bindings=MoCo.temprature = 2"),
                2,
                "did you mean 'temperature'",
            ),
            "parameter of another part": (
                train(run, "--gin_bindings=CsMl.temperature = 2"),
                2,
                r"did you mean .*MoCo\.temperature",
            ),
            "bad value": (train(run, "--gin_bindings=DEPTH = 19"), 2, "DEPTH must be one of"),
            "knob of a wrong type": (
                train(run, "--gin_bindings=WIDTH = '8'"),
                2,
                "WIDTH must be a whole number from 1, got '8': write 8",
            ),
            "text without quotes": (
                train(run, "--gin_bindings=AUGMENT_ON = device"),
                2,
                "write a text in quotes, .device.",
            ),
            "path of a folder": (train(run, "--dataset=./photos"), 2, "say folder:./photos"),
            "home": (evaluate("--model=~/no-model"), 2, f"no model '{os.path.expanduser('~')}/no-"),
            "no number": (evaluate(model, "--temperature=nan"), 2, "above 0, got nan"),
            "program": (
                evaluate(f"--model={folder}/program"),
                2,
                "has the operation ReadFile, .* --trust_model",
            ),
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
                "2 of 12 files .* no readable images, more than 1%: 003.png, 007.png",
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
            "odd pairs": (
                train(
                    run,
                    f"--dataset=folder:{folder}/flat",
                    "--gin_bindings=GLOBAL_BATCH_SIZE = 3",
                    "--gin_bindings=PAIRS = True",
                ),
                2,
                "3 images cannot give each of 1 replica whole pairs: .* multiple of 2",
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
                "let csml-tf train finish",
            ),
            "no labels": (
                evaluate(model, dataset=f"folder:{folder}/flat"),
                2,
                "needs labels, and ",
            ),
            "large k": (evaluate(model, "--k=5000"), 2, "k must be from 1 to the 1438 images"),
            "one class": (
                evaluate(model, dataset=f"folder:{folder}/alike"),
                2,
                "alike/train has one class only",
            ),
            "unknown class": (
                evaluate(model, dataset=f"folder:{folder}/more"),
                2,
                "1 class folders of .*/more/test are not among the training classes: c",
            ),
            "corrupt image": (
                evaluate(model, dataset=f"folder:{folder}/corrupt"),
                2,
                "2 of 12 files .* no readable images, more than 1%: 003.png, 007.png",
            ),
            "small image size": (
                evaluate(model, "--image_size=8"),
                2,
                "takes images from 16 px up, got 8",
            ),
            "no image size": (
                evaluate(model, "--image_size=0"),
                2,
                "--image_size must be .* from 1, got 0",
            ),
            "fixed image size": (
                evaluate(f"--model={folder}/fixed", "--image_size=48"),
                2,
                r"takes float32 \(None, 40, 40, 3\), .* images of 48 px .*--image_size",
            ),
            "large k of retrieval": (
                evaluate(model, "--protocol=retrieval", "--k=5000"),
                2,
                "k must be from 1 to the 1438 images to find in digits:train",
            ),
            "setting of another protocol": (
                evaluate(model, "--queries=x.png"),
                2,
                "--queries means nothing to --protocol=knn",
            ),
            "no queries": (
                evaluate(model, "--protocol=retrieval", f"--queries={folder}/no.png"),
                2,
                "no file or folder .*/no.png to read",
            ),
            "failing data set": (
                [
                    *evaluate(model, f"--json={folder}/kept.json", "--k=2"),
                    f"--dataset=folder:{folder}/no",
                ],
                2,
                "There is no folder .*/no:",
            ),
            "temperature": (evaluate(model, "--temperature=0"), 2, "above 0, got 0"),
            "corrupt test images": (
                evaluate(model, linear, dataset=f"folder:{folder}/corrupt"),
                2,
                "2 of 12 files .* no readable images",
            ),
            "learning rate": (evaluate(model, linear, "--learning_rate=0"), 2, "above 0, got 0"),
            "epochs": (
                evaluate(model, linear, "--epochs=0"),
                2,
                "--epochs must be .* from 1, got 0",
            ),
            "seeds": (
                evaluate(model, linear, "--seeds=-1"),
                2,
                "--seeds must be .* from 1, got -1",
            ),
            "l2": (evaluate(model, cached, "--l2=-1"), 2, "--l2 must be .* above 0, got -1"),
            "room": (
                evaluate(model, cached, "--layer=stage1", "--stage_features=3"),
                2,
                "no room for the 4 channels of stage1",
            ),
            "setting of online linear": (
                evaluate(model, cached, "--seeds=3"),
                2,
                "--seeds means nothing to --protocol=linear_cached",
            ),
            "many labels": (
                evaluate(model, "--protocol=semi_supervised", "--labels=1.5"),
                2,
                "--labels must be .* above 0 and at most 1, got 1.5",
            ),
            "few labels": (
                evaluate(model, "--protocol=semi_supervised", "--labels=0.001"),
                2,
                "is 1 image and leaves 9 of 10 classes without any",
            ),
            "no list of labels": (
                evaluate(model, "--protocol=semi_supervised", f"--labels_file={folder}/no"),
                2,
                "no cannot be read .*check --labels_file",
            ),
            "no self-training": (
                evaluate(model, "--protocol=semi_supervised", "--kept_share=0.5"),
                2,
                "--kept_share is of self-training: give --self_training",
            ),
            "labels for retrieval": (
                evaluate(model, "--protocol=retrieval", "--labels=0.1"),
                2,
                "--labels means nothing to",
            ),
            "labels twice": (
                evaluate(model, "--labels=0.1", "--labels_per_class=2"),
                2,
                "come from --labels or --labels_per_class: leave one out",
            ),
            "no labels per class": (
                evaluate(model, "--labels_per_class=0"),
                2,
                "--labels_per_class must be",
            ),
            "report of no model_dir": (
                page(output),
                2,
                "about a run, --model_dir, alone; with --views",
            ),
            "report of a recipe": (page(output, quickstart), 2, "--views .* a recipe, --gin_file"),
            "page of no run": (
                page(output, f"--model_dir={folder}/unfinished"),
                2,
                "no run in .*/unfinished, which has no config.gin",
            ),
            "page of no epoch": (
                page(output, f"--model_dir={folder}/begun"),
                2,
                "no finished epoch yet, its metrics.jsonl is empty or missing: let",
            ),
            "page of a run beside itself": (
                page(output, f"--model_dir={folder}/moved", f"--model_dir={folder}/moved"),
                2,
                "are the same run: give each --model_dir once",
            ),
            "page of images of two runs": (
                page(output, *2 * [f"--model_dir={folder}/moved"], "--explorer"),
                2,
                "several runs reads no images: leave --dataset",
            ),
            "views of two runs": (
                report(output, *2 * [f"--model_dir={folder}/moved"]),
                2,
                "Only the page compares runs: give one --model_dir",
            ),
            "page of moved images": (
                page(output, f"--model_dir={folder}/moved", f"--dataset=folder:{folder}/no"),
                2,
                "There is no folder .*/no: .*; --noimages makes",
            ),
            "page in an unwritable file": (
                page(f"--output={folder}/one/000.png", f"--model_dir={folder}/moved"),
                2,
                "000.png cannot be written .*--output",
            ),
            "no page for the zoo's tables": (
                ["tools/report.py", "--zoo", f"--output={folder}"],
                2,
                "MODEL_ZOO.md cannot be read .*--output is its folder",
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
            "no benchmark": (
                benchmark(),
                2,
                "one of step, pipeline, knn, extract, time_to_accuracy: ",
            ),
            "unknown benchmark": (
                benchmark("pipelines"),
                2,
                "one of step, pipeline, knn, extract, time_to_accuracy: ",
            ),
            "nothing to convert": (convert(output), 2, "either --checkpoint, .* or --model"),
            "no checkpoint": (
                convert(converted, f"--checkpoint={folder}/one/000.png"),
                2,
                "000.png is no checkpoint",
            ),
            "damaged checkpoint": (
                convert(converted, f"--checkpoint={folder}/cut.safetensors"),
                2,
                "cut.safetensors is damaged or cut off",
            ),
            "nothing to convert to": (convert(output, model), 2, "--to=torch or --to=detectron2"),
            "conversion of another network": (
                convert(f"--output={folder}/x.pth", model, "--to=torch"),
                2,
                "model is no ResNet of this package",
            ),
            "begin with no model": (train(run, "--init_from=r51"), 2, "no model 'r51'"),
            "two benchmarks": (benchmark("step", "knn"), 2, "Unexpected arguments"),
            "pairs of moco": (
                benchmark("step", "--method=moco", "--pairs"),
                2,
                "an even number of images are pairs",
            ),
            "no ablation": (
                ["tools/ablate.py", "--table", f"--output={folder}/empty"],
                2,
                "no ablation in .*/empty, .* give --output",
            ),
            "ablation of nothing": (
                ["tools/ablate.py", f"--output={folder}/ablation"],
                2,
                "Give --gin_file once for each recipe",
            ),
            "size": (benchmark("pipeline", "--res=0"), 2, "--res must be .* from 1, got 0"),
            "many neighbors": (
                benchmark("knn", "--n=4", "--k=4"),
                2,
                "--k must be below --n, 4, got 4",
            ),
            "small images": (
                benchmark("extract", "--res=31"),
                2,
                "--res must be at least 32, got 31",
            ),
            "time to accuracy of nothing": (
                benchmark("time_to_accuracy"),
                2,
                "Name what is trained: --gin_file=",
            ),
            "target": (
                benchmark("time_to_accuracy", "--gin_file=quickstart.gin", "--target_knn=40"),
                2,
                "--target_knn must be a number above 0 and at most 1, got 40",
            ),
            "extract: no model": (
                extract("--model=r51", images, npz),
                2,
                "no model 'r51'",
            ),
            "extract: no folder": (
                extract(model, f"--images={folder}/no", npz),
                2,
                "There is no folder",
            ),
            "extract: no images": (
                extract(model, f"--images={folder}/empty", npz),
                2,
                "No image in",
            ),
            "extract: output in a file": (
                extract(model, images, f"--output={folder}/one/000.png/features.npz"),
                2,
                "cannot be made .*--output",
            ),
            "extract: other output": (
                extract(model, images, f"--output={folder}/one"),
                2,
                "holds other files",
            ),
            "extract: format": (
                extract(model, images, npz, "--format=parquet"),
                2,
                "--format=parquet does not fit --output=",
            ),
            "export: no run": (
                export(f"--model_dir={folder}/unfinished", exported),
                2,
                "let csml-tf train finish",
            ),
            "export: precision": (
                export(saved, exported, "--format=keras", "--precision=int8"),
                2,
                "--precision=int8 does not fit --format=keras: choose one of float32, float16",
            ),
            "export: int8 without images": (
                export(saved, exported, "--format=tflite", "--precision=int8"),
                2,
                "name some with --dataset",
            ),
            "export: over something else": (
                export(saved, f"--output={folder}/one"),
                2,
                "will not be replaced: choose another --output",
            ),
            "export: output in a file": (
                export(saved, f"--output={folder}/one/000.png/export"),
                2,
                "cannot be made",
            ),
            "json": (evaluate(model, f"--json={folder}/no/x.json"), 2, "x.json cannot be written"),
            "URL: run": (train("--model_dir=ftp://host/run"), 2, "opens no ftp:// URLs: give a"),
            "URL: model": (evaluate("--model=ftp://host/model"), 2, "opens no ftp:// URLs"),
            "URL: json": (evaluate(model, "--json=ftp://host/x.json"), 2, "opens no ftp:// URLs"),
            "URL: features": (
                extract(model, images, "--output=ftp://host/x.npz"),
                2,
                "opens no ftp:// URLs",
            ),
            "URL: export": (export(saved, "--output=ftp://host/x"), 2, "opens no ftp:// URLs"),
            "URL: views": (
                report("--output=ftp://host/x", quickstart),
                2,
                "opens no ftp:// URLs",
            ),
            "URL: recipe": (train(recipe="ftp://host/r50.gin"), 2, "opens no ftp:// URLs"),
            "URL: no kind of data": (
                evaluate(model, dataset="gs://bucket/photos"),
                2,
                "no name of a data set: .* say folder:gs://bucket/photos",
            ),
            "URL: data_dir": (
                evaluate(model, "--data_dir=ram://tfds", dataset="mnist"),
                2,
                "TFDS keeps no data sets at ram://tfds: .* gs://",
            ),
            "URL: checkpoint": (
                convert("--checkpoint=gs://bucket/x.pth", converted),
                2,
                "--checkpoint gs://bucket/x.pth is a URL, .* copy it there",
            ),
            "URL: ablation": (
                ["tools/ablate.py", quickstart, "--output=gs://bucket/x"],
                2,
                "--output gs://bucket/x is a URL",
            ),
        }
        cls.good = {
            "compare": [
                *evaluate(model, "--protocol=knn", "--protocol=retrieval", "--k=2"),
                f"--dataset=folder:{folder}/pair",
            ],
            "look up": evaluate(
                model,
                "--protocol=retrieval",
                f"--queries={folder}/one",
                "--k=3",
                dataset=f"folder:{folder}/flat",
            ),
            "evaluate": evaluate(model, f"--json={folder}/result.json"),
            "linear": evaluate(model, linear, "--epochs=1"),
            "report": report(output, quickstart, "--gin_bindings=WIDTH = 1"),
            "page": page(f"--output={folder}/page", f"--model_dir={folder}/moved", "--noimages"),
            "extract": extract(model, images, npz),
            "export": export(saved, exported, "--format=keras", "--licence=MIT"),
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

    def test_no_folder_is_called_like_a_url(self):
        self.assertEmpty([path.name for path in ROOT.iterdir() if path.name.endswith(":")])

    def test_help(self):
        for tool in TOOLS:
            verb = ROOT / "csml_tf" / "verbs" / pathlib.Path(tool).name
            usage = ast.get_docstring(ast.parse(verb.read_text()))
            usage = usage.replace(f"csml-tf {verb.stem}", f"python {tool}")
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
            stdout,
            r"^(?:[^\n]+ ahead of the encoder by [^\n]+\n)?knn top1 [\d.]+%, near duplicates 0, "
            r"pixels top1 [\d.]+%, color histogram top1 [\d.]+%, untrained top1 [\d.]+%, "
            r"untrained top1 std [\d.]+% \(k=20, temperature=0.1, layer=features, .*"
            r"; classes 10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; [\d.]+ s\)\n$",
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
            r"\nlinear top1 [\d.]+%, top5 [\d.]+%, learning rate [\d.]+ "
            r"\(layer=features:4, learning_rate=0.001\+.*\+30.0, choice=by .*; .*\)\n$",
        )

    def test_comparison_ends_with_a_table(self):
        code, stdout, _ = self.results["compare"]
        self.assertEqual(code, 0)
        lines = stdout.splitlines()
        results = [line.split()[0] for line in lines if line.startswith(("knn", "retrieval"))]
        self.assertEqual(results, ["knn", "retrieval", "knn", "retrieval"])
        head = [line.split()[:1] for line in lines].index(["encoder"])
        self.assertEqual(
            lines[head].split(), ["encoder", "protocol", "digits", f"folder:{self.folder}/pair"]
        )
        protocols = [line.split()[-3] for line in lines[head + 1 :]]
        self.assertEqual(protocols, 4 * ["knn", "retrieval"])
        self.assertStartsWith(lines[-1].strip(), "untrained weights")

    def test_what_was_measured_before_a_failure_is_kept(self):
        _, stdout, _ = self.results["failing data set"]
        self.assertRegex(stdout, r"(?m)^knn top1 ")
        self.assertRegex(stdout, r"(?m)^folder:\S+ has failed: ")
        self.assertRegex(stdout, r"(?m)^ +\S+ +knn +[\d.]+% +failed$")
        (card,) = json.loads((self.folder / "kept.json").read_text())
        self.assertStartsWith(card["data"]["train"]["name"], "digits")

    def test_look_up_without_labels(self):
        code, stdout, stderr = self.results["look up"]
        self.assertEqual(code, 0, stderr)
        title, head, *rows, last = stdout.splitlines()
        self.assertEqual(title, "nearest")
        self.assertEqual(head.split(), ["layer", "query", "rank", "similarity", "image"])
        self.assertLen(rows, 3)
        # The query's twin, under its name in the other folder.
        self.assertEqual(
            rows[0].split(),
            ["features", f"{self.folder}/one/000.png", "1", "1", f"{self.folder}/flat/000.png"],
        )
        self.assertStartsWith(last, "retrieval")

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

    def test_page(self):
        code, stdout, stderr = self.results["page"]
        self.assertEqual(code, 0, stderr)
        path = self.folder / "page" / "report.html"
        self.assertStartsWith(stdout, f"{path}: 5 parts about moved, in progress or stopped: 1 of ")
        self.assertIn("left out, and the page says why: nearest to unseen images", stdout)
        self.assertStartsWith(path.read_text(), "<!doctype html>")

    def test_extract(self):
        code, stdout, stderr = self.results["extract"]
        self.assertEqual(code, 0)
        self.assertRegex(stdout, r"^.*/features.npz: 10 features of .*\n$")
        self.assertIn("2 files cannot be decoded: 003.png, 007.png", stdout)
        self.assertNotIn("Traceback", stderr)
        with np.load(self.folder / "features.npz") as arrays:
            self.assertEqual(arrays["bad_paths"].tolist(), ["003.png", "007.png"])
            self.assertEqual(arrays["features"].shape, (10, 4))

    def test_export(self):
        code, stdout, _ = self.results["export"]
        self.assertEqual(code, 0)
        self.assertRegex(stdout, r"^.*/exported: exported as keras in float32, .*\n$")
        self.assertEqual(
            sorted(path.name for path in (self.folder / "exported").iterdir()),
            ["README.md", "csml_tf.json", "encoder.keras"],
        )

    def test_benchmark_is_one_line_of_json(self):
        code, stdout, _ = self.results["benchmark"]
        self.assertEqual((code, stdout.count("\n")), (0, 1))
        self.assertEqual(json.loads(stdout)["bench"], "knn")

    def test_a_tool_for_each_verb(self):
        self.assertEqual(TOOLS, sorted(f"tools/{verb}.py" for verb in cli.VERBS))

    def test_real_process_without_chatter(self):
        process = subprocess.run(
            [sys.executable, "tools/train.py", "--gin_file=r51.gin"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        self.assertEqual((process.returncode, process.stdout), (2, ""))
        first, last = (line for line in process.stderr.splitlines() if not NATIVE.match(line))
        self.assertStartsWith(first, "TensorFlow ")
        self.assertStartsWith(last, "tools/train.py: There is no recipe r51.gin")


if __name__ == "__main__":
    absltest.main()
