import os
import sys
from unittest import mock

import gin
import tensorflow as tf
from absl.testing import parameterized

from csml_tf import recipes, runs
from csml_tf.errors import InputError
from csml_tf.methods.moco import MoCo
from tests.training import tiny_run


def count_calls(module, name):
    return mock.patch.object(module, name, wraps=getattr(module, name))


class ParseTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(gin.clear_config)

    @parameterized.parameters(
        ("EPOCSH = 3", "no knob 'EPOCSH' .did you mean 'EPOCHS'"),
        ("EPOCHS = 1\nWIDHT = 3", "no knob 'WIDHT' .did you mean 'WIDTH'"),
        ("MoCo.temperature = %TEMPERATUR", "no knob 'TEMPERATUR' .did you mean 'TEMPERATURE'"),
        (
            "MoCo.temprature = 1",
            "'MoCo'.* parameter named 'temprature' .did you mean 'temperature'",
        ),
        ("a/MoCo.ema_decy = 1", "'ema_decy' .did you mean 'ema_decay'"),
        ("MultiLevelEncoder.hidden_layer = 1", "did you mean 'hidden_layers'"),
        ("TorchSGD.sgd_momentun = 1", "did you mean 'sgd_momentum'"),
        ("TorchSGD.clipnrm = 1.0", "did you mean 'clipnorm'"),
        ("pretrain.epoch = 3", "did you mean 'epochs'"),
        ("make_resnet.widht = 3", "did you mean 'width'"),
        ("BACKBON = 'VGG16'", "no knob 'BACKBON' .did you mean 'BACKBONE'"),
        ("CsML.temperature = 1", "did you mean 'CsMl'"),
        ("MoCo.make_encoder = @MultiLevelEncode", "did you mean 'MultiLevelEncoder'"),
        ("EPOCHS", "cannot be read"),
        ("EPOCHS = abc", "cannot be read .*'abc'"),
        ("EPOCHS = (3", "cannot be read"),
        ("include 'missing.gin'", "no recipe missing.gin here or in gin_configs/.*r50.gin"),
    )
    def test_rejects(self, binding, message):
        with self.assertRaisesRegex(InputError, message) as caught:
            recipes.parse(["quickstart.gin"], [binding])
        self.assertNotIn("\n", str(caught.exception))

    def test_rejects_a_misspelt_name_in_a_file(self):
        path = tiny_run.make_temp_dir(self.addCleanup) / "mine.gin"
        path.write_text('include "base/moco_v2.gin"\nMoCo.temprature = 3\n')
        with self.assertRaisesRegex(InputError, "did you mean 'temperature'"):
            recipes.parse([str(path)])

    def test_module_beside_the_recipe(self):
        folder = tiny_run.make_temp_dir(self.addCleanup)
        module = "import gin\n\n@gin.register\ndef mine(a):\n  pass\n"
        (folder / "networks_of_mine.py").write_text(module)
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(folder)
        self.enter_context(mock.patch.object(sys, "path", [*sys.path]))
        binding = "import networks_of_mine\nMultiLevelEncoder.make_backbone = @mine\nmine.a = 1"
        recipes.parse(["quickstart.gin"], [binding])
        self.assertIn("import networks_of_mine", gin.config_str())
        with self.assertRaisesRegex(InputError, "imports networks_of_yours, which is neither in"):
            recipes.parse(["quickstart.gin"], ["import networks_of_yours"])

    def test_accepts_what_kwargs_hand_on(self):
        recipes.parse(["quickstart.gin"], ["TorchSGD.clipnorm = 1.0"])

    def test_other_optimizers(self):
        recipes.parse(
            ["quickstart.gin"],
            [
                "pretrain.make_optimizer = @StochasticAverage",
                "StochasticAverage.make_optimizer = @Lookahead",
                "Lookahead.make_optimizer = @Lamb",
                "Lamb.weight_decay = 0.1",
            ],
        )
        with self.assertRaisesRegex(InputError, "did you mean 'weight_decay'"):
            recipes.parse(["quickstart.gin"], ["Lamb.wieght_decay = 0.1"])

    def test_missing_recipe(self):
        with self.assertRaisesRegex(InputError, "no recipe r51.gin here .*choose one of .*r50.gin"):
            recipes.parse(["r51.gin"])

    def test_second_time_starts_clean(self):
        recipes.parse(["r18_cifar10.gin"], ["EPOCHS = 7", "CrossSamples.cutmix_alpha = 9.0"])
        gin.get_configurable("CenterView")()
        recipes.parse(["r50_moco_v2.gin"])
        self.assertNotIn("CIFAR_MEAN", gin.config_str())
        self.assertEqual(gin.query_parameter("%EPOCHS"), 200)
        self.assertNotIn("cutmix_alpha", gin.config_str())
        self.assertNotIn("CenterView", gin.operative_config_str())

    def test_run_config_is_a_recipe(self):
        path = tiny_run.make_temp_dir(self.addCleanup) / "config.gin"
        recipes.parse(["quickstart.gin"], ["EPOCHS = 7"])
        # As a run that began with a model's weights leaves it.
        path.write_text(f"INIT_FROM = 'runs/first'\n{gin.config_str()}")
        recipes.parse([path], ["SEED = 1"])
        self.assertEqual(gin.query_parameter("%EPOCHS"), 7)

    def test_what_a_run_is_given(self):
        recipe = recipes.parse(["base/moco_v2.gin", "quickstart.gin"], ["EPOCHS  =  7"])
        self.assertEqual(recipe.files, ("base/moco_v2.gin", "quickstart.gin"))
        self.assertEqual((recipe.name, recipe.dataset), ("quickstart", "digits"))
        self.assertEqual(recipe.describe(), "moco_v2.gin, quickstart.gin with EPOCHS = 7")
        self.assertEqual(recipe.make_center_view().image_size, 16)
        self.assertIn("CenterView.image_size = ", recipe.settings())

    def test_knobs_are_plain_values(self):
        recipe = recipes.parse(["r18_cifar10_short.gin"], ["DATASET = 'digits'", "EPOCHS = %WIDTH"])
        self.assertContainsSubset({"EPOCHS": 64, "WIDTH": 64, "DATASET": "digits"}, recipe.knobs)
        self.assertEqual(recipe.dataset, "digits")
        self.assertNotIn("NEIGHBOR_WARMUP_EPOCHS", recipe.knobs)  # A function decides.

    def test_settings_in_effect(self):
        recipe = recipes.parse(["quickstart.gin"], ["CenterView.resize_size = 20"])
        recipe.make_center_view()
        expected = {"DATASET": "digits", "IMAGE_SIZE": 16, "CenterView.resize_size": 20}
        self.assertEqual(recipe.read_settings(), expected)
        # An override past the knob: what ran is shown, and not the knob.
        recipe = recipes.parse(["quickstart.gin"], ["CenterView.image_size = 18"])
        recipe.make_center_view()
        expected = {"DATASET": "digits", "CenterView.image_size": 18}
        self.assertEqual(recipe.read_settings(), expected)

    def test_registering_leaves_the_classes_alone(self):
        recipes.parse(["quickstart.gin"], ["TEMPERATURE = 7.0"])
        self.assertEqual(MoCo(tiny_run.make_encoder, num_negatives=4).temperature, 0.2)


class PretrainTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(gin.clear_config)
        self.directory = tiny_run.make_temp_dir(self.addCleanup)

    def pretrain(self, recipe, **options):
        return runs.pretrain(recipe, self.directory, tf.distribute.get_strategy(), **options)

    @parameterized.parameters(
        ("BACKBONE = 'ResNet50v2'", "^There is no backbone .*did you mean 'ResNet50V2'"),
        ("GLOBAL_BATCH_SIZE = 2000", "^A batch of 2000 images is larger than digits"),
        ("CenterView.resize_size = 3", "^CenterView: resize_size must be at least"),
    )
    def test_rejects(self, binding, message):
        recipe = recipes.parse(["quickstart.gin"], ["WIDTH = 1", binding])
        with self.assertRaisesRegex(InputError, message) as caught:
            self.pretrain(recipe)
        self.assertNotIn("\n", str(caught.exception))

    def test_recipe_without_a_base(self):
        path = self.directory / "mine.gin"
        path.write_text("EPOCHS = 3\n")
        recipe = recipes.parse([path])
        with self.assertRaisesRegex(InputError, "no DATASET: name one with --dataset"):
            self.pretrain(recipe)
        with self.assertRaisesRegex(InputError, "CenterView without 'image_size': include"):
            self.pretrain(recipe, dataset="digits")

    def test_faults_of_ours_stay_as_they_are(self):
        for error in (ValueError("plain"), TypeError("In call to configurable 'pretrain' (x)")):
            self.assertIs(recipes._recipe_fault(error), error)


if __name__ == "__main__":
    tf.test.main()
