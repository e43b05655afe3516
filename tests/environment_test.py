import os
import subprocess
import sys
import types
from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized

from csml_tf import environment

MESSAGE = (
    "csml_tf needs Keras 2, but TensorFlow was imported before it with Keras 3: import csml_tf "
    "first, or install tf-keras and set TF_USE_LEGACY_KERAS=1."
)
CAN_HAVE_KERAS_3 = tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 16)


def fake_tensorflow(version, keras_module):
    model = type("Model", (), {"__module__": keras_module})
    return types.SimpleNamespace(__version__=version, keras=types.SimpleNamespace(Model=model))


class PrepareTest(parameterized.TestCase):
    @parameterized.parameters(
        ("2.15.1", "keras.src.engine.training"),
        ("2.21.0", "tf_keras.src.engine.training"),
    )
    def test_keras_2(self, version, keras_module):
        with mock.patch.dict(sys.modules, tensorflow=fake_tensorflow(version, keras_module)):
            environment.prepare()

    @parameterized.parameters("2.16.0-rc0", "2.21.0")
    def test_keras_3(self, version):
        fake = fake_tensorflow(version, "keras.src.models.model")
        with (
            mock.patch.dict(sys.modules, tensorflow=fake),
            self.assertRaises(ImportError) as caught,
        ):
            environment.prepare()
        self.assertEqual(str(caught.exception), MESSAGE)

    def test_what_the_user_chose_stays(self):
        chosen = {
            "TF_ENABLE_ONEDNN_OPTS": "0",
            "TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE": "true",
            "TF_CPP_MIN_LOG_LEVEL": "0",
        }
        with mock.patch.dict(os.environ, chosen):
            environment.prepare()
            self.assertEqual({name: os.environ[name] for name in chosen}, chosen)


@absltest.skipUnless(CAN_HAVE_KERAS_3, "This TensorFlow has Keras 2 only.")
class ProcessTest(absltest.TestCase):
    def run_program(self, program):
        environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        environ.pop("TF_USE_LEGACY_KERAS", None)
        return subprocess.run(
            [sys.executable, "-c", program], env=environ, capture_output=True, text=True
        )

    def test_after_keras_3(self):
        process = self.run_program("import tensorflow as tf; tf.keras.Model; import csml_tf")
        self.assertEqual(process.returncode, 1)
        self.assertEqual(process.stderr.splitlines()[-1], f"ImportError: {MESSAGE}")

    def test_after_a_tensorflow_that_has_not_met_keras_yet(self):
        process = self.run_program(
            "import tensorflow as tf; import csml_tf; print(tf.keras.Model.__module__)"
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertStartsWith(process.stdout, "tf_keras.")


if __name__ == "__main__":
    absltest.main()
