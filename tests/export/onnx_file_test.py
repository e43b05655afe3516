import sys
from unittest import mock

import numpy as np
import tensorflow as tf

from csml_tf.errors import InputError
from csml_tf.export import onnx_file, saved_model
from tests.training import tiny_run

try:
    import onnxruntime
    import tf2onnx  # noqa: F401
except (ImportError, AttributeError):
    onnxruntime = None


def make_model():
    tf.keras.utils.set_random_seed(0)
    model, _ = saved_model.make_export_models(tiny_run.make_encoder(), (0.5,) * 3, (0.2,) * 3)
    return model


class OnnxFileTest(tf.test.TestCase):
    def test_outputs_are_those_of_the_signatures(self):
        if onnxruntime is None:
            self.skipTest("tf2onnx and onnxruntime are not installed: the extra onnx")
        model = make_model()
        content, names = onnx_file.convert(model)
        self.assertCountEqual(
            names, [f"stage{n}" for n in (1, 2, 3, 4)] + ["features", "embedding"]
        )
        session = onnxruntime.InferenceSession(content)
        for shape in ([1, 32, 32, 3], [3, 65, 48, 3]):
            images = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
            expected = saved_model.make_endpoints_model(model)(images)
            expected["embedding"] = model.projection_head(expected["features"])
            found = dict(zip(names, session.run(names, {"images": images})))
            for name, tensor in expected.items():
                self.assertAllClose(found[name], tensor, rtol=1e-5, atol=1e-5)
            features = onnx_file.open_model(content)(images)
            self.assertAllClose(features, expected["features"], rtol=1e-5, atol=1e-5)

    def test_says_what_to_install(self):
        with (
            mock.patch.dict(sys.modules, {"tf2onnx": None}),
            self.assertRaisesRegex(InputError, r"--format=onnx needs .*'\.\[onnx\]'\.$") as caught,
        ):
            onnx_file.convert(None)
        self.assertNotIn("\n", str(caught.exception))


if __name__ == "__main__":
    tf.test.main()
