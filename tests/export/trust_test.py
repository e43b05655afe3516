"""What programs may hide in a SavedModel: none of them is loaded, so none of them runs."""

import json

import tensorflow as tf
from absl.testing import parameterized
from tensorflow.core.protobuf import saved_model_pb2

from csml_tf.errors import InputError
from csml_tf.export import trust
from csml_tf.zoo import registry
from tests.training import tiny_run

SPEC = tf.TensorSpec([None, None, None, 3], tf.float32, name="images")


def pool(images):
    return tf.reduce_mean(images, axis=[1, 2])


def save_graph(folder, program):
    """A SavedModel whose signature computes features, and does something more."""

    class Encoder(tf.Module):
        @tf.function(input_signature=[SPEC], autograph=False)
        def serve(self, images):
            with tf.control_dependencies(program(f"{folder}/sprung")):
                return {"features": pool(images)}

    encoder = Encoder()
    tf.saved_model.save(encoder, str(folder), {"serving_default": encoder.serve})


def write_file(path):
    return [tf.io.write_file(path, "x")]


def in_a_branch(path):
    """Two functions deep."""

    def write():
        with tf.control_dependencies(write_file(path)):
            return tf.constant(1)

    return [tf.cond(tf.constant(True), write, lambda: tf.constant(0))]


def save_tensor(path):
    return [
        tf.raw_ops.SaveV2(prefix=path, tensor_names=["a"], shape_and_slices=[""], tensors=[1.0])
    ]


def save_keras(folder, layer):
    images = tf.keras.Input([None, None, 3], name="images")
    model = tf.keras.Model(images, layer(images))
    model.save(folder, save_format="tf")


class TrustTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tiny_run.make_temp_dir(self.addCleanup) / "model"

    def assert_refused(self, reason):
        sentence = rf"^The model in {self.folder} {reason}, so opening it .* --trust_model, .*\.$"
        for find in (trust.check, registry.find_saved_model, registry.load_model):
            with self.assertRaisesRegex(InputError, sentence) as caught:
                find(self.folder)
            self.assertNotIn("\n", str(caught.exception))
        self.assertFalse((self.folder / "sprung").exists())
        self.assertEqual(registry.find_saved_model(self.folder, trust_model=True), self.folder)

    @parameterized.named_parameters(
        ("file", write_file, "WriteFile"),
        ("in a branch", in_a_branch, "WriteFile"),
        ("read", lambda path: [tf.io.read_file(path)], "ReadFile"),
        ("checkpoint", save_tensor, "SaveV2"),
        ("print", lambda path: [tf.print("x", output_stream=f"file://{path}")], "PrintV2"),
        ("python", lambda path: [tf.py_function(print, [path], [])], "EagerPyFunc"),
        (
            "data set",
            lambda path: [tf.data.TextLineDataset(path)._variant_tensor],
            "FlatMapDataset",
        ),
    )
    def test_operations(self, program, operation):
        save_graph(self.folder, program)
        self.assert_refused(rf"has the operation {operation}\w*")

    def test_operation_of_another_function_than_the_signatures(self):
        class Encoder(tf.Module):
            @tf.function(input_signature=[SPEC])
            def serve(self, images):
                return {"features": pool(images)}

            @tf.function(input_signature=[])
            def __call__(self):
                return tf.io.read_file("x")

        encoder = Encoder()
        tf.saved_model.save(encoder, str(self.folder), {"serving_default": encoder.serve})
        self.assert_refused("has the operation ReadFile")

    def test_operation_of_a_function_that_nothing_leads_to(self):
        save_graph(self.folder, lambda path: [])
        path = self.folder / "saved_model.pb"
        model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
        function = model.meta_graphs[0].graph_def.library.function.add()
        function.signature.name = "waiting"
        function.node_def.add(name="write", op="WriteFile")
        path.write_bytes(model.SerializeToString())
        self.assert_refused("has the operation WriteFile")

    @parameterized.named_parameters(
        ("lambda", lambda: tf.keras.layers.Lambda(pool), "has a Keras Lambda layer"),
        (
            "inside a model",
            lambda: tf.keras.Sequential([tf.keras.layers.Lambda(lambda x: x + 1.0)]),
            "has a Keras Lambda layer",
        ),
    )
    def test_layers(self, make_layer, reason):
        save_keras(self.folder, make_layer())
        self.assert_refused(reason)

    def test_layers_of_a_spelling_of_its_own(self):
        """Keras reads JSON, so the letters of a name may be written as numbers."""
        save_keras(self.folder, tf.keras.layers.GlobalAveragePooling2D())
        path = self.folder / "keras_metadata.pb"
        content = path.read_bytes()
        name, other = b'"GlobalAveragePooling2D"', rb'"\u004cambda"'
        self.assertIn(name, content)
        path.write_bytes(content.replace(name, other.ljust(len(name))))
        self.assert_refused("has a Keras Lambda layer")

    @parameterized.parameters(
        ({"class_name": "A", "config": [{"module": "os", "class_name": "system"}]}, "module 'os'"),
        ({"module": "builtins", "class_name": "eval"}, "module 'builtins'"),
        ({"class_name": "__lambda__"}, "Lambda"),
        ({"class_name": "TFOpLambda", "config": {"function": "io.write_file"}}, "io.write_file"),
        ({"class_name": "TFOpLambda", "config": {"function": "raw_ops.WriteFile"}}, "raw_ops"),
        ({"class_name": "TFOpLambda", "config": {"function": "py_function"}}, "py_function"),
    )
    def test_configs(self, config, reason):
        self.assertRegex(" ".join(trust._forbidden_layers([config])), reason)

    @parameterized.parameters(
        ({"class_name": "TFOpLambda", "config": {"function": "math.add"}},),
        ({"class_name": "TFOpLambda", "config": None},),
        ({"module": "keras.layers", "class_name": "Dense", "config": {"module": None}},),
        ({"module": "builtins", "class_name": "function", "config": "relu"},),
        ([],),
        ("Lambda",),
    )
    def test_harmless_configs(self, config):
        self.assertEmpty([*trust._forbidden_layers(config)])

    def test_encoders_pass(self):
        save_graph(self.folder, lambda path: [])
        trust.check(self.folder)
        trust.check(registry.find_saved_model("r18_cifar10_short"))

    @parameterized.parameters(b"", b"\xff" * 9, b"\x0a\x7f", "cut off", "folder")
    def test_damaged(self, content):
        save_keras(self.folder, tf.keras.layers.GlobalAveragePooling2D())
        for name in ("keras_metadata.pb", "saved_model.pb"):
            path = self.folder / name
            whole = path.read_bytes()
            path.unlink()
            if content == "folder":
                path.mkdir()
            else:
                path.write_bytes(whole[:-7] if content == "cut off" else content)
            try:
                registry.load_model(self.folder)
                self.assertEqual(name, "keras_metadata.pb")  # Which Keras can do without.
            except InputError as error:
                self.assertRegex(str(error), r"cannot be read \(.*\): .*export it again\.$")
            path.rmdir() if content == "folder" else path.unlink()
            path.write_bytes(whole)

    def test_nested_deeper_than_python_can_read(self):
        text = json.dumps({"class_name": "Functional"})[:-1] + ', "a": ' + "[" * 10**5 + "]" * 10**5
        save_graph(self.folder, lambda path: [])
        metadata = f"{text}}}".encode()

        def field(number, content):
            size, length = b"", len(content)
            while length > 127:
                size += bytes([length & 127 | 128])
                length >>= 7
            return bytes([number << 3 | 2]) + size + bytes([length]) + content

        (self.folder / "keras_metadata.pb").write_bytes(field(1, field(5, metadata)))
        with self.assertRaisesRegex(InputError, r"cannot be read \(RecursionError\)"):
            trust.check(self.folder)


if __name__ == "__main__":
    tf.test.main()
