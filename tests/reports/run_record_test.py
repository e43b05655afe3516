import json

import gin
from absl.testing import absltest, parameterized

from csml_tf import recipes
from csml_tf.errors import InputError
from csml_tf.reports import run_record
from tests.reports import tiny_record
from tests.training import tiny_run


class RunRecordTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.path = tiny_run.make_temp_dir(self.addCleanup) / "tiny"

    def read(self, epochs=3, card=None, **options):
        directory = tiny_record.write(self.path, tiny_record.make_rows(epochs), **options)
        if card is not None:
            folder = directory.saved_model / "assets.extra"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "csml_tf.json").write_text(card)
        return run_record.read(self.path)

    def test_facts(self):
        facts = dict(self.read().facts())
        self.assertEqual(facts["recipe"], "tiny.gin with EPOCHS = 3")
        self.assertEqual(facts["data set"], "digits (fingerprint 0123abcd)")
        self.assertEqual(facts["code"], "csml_tf 0.1.0, commit 0123456789ab")
        self.assertEqual(facts["progress"], "finished after 3 epochs, 30 steps")
        self.assertEqual(facts["time"], "2 min 0 s, mining and measuring included")
        self.assertEqual(facts["settings"], "batch 16, seed 0")

    def test_other_code_at_the_end(self):
        commit = "fedcba9876543210fedcba9876543210fedcba98 with changes"
        for other, code in (
            (commit, "csml_tf 0.1.0, commit fedcba987654 with changes"),
            (None, "csml_tf 0.1.0, commit unknown"),
        ):
            card = json.dumps({"csml_tf": "0.1.0", "commit": other})
            facts = dict(self.read(card=card).facts())
            begun = "csml_tf 0.1.0, commit 0123456789ab"
            self.assertEqual(facts["code"], f"{begun} at the start; {code} at the end")

    def test_run_of_an_older_version(self):
        config = "".join(
            line for line in tiny_record.CONFIG.splitlines(True) if not line.startswith("#")
        )
        facts = dict(self.read(config=config).facts())
        self.assertStartsWith(facts["recipe"], "not recorded")
        self.assertStartsWith(facts["code"], "not recorded")

    @parameterized.parameters((1, "1 of 3 epochs done"), (3, "finished after 3 epochs"))
    def test_progress(self, epochs, text):
        self.assertEndsWith(self.read(epochs).progress(), text)

    def test_newest_knn(self):
        self.assertEqual(self.read(3).knn(), (2, 0.5, tiny_record.PROTOCOL))
        self.assertEqual(self.read(1).knn(), (1, 0.25, tiny_record.PROTOCOL))
        tiny_record.write(self.path, tiny_record.make_rows(3, knn=False))
        self.assertIsNone(run_record.read(self.path).knn())

    def test_settings(self):
        record = self.read()
        self.assertEqual(record.setting("pretrain.epochs"), 3)  # By way of a macro.
        self.assertEqual(record.setting("pretrain.make_model"), "@CsMl")
        self.assertIsNone(record.setting("no.such"))

    def test_share_of_the_run(self):
        """As gin writes down the warm-up of a recipe that sets it as a share of its epochs."""
        self.addCleanup(gin.clear_config)
        recipes.parse(["r18_cifar10_short.gin"], ["EPOCHS = 10", "WIDTH = 2"])
        gin.get_configurable("CsMl")(seed=0)
        config = gin.operative_config_str().replace("{", "{{").replace("}", "}}")
        record = self.read(config=config)
        self.assertEqual(record.setting("CrossSamples.neighbor_warmup_epochs"), 8)
        self.assertEqual(record.setting("CrossSamples.cutmix_warmup_epochs"), 8)

    @parameterized.parameters(
        (0.4, "0 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7505, "2 h 5 min")
    )
    def test_duration(self, seconds, text):
        self.assertEqual(run_record.describe_seconds(seconds), text)

    def test_bad_input(self):
        with self.assertRaisesRegex(InputError, "no run in .*/tiny, which has no config.gin"):
            run_record.read(self.path)
        self.assertFalse(self.path.exists())
        with self.assertRaisesRegex(InputError, "no finished epoch yet, .*empty or missing: let"):
            self.read(0)
        with self.assertRaisesRegex(InputError, "card in .* is no JSON .*export"):
            self.read(card="{")


if __name__ == "__main__":
    absltest.main()
