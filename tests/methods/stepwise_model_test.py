"""`CsMl` in the hands of a Keras user: what works as Keras does, and what is refused."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.training import optim
from tests.methods import made
from tests.training import tiny_run

BATCH = 4


def make_model(**settings):
    tf.keras.utils.set_random_seed(0)
    settings = {"num_negatives": 8, "neighbor_warmup_epochs": 1, **settings}
    model = made.make_csml(tiny_run.make_encoder, **settings)
    model.compile(optim.TorchSGD(0.05))
    return model


def make_views(names, count=2 * BATCH):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=[count, 16, 16, 3]).astype("float32") for name in names}


def make_batches(model):
    return tf.data.Dataset.from_tensor_slices(make_views(model.view_names)).batch(BATCH)


class FitTest(tf.test.TestCase, parameterized.TestCase):
    def test_the_epoch_counts_by_itself(self):
        model = make_model(cutmix_warmup_epochs=2)
        seen = []
        look = tf.keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: seen.append(
                (int(model.epoch), model.cross_samples.counts_neighbors(int(model.epoch)))
            )
        )
        history = model.fit(make_batches(model), epochs=3, callbacks=[look], verbose=0)
        self.assertEqual(seen, [(0, False), (1, True), (2, True)])
        self.assertEqual(int(model.steps_of_run), 3 * 2)
        self.assertLen(history.history["loss"], 3)
        self.assertLen(history.history["loss_stage4_mixed"], 1)

    def test_goes_on_from_an_epoch(self):
        model = make_model()
        model.fit(make_batches(model), initial_epoch=4, epochs=5, verbose=0)
        self.assertEqual(int(model.epoch), 4)

    @parameterized.parameters(list, lambda callbacks: callbacks[0], tuple)
    def test_takes_callbacks_as_keras_does(self, pack):
        model = make_model()
        stop = tf.keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", logs["loss"] > 0)
        )
        history = model.fit(make_batches(model), epochs=3, callbacks=pack([stop]), verbose=0)
        self.assertLen(history.history["loss"], 1)
        listed = tf.keras.callbacks.CallbackList(
            [stop, tf.keras.callbacks.History()], model=model, epochs=3, steps=2
        )
        model.stop_training = False
        model.fit(make_batches(model), epochs=3, callbacks=listed, verbose=0)
        self.assertEqual(int(model.epoch), 0)

    def test_arrays_of_views(self):
        model = make_model()
        views = make_views(model.view_names)
        history = model.fit(views, batch_size=BATCH, verbose=0, shuffle=False)
        self.assertLen(history.history["loss"], 1)

    def test_train_on_batch(self):
        model, stepwise = make_model(), make_model()
        views = make_views(model.view_names, BATCH)
        logs = model.train_on_batch(views, return_dict=True)
        expected = stepwise.train_step(views)
        self.assertAllClose(logs["loss"], expected["loss"], rtol=1e-5)

    def test_checkpoints_hold_the_whole_state(self):
        folder = tiny_run.make_temp_dir(self.addCleanup)
        model = make_model()
        save = tf.keras.callbacks.ModelCheckpoint(
            str(folder / "state-{epoch}"), save_weights_only=True
        )
        model.fit(make_batches(model), epochs=2, callbacks=[save], verbose=0)
        other = make_model(seed=1)
        other.load_weights(str(folder / "state-2")).expect_partial()
        for actual, expected in zip(other.base.variables, model.base.variables):
            self.assertAllEqual(actual, expected)
        self.assertLen(model.base.queues["stage4"].variables, 2)


class RefusalTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ({"loss": "mse"}, "a loss and figures of its own: leave loss out"),
        ({"metrics": ["mae"]}, "leave metrics out"),
        ({"steps_per_execution": 2}, "leave steps_per_execution out"),
    )
    def test_compile(self, options, message):
        model = make_model()
        with self.assertRaisesRegex(ValueError, message):
            model.compile(optim.TorchSGD(), **options)

    def test_labels(self):
        model = make_model()
        views = make_views(model.view_names)
        labels = np.zeros(2 * BATCH)
        batches = tf.data.Dataset.from_tensor_slices((views, labels)).batch(BATCH)
        with self.assertRaisesRegex(ValueError, r"takes no labels: map .*dataset\.map"):
            model.fit(batches, verbose=0)
        with self.assertRaisesRegex(ValueError, "takes no labels"):
            model.fit(views, labels, verbose=0)

    def test_validation(self):
        model = make_model()
        batches = make_batches(model)
        with self.assertRaisesRegex(ValueError, "leave validation_data out"):
            model.fit(batches, validation_data=batches, verbose=0)
        with self.assertRaisesRegex(ValueError, "csml_tf.evaluate"):
            model.evaluate(batches)

    def test_a_missing_view(self):
        model = make_model()
        views = make_views(["query", "key"])
        batches = tf.data.Dataset.from_tensor_slices(views).batch(BATCH)
        with self.assertRaisesRegex(
            ValueError, r"lacks neighbor_query, neighbor_key: .* query, key, "
        ):
            model.fit(batches, verbose=0)

    @parameterized.parameters("x.weights.h5", "x.h5", "x.hdf5", "x.keras")
    def test_files_without_queue_and_key_encoder(self, name):
        model = make_model()
        folder = tiny_run.make_temp_dir(self.addCleanup)
        with self.assertRaisesRegex(ValueError, f"{name} would leave out the key encoder"):
            model.save_weights(str(folder / name))
        with self.assertRaisesRegex(ValueError, "cannot be saved as a whole"):
            model.save(str(folder / name))
        self.assertEmpty([*folder.iterdir()])


if __name__ == "__main__":
    tf.test.main()
