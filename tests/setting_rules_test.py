import importlib

from absl import flags
from absl.testing import absltest, parameterized

from csml_tf import cli, setting_rules
from csml_tf.errors import InputError


def numbers_and_texts():
    """Names of the numeric flags of all verbs, and of those that are texts."""
    numeric, texts = set(), set()
    for verb in cli.VERBS:
        known = {*flags.FLAGS}
        module = importlib.import_module(f"csml_tf.verbs.{verb}")
        for flag in flags.FLAGS.get_flags_for_module(module.__name__):
            if flag.flag_type() in ("int", "float", "multi int", "multi float"):
                numeric.add(flag.name)
            elif flag.flag_type() in ("string", "multi string"):
                texts.add(flag.name)
        for name in {*flags.FLAGS} - known:  # Two verbs may have one of the same name.
            delattr(flags.FLAGS, name)
    return numeric, texts


class SettingRulesTest(parameterized.TestCase):
    def test_every_number_has_a_rule_and_every_path_is_a_flag(self):
        numeric, texts = numbers_and_texts()
        self.assertEqual(numeric - {*setting_rules.RULES}, set())
        self.assertEqual({*setting_rules.RULES} - numeric, set())
        paths = {*setting_rules.PATHS, *setting_rules.IMAGE_PATHS}
        self.assertEqual(paths - texts, set())
        plain = {"gin_bindings", "licence", "prefix", "tpu"}
        self.assertEqual(texts - paths, plain)

    @parameterized.parameters(
        ({"temperature": [0.1, float("nan")]}, "--temperature must be a number above 0, got nan"),
        ({"seed": -1}, "--seed must be a whole number from 0, got -1"),
        ({"k": [1, 0]}, "--k must be a whole number from 1, got 0"),
        ({"labels": 1.5}, "--labels must be a number above 0 and at most 1, got 1.5"),
    )
    def test_refuses(self, settings, message):
        with self.assertRaisesRegex(InputError, f"^{message}"):
            setting_rules.check(settings)

    def test_takes(self):
        setting_rules.check({"k": [1, None], "seed": 0, "labels": None, "mine": -1})


if __name__ == "__main__":
    absltest.main()
