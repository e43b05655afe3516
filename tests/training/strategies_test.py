import json
import os
from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from csml_tf.errors import InputError
from csml_tf.training import strategies

TWO_WORKERS = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}


class MakeTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.real_devices = tf.config.list_physical_devices
        self.enter_context(mock.patch.dict(os.environ))
        os.environ.pop("TF_CONFIG", None)

    def pretend_gpus(self, count):
        def devices(kind=None):
            return ["GPU"] * count if kind == "GPU" else self.real_devices(kind)

        self.enter_context(mock.patch.object(tf.config, "list_physical_devices", devices))

    @parameterized.parameters(
        ("auto", 0, "no GPU and works on the CPU"), ("none", 1, "1 GPU"), ("none", 8, "8 GPUs")
    )
    def test_one_device(self, name, gpus, message):
        self.pretend_gpus(gpus)
        with self.assertLogs("absl", "INFO") as logs:
            strategy = strategies.make(name)
        self.assertIs(strategy, tf.distribute.get_strategy())
        self.assertEndsWith(logs.records[0].getMessage(), f" sees {message}.")
        self.assertTrue(strategies.is_chief(strategy))

    def test_mirrored(self):
        strategy = strategies.make("mirrored")
        self.assertIsInstance(strategy, tf.distribute.MirroredStrategy)
        self.assertTrue(strategies.is_chief(strategy))

    @parameterized.parameters(1, 2)
    def test_auto_is_all_gpus(self, gpus):
        self.pretend_gpus(gpus)
        with mock.patch.object(tf.distribute, "MirroredStrategy") as mirrored:
            self.assertIs(strategies.make("auto"), mirrored.return_value)
        mirrored.assert_called_once_with()

    @parameterized.parameters(("multi_worker", 1), ("auto", 2), ("multi_worker", 2))
    def test_multi_worker(self, name, num_workers):
        workers = {"worker": TWO_WORKERS["worker"][:num_workers]}
        os.environ["TF_CONFIG"] = json.dumps(
            {"cluster": workers, "task": {"type": "worker", "index": 0}}
        )
        with mock.patch.object(tf.distribute, "MultiWorkerMirroredStrategy") as made:
            self.assertIs(strategies.make(name, worker_timeout_s=7), made.return_value)
        options = made.call_args.kwargs["communication_options"]
        self.assertEqual(options.timeout_seconds, 7)

    @parameterized.parameters(
        "{}",
        '{"cluster": {}}',
        '{"cluster": {}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
        '{"cluster": {"worker": {"1": "a:1"}}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}}',
    )
    def test_one_process_is_no_cluster(self, text):
        os.environ["TF_CONFIG"] = text
        self.assertIs(strategies.make("auto"), tf.distribute.get_strategy())

    @parameterized.parameters(
        ("chief", 0, {"chief": ["a:1"], "worker": ["b:1"]}, True),
        ("worker", 0, {"chief": ["a:1"], "worker": ["b:1"]}, False),
        ("worker", 0, {"worker": ["a:1", "b:1"]}, True),
        ("worker", 1, {"worker": ["a:1", "b:1"]}, False),
    )
    def test_is_chief(self, task_type, task_id, cluster, expected):
        strategy = mock.create_autospec(tf.distribute.MultiWorkerMirroredStrategy, instance=True)
        strategy.cluster_resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec(cluster), task_type=task_type, task_id=task_id
        )
        self.assertEqual(strategies.is_chief(strategy), expected)

    @parameterized.parameters(
        (None, "TF_CONFIG, which lists no worker"),
        ("{", "TF_CONFIG cannot be read"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG cannot be read .KeyError"),
        ("[]", "TF_CONFIG cannot be read"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "this is worker 1, but its cluster has only 1: count from 0",
        ),
    )
    def test_rejects_a_cluster(self, text, message):
        if text is not None:
            os.environ["TF_CONFIG"] = text
        with self.assertRaisesRegex(InputError, message):
            strategies.make("multi_worker")

    def test_unknown(self):
        with self.assertRaisesRegex(InputError, "one of auto, none, mirrored, .*, got 'horovod'"):
            strategies.make("horovod")

    def test_a_tpu_without_the_strategy(self):
        with self.assertRaisesRegex(InputError, "--tpu names a TPU, so it needs --strategy=tpu"):
            strategies.make("mirrored", tpu="somewhere")

    def test_no_such_tpu(self):
        with self.assertRaisesRegex(InputError, r"There is no TPU nowhere.invalid \("):
            strategies.make("tpu", tpu="nowhere.invalid")

    def test_no_tpu(self):
        with self.assertRaisesRegex(InputError, r"There is no TPU on this machine \(.+\): name"):
            strategies.make("tpu")


if __name__ == "__main__":
    tf.test.main()
