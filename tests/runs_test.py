"""What a run hands on: the recipe is a stand-in of plain Python, and nothing is trained."""

from unittest import mock

import numpy as np
import tensorflow as tf
from absl import logging
from absl.testing import parameterized

from csml_tf import run_cards, runs
from csml_tf.augment.center_view import CenterView
from csml_tf.data import catalog
from csml_tf.data.sources import file_scan, folder_scan, memory, splits
from csml_tf.errors import InputError
from csml_tf.export import model_card, saved_model
from csml_tf.training import checkpoint, plan, step_clock, time_left
from csml_tf.training.checkpoint import Progress
from csml_tf.training.run_directory import RunDirectory
from tests.data.sources import image_files
from tests.training import tiny_run


class PretrainTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = tiny_run.make_temp_dir(self.addCleanup)
        self.train = mock.Mock(side_effect=InputError("The end."))

    def make_recipe(self, **options):
        settings = {
            "files": ("recipes/first.gin", "mine.gin"),
            "bindings": ("EPOCHS = 2",),
            "name": "mine",
            "dataset": "digits",
            "knobs": {"EPOCHS": 2},
            "read_settings": lambda: {"EPOCHS": 2},
            "settings": lambda: "EPOCHS = 2\n",
            "make_model": None,
            "fill": None,
            "assemble": None,
            "make_center_view": lambda: CenterView(16),
            "make_monitors": lambda train, test, center_view: [(train, test)],
            "train": self.train,
            "collect_step": None,
            **options,
        }
        return runs.Recipe(**settings)

    def begin(self, recipe=None, **options):
        """-> what the training was called with."""
        with self.assertRaisesRegex(InputError, "The end"):
            runs.pretrain(recipe or self.make_recipe(), self.directory, "strategy", **options)
        return self.train.call_args.args

    def test_what_the_training_gets(self):
        directory, source, strategy, view, settings, *others = self.begin()
        monitors, initialize, callbacks, open_teacher = others
        self.assertEqual((directory.path, strategy), (self.directory, "strategy"))
        self.assertIsNone(initialize)
        self.assertIsNone(open_teacher)
        self.assertEqual(
            settings(),
            "# Recipe: first.gin, mine.gin with EPOCHS = 2\n# Data set: digits\n"
            "DATASET = 'digits'\nEPOCHS = 2\n",
        )
        ((train, test),) = monitors
        self.assertEqual((len(source), len(train), len(test)), (1438, 1438, 359))
        self.assertEqual((view.image_size, callbacks), (16, ()))

    @parameterized.parameters((0.4, False), (0.2, True))
    def test_best_model_goes_when_the_last_is_better(self, newest, stays):
        """Of an earlier end of the run; the weights of its best epoch are gone."""
        directory = RunDirectory(self.directory)
        directory.append_metrics({"epoch": 1, "loss": 1.0, "knn_top1": 0.3})
        directory.append_metrics({"epoch": 2, "loss": 1.0, "knn_top1": newest})
        folder = self.directory / "best_model"
        folder.mkdir()
        runs._export_best(directory, None, None, {})
        self.assertEqual(folder.exists(), stays)

    def test_callbacks(self):
        callback = tf.keras.callbacks.Callback()
        self.assertEqual(self.begin(callbacks=[callback])[-2], (callback,))

    def test_refused_start_leaves_nothing_behind(self):
        with self.assertRaisesRegex(InputError, "The end"):
            runs.pretrain(self.make_recipe(), self.directory / "new" / "run", None)
        with self.assertRaisesRegex(InputError, "no model 'r51'"):
            runs.pretrain(self.make_recipe(), self.directory / "new", None, init_from="r51")
        self.assertEmpty([*self.directory.iterdir()])

    def test_model_that_a_run_began_with_may_be_gone(self):
        checkpoint = self.directory / "checkpoints" / "ckpt-1.index"
        checkpoint.parent.mkdir()
        checkpoint.touch()
        *_, settings, _, initialize, _, _ = self.begin(init_from="runs/gone")
        self.assertIsNone(initialize)
        self.assertIn("INIT_FROM = 'runs/gone'\n", settings())

    def test_init_from(self):
        with self.assertRaisesRegex(InputError, "no model 'r51'"):
            runs.pretrain(self.make_recipe(), self.directory, None, init_from="r51")
        (self.directory / "saved_model").mkdir()
        (self.directory / "saved_model" / "saved_model.pb").touch()
        *_, settings, _, initialize, _, _ = self.begin(init_from=self.directory)
        self.assertIn(f"\nINIT_FROM = {str(self.directory)!r}\nINIT_FINGERPRINT = '", settings())
        self.assertIsNotNone(initialize)

    def test_mine_with(self):
        encoder, model = tiny_run.make_encoder(), self.directory / "teacher"
        card = {"id": "tiny", "image_size": 16, "resize_size": 20}
        saved_model.export(encoder, model, (0.4,) * 3, (0.2,) * 3, card)
        recipe = self.make_recipe(knobs={"MINE_WITH": str(model)})
        *_, settings, _, initialize, _, open_teacher = self.begin(recipe)
        self.assertIsNone(initialize)
        self.assertNotIn("INIT_FROM", settings())
        self.assertRegex(settings(), r"(?m)^MINE_WITH_FINGERPRINT = '[0-9a-f]{16}'$")
        encode, view = open_teacher()
        self.assertEqual((view.image_size, view.resize_size, view.mean), (16, 20, (0, 0, 0)))
        images = tf.random.uniform([3, 16, 16, 3])
        self.assertAllClose(
            encode(images), encoder.pooled_features((images - 0.4) / 0.2), rtol=1e-4
        )

    def test_model_that_mines_is_looked_for_at_the_start(self):
        recipe = self.make_recipe(knobs={"MINE_WITH": "runs/gone"})
        for begin in (runs.pretrain, runs.dry_run):
            with self.assertRaisesRegex(InputError, "no model 'runs/gone'"):
                begin(recipe, self.directory, None)
        checkpoint_file = self.directory / "checkpoints" / "ckpt-1.index"
        checkpoint_file.parent.mkdir()
        checkpoint_file.touch()
        *_, settings, _, _, _, open_teacher = self.begin(recipe)
        self.assertIsNone(open_teacher)
        self.assertNotIn("FINGERPRINT", settings())

    def test_trains_where_labels_measure_nothing(self):
        digits = memory.load_digits()
        alike = digits.subset(np.flatnonzero(digits.labels == 3), "threes")
        threes = catalog.Dataset("threes", splits.Splits(*[lambda: alike] * 3))
        with (
            mock.patch.object(catalog, "open_dataset", lambda *_: threes),
            self.assertLogs(level="WARNING") as logs,
        ):
            *_, monitors, _, _, _ = self.begin(dataset="threes")
        self.assertEmpty(monitors)
        self.assertIn("not measured during training: threes has one class only", logs.output[0])

    def test_a_source_in_place_of_a_data_set(self):
        source = memory.MemorySource(np.zeros([3, 8, 8], np.uint8), name="3 images in memory")
        _, given, _, _, settings, monitors, *_ = self.begin(dataset=source)
        self.assertIs(given, source)
        self.assertIn("DATASET = '3 images in memory'\n", settings())
        self.assertEmpty(monitors)

    def test_folder_is_looked_through_once(self):
        """By the training and by its monitors, which draw their own images from it."""
        for name in ("ant", "bee"):
            image_files.write_pngs(self.directory / "photos" / name, 10, len(name))
        with (
            mock.patch.object(folder_scan, "scan", wraps=folder_scan.scan) as listing,
            mock.patch.object(file_scan, "scan_files", wraps=file_scan.scan_files) as scan,
        ):
            _, source, *_ = self.begin(dataset=f"folder:{self.directory}/photos")
        self.assertLen(source, 20)
        self.assertEqual((listing.call_count, scan.call_count), (1, 1))

    def test_no_dataset(self):
        with self.assertRaisesRegex(InputError, "no DATASET: name one with --dataset"):
            runs.pretrain(self.make_recipe(dataset=None), self.directory, None)

    @parameterized.parameters(
        (
            {"dataset": "folder:my photos", "init_from": "r50"},
            "csml-tf train --gin_file=recipes/first.gin --gin_file=mine.gin "
            "'--gin_bindings=EPOCHS = 2' '--dataset=folder:my photos' --init_from=r50",
        ),
        (
            {"dataset": memory.MemorySource(np.zeros([3, 8, 8], np.uint8)), "init_from": None},
            "csml_tf.pretrain(images, 'mine.gin', EPOCHS=2)",
        ),
    )
    def test_command_of_the_card(self, given, command):
        actual = run_cards.describe_command(self.make_recipe(), **given)
        self.assertEqual(actual, command)

    def test_exports_and_writes_the_card(self):
        def train(directory, *others):
            return tiny_run.run(directory.path, epochs=1)

        recipe = self.make_recipe(train=train)
        source = tiny_run.make_source()
        directory = runs.pretrain(
            recipe, self.directory, tf.distribute.get_strategy(), dataset=source
        )
        self.assertEqual(directory.path, self.directory)
        card = model_card.read(directory.saved_model)
        expected = {"recipe": {"EPOCHS": 2}, "data": "48 digits", "image_size": 16, "epochs": 1}
        self.assertContainsSubset(expected, card)
        self.assertLen(card["curve"], 1)

    @parameterized.parameters(
        (Progress(), "The end", True),
        (Progress(3), "Going on from .* after epoch 3.", True),
        (Progress(3, step=5), "Going on from .* after step 5 of epoch 4.", True),
        (Progress(10), "is finished: 10 epochs are done.", False),
    )
    def test_dry_run_is_of_what_is_left(self, progress, said, is_timed):
        self.addCleanup(logging.set_verbosity, logging.get_verbosity())
        logging.set_verbosity(logging.INFO)
        assembled = mock.Mock(num_steps=20)
        assembled.parts = mock.Mock(epochs=10, global_batch_size=64)
        recipe = self.make_recipe(assemble=lambda *_: assembled)
        pace = step_clock.Pace(2.0, 30.0)
        with (
            mock.patch.object(checkpoint, "find_progress", return_value=progress) as find,
            mock.patch.object(step_clock, "measure", return_value=pace) as measure,
            mock.patch.object(
                time_left, "announce", side_effect=lambda *_: logging.info("The end")
            ) as announce,
            mock.patch.object(plan, "log_training"),
            self.assertLogs("absl", "INFO") as logs,
        ):
            runs.dry_run(recipe, self.directory, None)
        find.assert_called_once_with(self.directory / "checkpoints")
        lines = "\n".join(record.getMessage() for record in logs.records)
        self.assertRegex(lines, said)
        self.assertEqual(measure.called, is_timed)
        if is_timed:
            ((train, test),) = announce.call_args.args[2]
            self.assertEqual((len(train), len(test)), (1438, 359))
            self.assertEqual(announce.call_args.args, (pace, assembled, [(train, test)], progress))
        else:
            announce.assert_not_called()
        self.assertEqual("Going on" in lines, progress not in (Progress(), Progress(10)))

    def test_default_directory(self):
        recipe = self.make_recipe()
        with (
            mock.patch.object(runs, "RunDirectory", side_effect=InputError("The end.")) as made,
            self.assertRaisesRegex(InputError, "The end"),
        ):
            runs.pretrain(recipe, None, None)
        made.assert_called_once_with("runs/mine")


if __name__ == "__main__":
    tf.test.main()
