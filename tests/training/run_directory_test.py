import types
from unittest import mock

from absl.testing import absltest, parameterized

from csml_tf import code_version
from csml_tf.errors import InputError
from csml_tf.training import run_directory
from csml_tf.training.run_directory import RunDirectory
from tests.training import tiny_run

CONFIG = """# Data set: digits
EPOCHS = 3
WIDTH = 4
CsMl.level_weights = \\
    {'stage3': 1.0,
     'stage4': 1.0}
"""
CODE = "csml_tf 0.1.0, commit 1a2b"
CLAIMED = f"# Code: {CODE}\n{CONFIG}DATA_FINGERPRINT = '0123abcd'\n"
SOURCE = types.SimpleNamespace(name="digits", fingerprint="0123abcd")


def write_two_rows(directory):
    """Writes three epochs' metrics and drops the last; -> the rows that stay."""
    for epoch in (1, 2, 3):
        directory.append_metrics({"epoch": epoch, "loss": epoch / 2})
    directory.drop_metrics_after(2)
    return [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 1.0}]


class RunDirectoryTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.path = tiny_run.make_temp_dir(self.addCleanup) / "runs" / "one"
        self.directory = RunDirectory(self.path)
        patch = mock.patch.object(code_version, "describe", return_value=CODE)
        patch.start()
        self.addCleanup(patch.stop)

    def test_makes_the_folder(self):
        self.assertTrue((self.path / "checkpoints").is_dir())

    def test_folder_that_cannot_be_made(self):
        (self.path / "file").write_text("")
        with self.assertRaisesRegex(InputError, "cannot be made .*another with --model_dir"):
            RunDirectory(self.path / "file")
        with self.assertRaisesRegex(InputError, r"takes for a pattern .*choose another"):
            RunDirectory(self.path / "run [1]")
        self.assertFalse((self.path / "run [1]").exists())

    def begin(self, config=CONFIG):
        """A run that has something to go on from."""
        self.directory.claim(config, SOURCE)
        (self.directory.checkpoints / "ckpt-1.index").touch()

    def test_claims_once(self):
        self.directory.claim(CONFIG, SOURCE)
        self.assertEqual((self.path / "config.gin").read_text(), CLAIMED)
        reflowed = CONFIG.replace("# Data set: digits", "# Other\n").replace(
            "\\\n    {'stage3': 1.0,\n    ", "{'stage3': 1.0,"
        )
        RunDirectory(self.path).claim(reflowed, SOURCE)

    def test_keeps_the_code_that_it_began_with(self):
        self.begin(CONFIG + "CHECKPOINT_EVERY_STEPS = 5\n")
        with mock.patch.object(code_version, "describe", return_value="csml_tf 9"):
            for every in (5, 7):
                self.directory.claim(CONFIG + f"CHECKPOINT_EVERY_STEPS = {every}\n", SOURCE)
        self.assertEqual(
            self.directory.read_notes(),
            {"Code": CODE, "Data set": "digits"},
        )
        self.assertEqual(self.directory.read_settings()["CHECKPOINT_EVERY_STEPS"], "7")

    def test_notes_are_comments_that_say_something(self):
        self.assertEqual(self.directory.read_notes(), {})
        text = "# Recipe: a.gin with B = 2: no\n# Macros:\n# ====\nA = '# Code: no'\n"
        self.directory.config.write_text(text)
        self.assertEqual(self.directory.read_notes(), {"Recipe": "a.gin with B = 2: no"})

    def test_find(self):
        self.directory.config.write_text(CONFIG)
        self.assertEqual(run_directory.find(self.path).path, self.path)
        missing = self.path / "no"
        with self.assertRaisesRegex(InputError, "no run in .*/no, which has no config.gin"):
            run_directory.find(missing)
        self.assertFalse(missing.exists())

    def test_modules_that_a_recipe_imports(self):
        """Their lines come first of gin's text, behind the data set, and belong to no setting."""
        text = "DATASET = 'digits'\nimport my_network\nfrom mine import heads\nWIDTH = 4\n"
        self.directory.claim(text, SOURCE)
        self.assertEqual(self.directory.dataset(), "digits")
        self.assertEqual(self.directory.read_settings()["WIDTH"], "4")

    def test_names_the_first_other_setting(self):
        self.begin()
        other = CONFIG.replace("WIDTH = 4", "WIDTH = 8").replace("EPOCHS = 3", "EPOCHS = 2")
        with self.assertRaisesRegex(InputError, "EPOCHS is 3 there and 2 here"):
            self.directory.claim(other, SOURCE)
        with self.assertRaisesRegex(InputError, "SEED is not set there and 1 here"):
            self.directory.claim(CONFIG + "SEED = 1\n", SOURCE)
        with self.assertRaisesRegex(InputError, "level_weights is .*1.0} there and .*2.0} here"):
            self.directory.claim(CONFIG.replace("'stage4': 1.0", "'stage4': 2.0"), SOURCE)
        self.assertEqual((self.path / "config.gin").read_text(), CLAIMED)

    def test_refuses_other_images(self):
        self.begin()
        other = types.SimpleNamespace(name="digits", fingerprint="4567cdef")
        with self.assertRaisesRegex(
            InputError,
            r"^The images of digits have changed .*'0123abcd' then and '4567cdef' now.*\.$",
        ):
            self.directory.claim(CONFIG, other)
        with self.assertRaisesRegex(InputError, "SEED is not set there and 1 here"):
            self.directory.claim(CONFIG + "SEED = 1\n", other)
        self.assertEqual(self.directory.config.read_text(), CLAIMED)

    def test_run_that_noted_no_fingerprint(self):
        self.begin()
        self.directory.config.write_text(CONFIG)
        with self.assertRaisesRegex(InputError, "DATA_FINGERPRINT is not set there and '0123"):
            self.directory.claim(CONFIG, SOURCE)

    @parameterized.parameters(
        "CHECKPOINT_EVERY_STEPS = {}\npretrain.checkpoint_every_steps = {}",
        "MONITOR_EVERY_EPOCHS = {}\nKnnMonitor.every_epochs = %MONITOR_EVERY_EPOCHS",
        "LINEAR_EVERY_EPOCHS = {}",
        "JIT_COMPILE = {}\npretrain.jit_compile = {}",
        "AUGMENT_ON = {}",
        "KnnEvaluation.k = {}",
    )
    def test_what_changes_no_result_may_change(self, setting):
        self.begin(f"{CONFIG}{setting.format(1, 1)}\n")
        self.directory.claim(f"{CONFIG}{setting.format(2, 2)}\n", SOURCE)
        self.assertIn(setting.format(2, 2), self.directory.config.read_text())

    def test_without_a_checkpoint_it_is_claimed_anew(self):
        self.directory.claim(CONFIG, SOURCE)
        (self.directory.checkpoints / "ckpt-1_temp").mkdir()  # Of a save that was killed.
        other = types.SimpleNamespace(name="digits", fingerprint="4567cdef")
        self.directory.claim(CONFIG.replace("WIDTH = 4", "WIDTH = 8"), other)
        settings = self.directory.read_settings()
        self.assertEqual((settings["WIDTH"], settings["DATA_FINGERPRINT"]), ("8", "'4567cdef'"))

    @parameterized.parameters(
        ("INIT_FROM", "INIT_FINGERPRINT"), ("MINE_WITH", "MINE_WITH_FINGERPRINT")
    )
    def test_places_are_notes(self, model, fingerprint):
        """The images decide, and the weights that the run began with."""
        lines = f"DATASET = 'folder:{{}}'\n{model} = '{{}}'\n{fingerprint} = '{{}}'\n"
        self.begin(CONFIG + lines.format("photos", "runs/a", "12ab"))
        self.directory.claim(CONFIG + lines.format("/other/photos", "b", "12ab"), SOURCE)
        self.assertEqual(self.directory.dataset(), "folder:/other/photos")
        with self.assertRaisesRegex(InputError, f"{model} is 'b' there and 'runs/a' here"):
            self.directory.claim(CONFIG + lines.format("photos", "runs/a", "34cd"), SOURCE)
        # The model is gone; what is known of it stays.
        gone = f"DATASET = 'folder:photos'\n{model} = 'runs/a'\n"
        self.directory.claim(CONFIG + gone, SOURCE)
        self.assertEqual(self.directory.read_settings()[fingerprint], "'12ab'")
        other = types.SimpleNamespace(name="digits", fingerprint="4567cdef")
        with self.assertRaisesRegex(InputError, "DATASET is 'folder:photos' there and 'digits'"):
            self.directory.claim(CONFIG + gone.replace("folder:photos", "digits"), other)

    def test_run_that_noted_no_fingerprint_of_its_model(self):
        self.begin(CONFIG + "INIT_FROM = 'a'\n")
        self.directory.claim(CONFIG + "INIT_FROM = 'a'\nINIT_FINGERPRINT = '1'\n", SOURCE)
        self.assertIn("INIT_FINGERPRINT", self.directory.read_settings())

    def test_refused_start_leaves_nothing(self):
        parent = self.path.parent
        self.directory.claim(CONFIG, SOURCE)
        self.directory.leave()
        self.assertFalse(parent.exists())

    def test_refused_start_leaves_what_was_there(self):
        again = RunDirectory(self.path)
        self.begin()
        again.leave()
        self.directory.leave()
        self.assertTrue((self.path / "config.gin").exists())
        (self.directory.checkpoints / "ckpt-1.index").unlink()
        again.leave()
        self.assertTrue((self.path / "config.gin").exists())

    def test_metrics(self):
        self.assertEqual(self.directory.read_metrics(), [])
        expected = write_two_rows(self.directory)
        self.assertEqual(self.directory.read_metrics(), expected)

    def test_line_that_a_crash_cut_off(self):
        self.directory.append_metrics({"epoch": 1})
        with self.directory.metrics.open("a") as file:
            file.write('{"epoch": 2, "lo')
        self.directory.drop_metrics_after(1)
        self.directory.append_metrics({"epoch": 2})
        self.assertEqual(self.directory.read_metrics(), [{"epoch": 1}, {"epoch": 2}])

    def test_line_that_someone_broke(self):
        self.directory.metrics.write_text('{"epoch": 1}\nmine\n{"epoch": 3}\n')
        with self.assertRaisesRegex(InputError, "Line 2 of .*metrics.jsonl is no JSON"):
            self.directory.read_metrics()

    def test_summary_without_metrics(self):
        self.assertEqual(
            self.directory.summary(), f"{self.path}: the encoder is in {self.path}/saved_model"
        )

    def test_settings_that_are_no_text(self):
        self.directory.config.write_bytes(b"EPOCHS = 3\r\nDATASET = 'folder:caf\xe9'\r\n")
        self.assertEqual(self.directory.read_settings()["EPOCHS"], "3")

    def test_summary(self):
        self.directory.append_metrics({"epoch": 3, "loss": 1.23456})
        self.assertStartsWith(self.directory.summary(), f"{self.path}: 3 epochs, loss 1.235; the")
        row = {"epoch": 4, "loss": 1.0, "knn_top1": 0.5, "knn_protocol": "k=20"}
        self.directory.append_metrics(row)
        self.assertIn("kNN top-1 50.00% (k=20);", self.directory.summary())


if __name__ == "__main__":
    absltest.main()
