"""What holds of every base method, and what a new one needs: one file and one recipe."""

import functools
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.export import model_card
from csml_tf.methods.byol import BYOL
from csml_tf.methods.csml import CsMl
from csml_tf.methods.method import Method
from csml_tf.methods.moco import MoCo
from csml_tf.methods.moco_v3 import MoCoV3
from csml_tf.methods.predicted_keys import PredictedKeys
from csml_tf.methods.simclr import SimCLR
from csml_tf.methods.swav import SwAV
from csml_tf.models import heads
from csml_tf.training import optim
from csml_tf.training.checkpoint_files import CheckpointFiles
from tests.methods import made, throw_away
from tests.training import run_state, tiny_run

ROOT = pathlib.Path(__file__).parents[2]
BATCH, SIZE = 8, 16
PLAIN = {"query_kinds": ("image",), "positive_weights": (1.0, 0.0)}
ALL = {"query_kinds": ("image", "neighbor", "mixed"), "neighbor_warmup_epochs": 0}
METHODS = (
    ("moco", MoCo, PLAIN),
    ("moco_csml", MoCo, ALL),
    ("moco_pairs", MoCo, {**ALL, "pairs": True}),
    ("cosine", throw_away.CosinePull, PLAIN),
    ("cosine_csml", throw_away.CosinePull, {**ALL, "num_small_views": 1}),
    ("simclr", SimCLR, PLAIN),
    ("simclr_csml", SimCLR, ALL),
    ("simclr_pairs", SimCLR, {**ALL, "pairs": True}),
    ("byol", BYOL, PLAIN),
    ("byol_csml", BYOL, {**ALL, "num_small_views": 1}),
    ("byol_pairs", BYOL, {**ALL, "pairs": True}),
    ("moco_v3", MoCoV3, PLAIN),
    ("moco_v3_csml", MoCoV3, {**ALL, "num_small_views": 1}),
    ("swav", SwAV, {**PLAIN, "num_small_views": 1}),
    ("swav_csml", SwAV, ALL),
)
QUICK = ("simclr_csml", "moco_v3")
# What a tiny run needs in place of the defaults.
SETTINGS = {
    MoCo: {"num_negatives": 40},
    SwAV: {"num_prototypes": 6, "queue_length": 16, "queue_from_epoch": 0, "frozen_epochs": 0},
}


def make_model(make_base, bn_groups=4, **settings):
    tf.keras.utils.set_random_seed(0)
    settings = {**SETTINGS.get(make_base, {}), **settings}
    if issubclass(make_base, PredictedKeys):
        settings["make_predictor"] = functools.partial(
            heads.make_batch_norm_head, hidden_dim=6, bn_groups=bn_groups
        )
    model = made.make_csml(
        functools.partial(tiny_run.make_encoder, bn_groups), make_base=make_base, **settings
    )
    model.compile(optim.TorchSGD(0.05))
    return model


