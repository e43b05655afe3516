import math

import numpy as np
import tensorflow as tf

from csml_tf.methods.running_means import RunningMeans


class RunningMeansTest(tf.test.TestCase):
    def test_means_over_steps(self):
        values = np.random.default_rng(0).normal(size=[5, 2]).astype("float32")
        means = RunningMeans(["loss", "part"])
        update = tf.function(means.update)
        for step, (part, loss) in enumerate(values, start=1):
            logs = update({"loss": loss, "part": part})
            expected = dict(zip(("part", "loss"), values[:step].mean(axis=0)))
            self.assertAllClose(logs, expected, rtol=1e-5)
            self.assertAllClose(means.result(), expected, rtol=1e-5)

    def test_begins_anew(self):
        means = RunningMeans(["loss"])
        self.assertTrue(math.isnan(means.result()["loss"]))
        means.update({"loss": 5.0})
        means.reset()
        self.assertTrue(math.isnan(means.result()["loss"]))
        means.update({"loss": 3.0})
        self.assertEqual(means.result(), {"loss": 3.0})

    def test_over_replicas(self):
        strategy = tf.distribute.MirroredStrategy(
            ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
        )
        with strategy.scope():
            means = RunningMeans(["loss"])

        @tf.function
        def step():
            def update():
                replica = tf.distribute.get_replica_context().replica_id_in_sync_group
                return means.update({"loss": tf.constant([2.0, 6.0])[replica]})["loss"]

            return strategy.experimental_local_results(strategy.run(update))

        self.assertAllEqual(step(), [4.0, 4.0])
        self.assertEqual(means.result(), {"loss": 4.0})


if __name__ == "__main__":
    tf.test.main()
