import errno
import os
import pathlib
import subprocess
import sys
from unittest import mock

import gin
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

import csml_tf
from csml_tf import api, recipes, runs
from csml_tf.data.sources import memory
from csml_tf.evaluation import comparison
from csml_tf.evaluation.frozen_encoder import FrozenEncoder
from csml_tf.export import model_card, saved_model
from tests.data.sources import image_files
from tests.training import tiny_run


class PretrainTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(gin.clear_config)
        self.directory = tiny_run.make_temp_dir(self.addCleanup)

    def call(self, images="digits", recipe="quickstart", **options):
        """-> what `runs.pretrain` is called with, which does nothing."""
        end = csml_tf.InputError("The end.")
        with (
            mock.patch.object(runs, "pretrain", side_effect=end) as run,
            self.assertRaisesRegex(csml_tf.InputError, "^The end.$"),
        ):
            csml_tf.pretrain(images, recipe, **options)
        return run.call_args.args

    @pytest.mark.slow
    def test_twice_in_one_process(self):
        """An untrained model stands in for the training; wheel_test.py does it in full."""
        images = tiny_run.make_source().read(tf.range(tiny_run.NUM_IMAGES)).numpy()
        for name, knobs in (("first", {"width": 2, "epochs": 7}), ("second", {"WIDTH": 3})):
            run = self.directory / name
            with mock.patch.object(recipes, "_train", lambda *_: tiny_run.make_model()):
                encoder = csml_tf.pretrain(images, "quickstart", run, **knobs)
            self.assertEqual(encoder(np.zeros([2, 16, 16, 3], "float32")).shape, [2, 4])
            card = model_card.read(run / "saved_model")
            self.assertEqual(card["data"], "48 images in memory")
            self.assertStartsWith(card["command"], "csml_tf.pretrain(images, 'quickstart.gin', ")
        # Nothing is left of the first call; what was not made is not in the card.
        self.assertEqual((gin.query_parameter("%WIDTH"), gin.query_parameter("%EPOCHS")), (3, 40))
        self.assertEqual(card["recipe"]["IMAGE_SIZE"], 16)
        self.assertNotIn("WIDTH", card["recipe"])

    def test_knobs(self):
        recipe, *_ = self.call("digits", "r18_cifar10.gin", epochs=np.int64(3), SEED=4)
        self.assertEqual(recipe.bindings, ("EPOCHS = 3", "SEED = 4"))

    def test_what_a_run_is_given(self):
        callback = tf.keras.callbacks.Callback()
        options = {"init_from": self.directory, "data_dir": "data", "callbacks": [callback]}
        arguments = self.call(pathlib.Path("photos"), model_dir=self.directory, **options)
        recipe, model_dir, strategy, *data, init_from, callbacks, trust_model = arguments
        self.assertEqual((recipe.name, model_dir), ("quickstart", str(self.directory)))
        self.assertIs(strategy, tf.distribute.get_strategy())
        self.assertEqual(data, ["folder:photos", "data", False])
        self.assertEqual((init_from, callbacks), (str(self.directory), [callback]))
        self.assertFalse(trust_model)
        home = self.call("digits", model_dir="~/x", init_from="~/y", data_dir="~/z")
        places = [home[i] for i in (1, 4, 6)]
        self.assertEqual(places, [os.path.expanduser(f"~/{name}") for name in "xzy"])

    def test_images(self):
        images = np.zeros([5, 8, 8, 3], np.uint8)
        self.assertEqual(self.call("digits")[3], "digits")
        self.assertIsNone(self.call(None)[3])
        self.assertLen(self.call(images)[3], 5)

    def test_strategy(self):
        strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
        self.assertIs(self.call(strategy=strategy)[2], strategy)
        with self.assertRaisesRegex(csml_tf.InputError, "strategy must be one of .*got 'mirror'"):
            csml_tf.pretrain("digits", "quickstart", strategy="mirror")

    @parameterized.parameters(
        ({"epocs": 3}, r"no knob 'EPOCS' \(did you mean 'EPOCHS'\?\): its knobs are "),
        ({"recipe": "quickstrat"}, "no recipe quickstrat.gin here or in .*quickstart.gin"),
        ({"epochs": object()}, "^The knob epochs is a number, .*got a object: give a plain value"),
        ({"images": np.zeros([5, 8, 8, 3])}, r"must be uint8 .*got float64 \[5, 8, 8, 3\]: mult"),
        ({"images": np.zeros([5, 8, 8, 4], np.uint8)}, r"must be \[n, .*got uint8 \[5, 8, 8, 4\]"),
        ({"images": 3}, "^Images are an array, .*got a int"),
    )
    def test_rejects(self, options, message):
        options = {"images": "digits", "recipe": "quickstart", **options}
        with self.assertRaisesRegex(csml_tf.InputError, message) as caught:
            csml_tf.pretrain(model_dir=self.directory, **options)
        self.assertNotIn("\n", str(caught.exception))


class UseTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tiny_run.make_temp_dir(cls.addClassCleanup)
        cls.model = cls.folder / "model"
        card = {"id": "tiny", "image_size": 16}
        saved_model.export(tiny_run.make_encoder(), cls.model, (0.5,) * 3, (0.5,) * 3, card)
        image_files.write_pngs(cls.folder / "photos", 6)
        (cls.folder / "photos" / "003.png").write_bytes(b"no image")

    def test_evaluate(self):
        card = csml_tf.evaluate(self.model, "digits", k=3, temperature=[0.2])
        self.assertBetween(card.result["top1"], 0.0, 1.0)
        self.assertEqual((card.settings["k"], card.settings["temperature"]), ([3], [0.2]))
        self.assertStartsWith(card.headline(), "knn top1 ")

    @parameterized.parameters(
        ({"protocol": "kn"}, r"no protocol 'kn' \(did you mean 'knn'\?\): choose one of knn, "),
        ({"epochs": 3}, "--epochs means nothing to --protocol=knn"),
        ({"model": "r51"}, "no model 'r51'"),
        ({"model": tf.keras.Sequential()}, "got a Sequential: give what it was opened from"),
        ({"dataset": "cifar01"}, "nearest are cifar10"),
    )
    def test_evaluate_rejects(self, options, message):
        with self.assertRaisesRegex(csml_tf.InputError, message):
            csml_tf.evaluate(**{"model": self.model, "dataset": "digits", **options})

    def test_extract_a_folder(self):
        output = self.folder / "features.npz"
        paths, features = csml_tf.extract(self.model, self.folder / "photos")
        self.assertEqual(paths.tolist(), [f"{i:03d}.png" for i in (0, 1, 2, 4, 5)])
        written = csml_tf.extract(self.model, str(self.folder / "photos"), output)
        self.assertAllEqual(written.features, features)
        with np.load(output) as arrays:
            self.assertAllEqual(arrays["features"], features)
        # Of the very images, by the arrays and by their paths.
        good = [self.folder / "photos" / name for name in paths]
        arrays = [np.asarray(image_files.pillow_rgb(path)) for path in good]
        for images, expected in ((arrays, None), (np.stack(arrays), None), (good, good)):
            found = csml_tf.extract(self.model, images, batch_size=2)
            self.assertAllClose(found.features, features, rtol=1e-5, atol=1e-6)
            if expected is None:
                self.assertIsNone(found.paths)
            else:
                self.assertEqual(found.paths.tolist(), [*map(str, expected)])

    def test_extract_a_layer(self):
        source = memory.load_digits().subset(range(4))
        _, features = csml_tf.extract(self.model, source, layer="embedding")
        encoder = FrozenEncoder(self.model)
        view = encoder.center_view
        images = tf.stack([view(source.read(i)) for i in range(4)])
        self.assertAllClose(features, encoder.encode("embedding")(images), rtol=1e-5, atol=1e-6)

    @parameterized.parameters(
        ({"layer": "stage5"}, r"no layer 'stage5' \(did you mean 'stage[1-4]'\?\): choose one of"),
        ({"images": "nowhere"}, "There is no folder"),
        ({"output": "features"}, r"no file for features: name it with .npz or .parquet"),
        ({"images": np.zeros([1, 8, 8], np.uint8), "output": "a.npz"}, "Only .* a folder"),
        ({"images": ["no.png"]}, "1 of 1 files are missing or no whole images: no.png"),
    )
    def test_extract_rejects(self, options, message):
        options = {"model": self.model, "images": self.folder / "photos", **options}
        with self.assertRaisesRegex(csml_tf.InputError, message):
            csml_tf.extract(**options)

    @parameterized.parameters(
        (
            tf.errors.UnknownError(None, None, "x InputError: 3 files are broken.\nTrace"),
            "^3 files",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "free some space or choose"),
    )
    def test_errors_are_those_of_the_commands(self, error, sentence):
        with (
            mock.patch.object(comparison, "measure", side_effect=error),
            self.assertRaisesRegex(csml_tf.InputError, sentence),
        ):
            csml_tf.evaluate(self.model, "digits")

    def test_our_faults_stay_as_they_are(self):
        fault = tf.errors.InvalidArgumentError(None, None, "shapes")
        with (
            mock.patch.object(comparison, "measure", side_effect=fault),
            self.assertRaises(tf.errors.InvalidArgumentError),
        ):
            csml_tf.evaluate(self.model, "digits")


class PackageTest(absltest.TestCase):
    def test_names(self):
        self.assertIs(csml_tf.pretrain, api.pretrain)
        self.assertContainsSubset(csml_tf.__all__, dir(csml_tf))
        for name in csml_tf.__all__:
            self.assertIsNotNone(getattr(csml_tf, name))
        with self.assertRaisesRegex(AttributeError, "no attribute 'pretrian'"):
            _ = csml_tf.pretrian

    def test_import_is_light_and_gin_is_for_training_only(self):
        program = (
            "import sys, csml_tf\n"
            "print('tensorflow' in sys.modules)\n"
            "csml_tf.evaluate, csml_tf.extract, csml_tf.load_model\n"
            "print('gin' in sys.modules)"
        )
        printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        self.assertEqual(printed.stdout, "False\nFalse\n", printed.stderr)


if __name__ == "__main__":
    absltest.main()