def make_views(names, seed):
    rng = np.random.default_rng(seed)
    sizes = {name: SIZE // 2 if name.startswith("small") else SIZE for name in names}
    return {
        name: rng.normal(size=[BATCH, size, size, 3]).astype("float32")
        for name, size in sizes.items()
    }


def train(make_base, settings, replicas=1, steps=3, **options):
    """-> (model, loss of each step, its weights)."""
    strategy = tf.distribute.get_strategy()
    if replicas > 1:
        strategy = tf.distribute.MirroredStrategy(
            [f"CPU:{i}" for i in range(replicas)], tf.distribute.ReductionToOneDevice()
        )
    with strategy.scope():
        model = make_model(make_base, **settings, **options)
    train_function = model.make_train_function()
    losses = []
    for step in range(steps):
        views = make_views(model.view_names, step)
        if replicas > 1:
            parts = {name: np.split(rows, replicas) for name, rows in views.items()}

            def own(context, parts=parts):
                number = context.replica_id_in_sync_group
                return {name: tf.constant(rows[number]) for name, rows in parts.items()}

            views = strategy.experimental_distribute_values_from_function(own)
        else:
            views = tf.nest.map_structure(tf.constant, views)
        model.reset_metrics()
        losses.append(float(train_function(iter([views]))["loss"]))
    return model, losses, [weight.numpy() for weight in model.trainable_weights]


def each(*chosen):
    """The methods as parameters of a test; those that are not chosen are slow."""
    return parameterized.named_parameters(*[m for m in METHODS if m[0] in chosen])


OTHERS = tuple(name for name, *_ in METHODS if name not in QUICK)


class StepTest(tf.test.TestCase, parameterized.TestCase):
    @each(*QUICK)
    def test_two_replicas_equal_one(self, make_base, settings):
        self.check_replicas(make_base, settings)

    @each(*OTHERS)
    @pytest.mark.slow
    def test_two_replicas_equal_one_of_the_others(self, make_base, settings):
        self.check_replicas(make_base, settings, steps=1)  # Rounding grows with steps.

    @each("simclr_csml", "byol_csml", "moco_v3_csml", "swav_csml")
    @pytest.mark.slow
    def test_four_replicas_equal_one(self, make_base, settings):
        self.check_replicas(make_base, settings, steps=1, replicas=4)

    def check_replicas(self, make_base, settings, steps=3, replicas=2):
        _, expected_losses, expected = train(make_base, settings, steps=steps)
        model, losses, weights = train(make_base, settings, replicas=replicas, steps=steps)
        self.assertAllClose(losses, expected_losses, rtol=1e-4)
        for actual, value in zip(weights, expected):
            self.assertAllClose(actual, value, rtol=1e-3, atol=1e-4)
        for name, variable in model.base.shared_state.items():
            first, *others = (copy.numpy() for copy in variable.values)
            for other in others:
                self.assertAllEqual(first, other, name)

    @each("simclr")
    def test_parts_give_the_whole_step(self, make_base, settings):
        self.check_parts(make_base, settings)

    @each("moco_v3", "swav_csml")
    @pytest.mark.slow
    def test_parts_give_the_whole_step_of_the_others(self, make_base, settings):
        self.check_parts(make_base, settings)

    def check_parts(self, make_base, settings):
        _, expected_losses, expected = train(make_base, settings, steps=1)
        _, losses, weights = train(make_base, settings, steps=1, accumulation_steps=4)
        self.assertAllClose(losses, expected_losses, rtol=1e-5)
        for actual, value in zip(weights, expected):
            self.assertAllClose(actual, value, rtol=1e-4, atol=1e-5)

    @each(*QUICK)
    def test_every_trained_variable_moves(self, make_base, settings):
        model, losses, after = train(make_base, settings, steps=1)
        before = [v.numpy() for v in make_model(make_base, **settings).trainable_weights]
        self.assertEqual(
            [id(v) for v in model.trainable_weights], [id(v) for v in model.base.trained_variables]
        )
        for variable, old, new in zip(model.trainable_weights, before, after):
            self.assertNotAllEqual(old, new, variable.name)
        self.assertTrue(np.isfinite(losses).all())


class SimclrTest(tf.test.TestCase):
    """Losses whose gradient flows through both views, against one tape over the whole step."""

    def test_gradient_is_that_of_one_tape(self):
        model = make_model(SimCLR, temperature=0.5, **PLAIN)
        encoder = model.encoder
        views = make_views(("query", "key"), 0)
        before = [v.numpy() for v in encoder.trainable_variables]
        moving = [v.numpy() for v in encoder.non_trainable_variables]
        with tf.GradientTape() as tape:
            first, second = (encoder(views[name], training=True) for name in ("query", "key"))
            loss = 0.0
            for level in encoder.levels:
                rows = tf.concat([first[level], second[level]], axis=0)
                logits = rows @ tf.transpose(rows) / 0.5 - 1e9 * tf.eye(2 * BATCH)
                hits = tf.constant([*range(BATCH, 2 * BATCH), *range(BATCH)])
                loss += tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(hits, logits))
        expected = tape.gradient(loss, encoder.trainable_variables)
        moved = [v.numpy() for v in encoder.non_trainable_variables]
        for variable, value in zip(encoder.non_trainable_variables, moving):
            variable.assign(value)
        model.optimizer.learning_rate.assign(1.0)
        model.optimizer.sgd_momentum = model.optimizer.l2_weight_decay = 0.0
        logs = model.train_step(views)
        self.assertAllClose(logs["loss"], loss, rtol=1e-5)
        for variable, old, gradient in zip(encoder.trainable_variables, before, expected):
            self.assertAllClose(old - variable.numpy(), gradient, rtol=1e-3, atol=1e-5)
        # Batch norm's statistics moved once for each view, though both passed twice.
        for variable, value in zip(encoder.non_trainable_variables, moved):
            self.assertAllClose(variable, value, rtol=1e-4, atol=1e-5)


