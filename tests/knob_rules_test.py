import re

import gin
from absl.testing import absltest, parameterized

from csml_tf import knob_rules, recipe_files, recipes
from csml_tf.errors import InputError
from tests.training import tiny_run


class KnobRulesTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(gin.clear_config)

    def parse(self, *bindings, name="quickstart.gin"):
        return recipes.parse([name], bindings)

    def test_every_row_is_a_knob_of_a_recipe(self):
        texts = [path.read_text() for path in recipe_files.FOLDER.rglob("*.gin")]
        knobs = set(re.findall(r"^([A-Z]\w*) *=", "\n".join(texts), re.MULTILINE))
        self.assertEmpty({*knob_rules.KNOBS} - knobs)

    def test_every_parameter_exists(self):
        for name in set(knob_rules.RULES) - {*knob_rules.KNOBS}:
            owner, parameter = name.split(".")
            self.assertIn(parameter, recipes._parameters(recipes._BY_NAME[owner]), name)

    @parameterized.parameters(
        ("LEARNING_RATE = 'nan'", "LEARNING_RATE must be a number above 0, got 'nan'"),
        ("LEARNING_RATE = None", "LEARNING_RATE must be .*, got None"),
        ("LEARNING_RATE = -0.1", "LEARNING_RATE must be .*, got -0.1"),
        ("LEARNING_RATE = 0", "LEARNING_RATE must be .*, got 0"),
        ("LEARNING_RATE = 1e400", "LEARNING_RATE must be .*, got inf"),
        ("WIDTH = '8'", "WIDTH must be a whole number from 1, got '8': write 8"),
        ("WIDTH = 1.5", "WIDTH must be a whole number"),
        ("DEPTH = '18'", "DEPTH must be one of 18, 34, 50, 101, 152, got '18': write 18"),
        ("TEMPERATURE = '0.1'", "TEMPERATURE must be .*: write 0.1"),
        ("TEMPERATURE = 1e400", "TEMPERATURE must be a number above 0, got inf"),
        ("WEIGHT_DECAY = -1", "WEIGHT_DECAY must be a number from 0, got -1"),
        ("SEED = -1", "SEED must be a whole number from 0, got -1"),
        ("BN_GROUPS = 2.0", "BN_GROUPS must be .*, got 2.0: write 2"),
        ("IMAGE_SIZE = (32, 64)", r"IMAGE_SIZE must be a whole number from 1, got \(32, 64\)"),
        ("IMAGE_SIZE = 16.0", "IMAGE_SIZE must be .*: write 16"),
        ("EMBEDDING_DIM = 0", "EMBEDDING_DIM must be a whole number from 1, got 0"),
        ("EPOCHS = True", "EPOCHS must be a whole number from 1, got True"),
        ("EPOCHS = 0", "EPOCHS must be a whole number"),
        ("EMA_DECAY = 1.5", "EMA_DECAY must be a number from 0 to 1"),
        ("AUGMENT_ON = 'gpu'", "AUGMENT_ON must be one of 'host', 'device', got 'gpu'"),
        ("PRECISION = 'float16'", "PRECISION must be one of 'float32', "),
        ("JIT_COMPILE = 1", "JIT_COMPILE must be True or False, got 1"),
        ("CHECKPOINT_EVERY_STEPS = -5", "CHECKPOINT_EVERY_STEPS must be .* or None"),
        ("PAIRS = 'yes'", "PAIRS must be True or False"),
        ("NUM_NEIGHBORS = 0", "NUM_NEIGHBORS must be a whole number from 1"),
        ("LEVEL_WEIGHTS = {'stage9': 1.0}", "LEVEL_WEIGHTS must be .*'stage4'"),
        ("DATASET = 3", "DATASET must be a text in quotes, or None, got 3"),
        # By way of another knob, and past the knob.
        ("EPOCHS = %TEMPERATURE", "EPOCHS must be .*, got 0.1"),
        ("MoCo.temperature = '0.1'", "MoCo.temperature must be a number above 0, got '0.1'"),
        ("small/ViewAugmentation.hue = 2", "small/ViewAugmentation.hue must be a number from 0 to"),
        ("MultiLevelEncoder.head_dims = {'stage4': 0}", "MultiLevelEncoder.head_dims must be"),
        ("KnnEvaluation.temperature = 0", "KnnEvaluation.temperature must be"),
        ("MONITOR_EVERY_EPOCHS = 0", "MONITOR_EVERY_EPOCHS must be a whole number from 1"),
        # Only knobs are chosen automatically.
        ("MoCo.num_negatives = 'auto'", "MoCo.num_negatives must be .*, got 'auto': mend"),
        (
            "ViewAugmentation.crop_scale = 0.5",
            "ViewAugmentation.crop_scale must be 2 values",
        ),
    )
    def test_refuses(self, binding, message):
        with self.assertRaisesRegex(InputError, f"^{message}") as caught:
            self.parse(binding)
        self.assertNotIn("\n", str(caught.exception))

    @parameterized.parameters(
        ("AUGMENT_ON = device", r'no value .device.*: write a text in quotes, "device"\.'),
        ("LEARNING_RATE = nan", "no value 'nan'.*: write a finite number"),
        ("JIT_COMPILE = true", "no value 'true'.*: write True"),
        ("EPOCHS = 5; WIDTH = 8", "give every setting a line, or a --gin_bindings, of its own"),
        ("IMAGE_SIZE = 32, 64", "put several values into brackets"),
        ("EPOCHS = %EPOCHS", "EPOCHS refers to itself: give it a value"),
    )
    def test_says_what_to_write(self, binding, message):
        with self.assertRaisesRegex(InputError, message) as caught:
            self.parse(binding)
        self.assertNotIn("\n", str(caught.exception))

    def test_takes_what_is_right(self):
        self.parse(
            *("EPOCHS = 1", "LEARNING_RATE = 1e30", "CHECKPOINT_EVERY_STEPS = None", "SEED = 0"),
            *("NEIGHBOR_WARMUP_EPOCHS = %EPOCHS", "WEIGHT_DECAY = 0", "KnnEvaluation.k = None"),
        )
        # A function decides; a knob of the user's own; a knob in a scope.
        self.parse("WARMUP_SHARE = 0.5", name="r18_cifar10_short.gin")
        self.parse("NUM_NEGATIVES = 'auto'")
        for binding in ("HOURS = -1", "HOURS = '2'", "HOURS = 1e400"):
            with self.assertRaisesRegex(InputError, "HOURS must be a number above 0, or None"):
                self.parse(binding, name="photos.gin")
        path = tiny_run.make_temp_dir(self.addCleanup) / "mine.gin"
        path.write_text("include 'base/moco_v2.gin'\nMY_KNOB = -1\n")
        self.parse("MY_KNOB = 0", name=path)


if __name__ == "__main__":
    absltest.main()
