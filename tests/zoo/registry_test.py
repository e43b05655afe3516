import numpy as np
import tensorflow as tf

import csml_tf
from csml_tf.errors import InputError
from csml_tf.export import saved_model
from csml_tf.zoo import registry
from tests.training import tiny_run


class RegistryTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.run_dir = tiny_run.make_temp_dir(self.addCleanup)
        self.model_dir = self.run_dir / "saved_model"

    def export(self):
        saved_model.export(tiny_run.make_encoder(), self.model_dir, (0.5,) * 3, (0.5,) * 3, {})

    def test_public_names(self):
        self.assertIs(csml_tf.load_model, registry.load_model)
        self.assertEqual(csml_tf.list_models(), ())
        self.assertRegex(csml_tf.__version__, r"^\d+\.\d+\.\d+")

    def test_finds_and_loads(self):
        self.export()
        for given in (self.run_dir, str(self.model_dir)):
            self.assertEqual(registry.find_saved_model(given), self.model_dir)
        model = csml_tf.load_model(str(self.run_dir))
        images = np.zeros([2, 40, 32, 3], "float32")
        self.assertEqual(model(images).shape, [2, 4])
        self.assertNotEmpty(model.trainable_variables)

    def test_unfinished_run(self):
        (self.run_dir / "checkpoints").mkdir()
        with self.assertRaisesRegex(InputError, "no saved_model/ yet: let tools/train.py finish"):
            csml_tf.load_model(self.run_dir)

    def test_no_such_model(self):
        with self.assertRaisesRegex(InputError, "no model 'r51': give a run directory"):
            csml_tf.load_model("r51")

    def test_damaged_model(self):
        self.model_dir.mkdir()
        (self.model_dir / "saved_model.pb").write_bytes(b"no protocol buffer")
        with self.assertRaisesRegex(InputError, "cannot be read .*export it again"):
            csml_tf.load_model(self.run_dir)


if __name__ == "__main__":
    tf.test.main()