class ContractTest(tf.test.TestCase, parameterized.TestCase):
    def test_progress_is_the_share_of_the_run(self):
        seen = []

        class Watching(throw_away.CosinePull):
            def before_step(self, progress, epoch):
                seen.append(float(progress))

        model = make_model(Watching, **PLAIN)
        model.steps_of_run.assign(4)
        for step in range(5):
            model.train_step(make_views(model.view_names, step))
        self.assertAllClose(seen, [0.0, 0.25, 0.5, 0.75, 1.0])

    @parameterized.parameters("targets", "loss")
    def test_a_forgotten_hook(self, hook):
        class Forgetful(throw_away.CosinePull):
            pass

        setattr(Forgetful, hook, getattr(Method, hook))
        with self.assertRaisesRegex(TypeError, f"^Forgetful has no {hook}, which .*method.py"):
            CsMl(functools.partial(Forgetful, tiny_run.make_encoder))

    def test_neighbors_that_are_no_queries(self):
        with self.assertRaisesRegex(ValueError, 'lack neighbor, neighbor_2: add "neighbor" to'):
            make_model(SimCLR, query_kinds=("image",))

    def test_a_forgotten_encoder(self):
        class Empty(throw_away.CosinePull):
            def __init__(self, seed):
                tf.Module.__init__(self)

        with self.assertRaisesRegex(TypeError, "no query_encoder and no encoders, which"):
            CsMl(Empty)


RECIPE = """
import throw_away_recipe

include "quickstart.gin"

CsMl.make_base = @CosinePull
CosinePull.make_encoder = @MultiLevelEncoder
CosinePull.ema_decay = %EMA_DECAY
EPOCHS = 2
WIDTH = 1
NEIGHBOR_WARMUP_EPOCHS = 1
MONITOR_EVERY_EPOCHS = 1
"""


@pytest.mark.slow
class NewMethodTest(tf.test.TestCase):
    """A method in one file and one recipe: trained, gone on with, exported, reported."""

    def run_tool(self, folder, *command):
        done = subprocess.run(
            [sys.executable, str(ROOT / "tools" / command[0]), *command[1:]],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_from_recipe_to_report(self):
        folder = tiny_run.make_temp_dir(self.addCleanup)
        text = (ROOT / "tests" / "methods" / "throw_away.py").read_text()
        text += "\n\nimport gin\n\ngin.register(CosinePull)\n"
        (folder / "throw_away_recipe.py").write_text(text)
        (folder / "cosine.gin").write_text(RECIPE)
        train = (folder, "train.py", "--gin_file=cosine.gin")
        self.run_tool(*train, "--model_dir=whole")
        # Stopped after an epoch, by a checkpoint that is gone with those after it.
        self.run_tool(*train, "--model_dir=run")
        numbers = CheckpointFiles(folder / "run" / "checkpoints")
        numbers.keep_only(numbers.numbers()[:1])
        self.assertIn("2 epochs", self.run_tool(*train, "--model_dir=run"))
        whole, run = (run_state.load(folder / name) for name in ("whole", "run"))
        for name, value in whole.items():
            self.assertEqual(value.tobytes(), run[name].tobytes(), name)
        card = model_card.read(folder / "run" / "saved_model")
        self.assertEqual(card["epochs"], 2)
        encoder = tf.keras.models.load_model(folder / "run" / "saved_model", compile=False)
        self.assertEqual(encoder(tf.zeros([1, 32, 32, 3])).shape, (1, 8))
        self.run_tool(folder, "report.py", "--model_dir=run", "--output=report")
        self.assertIn("loss", (folder / "report" / "report.html").read_text())


if __name__ == "__main__":
    tf.test.main()
