import pickle
import types
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl import logging
from absl.testing import parameterized

from csml_tf.conversion import convert, safetensors_files
from csml_tf.errors import InputError
from csml_tf.export import saved_model
from csml_tf.models import heads
from csml_tf.models.backbones import contract, resnet
from csml_tf.zoo import registry
from csml_tf.zoo.training_state import TrainingState
from tests.conversion import numpy_resnet
from tests.conversion.torch_layouts_test import under
from tests.training import tiny_run

MEAN, STD = ("0.5", "0.4", "0.3"), ("0.2", "0.25", "0.3")
STATE = numpy_resnet.random_state(width=2)
KEYS = numpy_resnet.random_state(width=2, seed=1)
HEAD, KEY_HEAD = (numpy_resnet.random_head(16, seed=seed) for seed in (0, 1))
QUEUE = np.random.default_rng(0).normal(size=[5, 6]).astype("float32")
MOCO = {
    **under("state_dict.module.encoder_q.", {**STATE, **under("fc.", HEAD)}),
    **under("state_dict.module.encoder_k.", {**KEYS, **under("fc.", KEY_HEAD)}),
    "state_dict.module.queue": QUEUE,
    "state_dict.module.queue_ptr": np.array([4]),
    "state_dict.module.predictor.0.weight": np.zeros([2, 3], "float32"),
}


class ConvertTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tiny_run.make_temp_dir(cls.addClassCleanup)
        safetensors_files.write(cls.folder / "moco.pth.tar", MOCO)
        cls.model_dir = cls.folder / "moco"
        cls.line = cls.convert("moco", checkpoint="moco.pth.tar", mean=MEAN, std=STD)
        cls.images = np.random.default_rng(1).uniform(size=[2, 40, 33, 3]).astype("float32")
        normalized = (cls.images - np.float32(MEAN)) / np.float32(STD)
        cls.expected = numpy_resnet.forward(STATE, normalized.transpose(0, 3, 1, 2))
        cls.signatures = tf.saved_model.load(str(cls.model_dir)).signatures

    @classmethod
    def convert(cls, output, checkpoint=None, model=None, **options):
        if checkpoint:
            options["checkpoint"] = cls.folder / checkpoint
        if model:
            options["model"] = cls.folder / model
        return convert.convert(cls.folder / output, **options)

    def run_signature(self, name):
        return self.signatures[name](images=tf.constant(self.images))

    def test_stages_and_features(self):
        outputs = self.run_signature("endpoints")
        for stage in contract.STAGES:
            maps = self.expected[stage].transpose(0, 2, 3, 1)
            self.assertAllClose(outputs[stage], maps, rtol=1e-4, atol=1e-4 * np.abs(maps).max())
        self.assertAllClose(outputs["features"], self.expected["features"], rtol=1e-4, atol=1e-5)

    def test_embedding(self):
        expected = numpy_resnet.embed(HEAD, self.expected["features"])
        self.assertAllClose(self.run_signature("embed")["embedding"], expected, atol=1e-5)

    def test_card(self):
        card = saved_model.read_card(self.model_dir)
        expected = {
            "id": "moco",
            "source": "moco.pth.tar",
            "layout": "MoCo v1 and v2, CsMl's authors",
            "arch": "resnet18",
            "width": 2,
            "stem": "imagenet",
            "image_size": 224,
            "feature_dim": 16,
            "head": "16-16-5",
            "batches_tracked": 7,
        }
        self.assertEqual(len(card.pop("source_sha256")), 64)
        self.assertEqual({name: card[name] for name in expected}, expected)
        self.assertEqual(
            self.line,
            f"{self.model_dir}: ResNet-18 of width 2 of the layout MoCo v1 and v2, CsMl's authors, "
            f"{len(MOCO) - 1} of {len(MOCO)} tensors used; projection head: 16-16-5; for training "
            "to go on: the key encoder, its head, a queue of 6 keys; left out: "
            "state_dict.module.predictor.0.weight",
        )

    def test_training_state(self):
        state = TrainingState.unpack(saved_model.read_training_state(self.model_dir))
        self.assertAllEqual(state.queue, QUEUE.T)
        self.assertEqual(state.cursor, 4)
        kernel = KEYS["layer1.0.conv1.weight"].transpose(2, 3, 1, 0)
        self.assertAllEqual(state.key_layers["stage1_block1_conv1"][0], kernel)
        self.assertAllEqual(state.key_layers["stem_bn"][3], KEYS["bn1.running_var"])
        self.assertAllEqual(state.key_head[2], KEY_HEAD["2.weight"].T)

    def test_back_is_the_same_bytes(self):
        line = self.convert("back.safetensors", model="moco", to="torch", head=True)
        back = safetensors_files.read(self.folder / "back.safetensors")
        expected = {**STATE, **under("fc.", HEAD)}
        self.assertEqual({*back}, {*expected})
        for name, array in expected.items():
            self.assertEqual(back[name].tobytes(), array.tobytes(), name)
            self.assertEqual((back[name].dtype, back[name].shape), (array.dtype, array.shape))
        self.assertEndsWith(
            line,
            f"ResNet-18 of width 2, {len(expected)} tensors, for RGB in [0, 1] normalised by mean "
            "[0.5, 0.4, 0.3] and std [0.2, 0.25, 0.3]",
        )

    def test_to_detectron2(self):
        line = self.convert("moco.pkl", model="moco", to="detectron2")
        with (self.folder / "moco.pkl").open("rb") as file:
            content = pickle.load(file)["model"]
        self.assertLen(content, len(STATE))
        self.assertAllEqual(content["res5.1.conv2.weight"], STATE["layer4.1.conv2.weight"])
        self.assertIn("PIXEL_MEAN [127.5, 102.0, 76.5], MODEL.PIXEL_STD [51.0, 63.75, 76.5]", line)

    def test_inside_its_own_input(self):
        with self.assertRaisesRegex(InputError, "lies in the model itself: choose another"):
            self.convert("moco/x.pth", model="moco", to="torch")
        inside = self.model_dir / "x.safetensors"
        safetensors_files.write(inside, {"a": np.zeros([1])})
        self.addCleanup(inside.unlink)
        with self.assertRaisesRegex(InputError, "x.safetensors lies in .*moco: choose another"):
            convert.convert(str(self.model_dir), checkpoint=str(inside))

    @pytest.mark.slow
    def test_without_a_head(self):
        state = numpy_resnet.random_state(width=1, stem="cifar")
        tensors = {**state, "fc.weight": np.zeros([3, 8]), "fc.bias": np.zeros([3])}
        safetensors_files.write(self.folder / "plain.safetensors", tensors)
        with mock.patch.object(logging, "info") as info:
            line = self.convert("plain", checkpoint="plain.safetensors", arch="resnet18")
        messages = [call.args[0] % call.args[1:] for call in info.call_args_list]
        for name in ("fc.weight [3, 8]", "fc.bias [3]"):
            self.assertIn(f"not used: {name}", messages)
        self.assertIn("projection head: none, its one linear layer may be a classifier", line)
        signatures = tf.saved_model.load(str(self.folder / "plain")).signatures
        self.assertEqual({*signatures}, {"serving_default", "serving_uint8", "endpoints"})
        self.assertEqual(saved_model.read_training_state(self.folder / "plain"), {})
        normalized = (self.images - np.float32([0.485, 0.456, 0.406])) / np.float32(
            [0.229, 0.224, 0.225]
        )
        expected = numpy_resnet.forward(state, normalized.transpose(0, 3, 1, 2))["features"]
        features = registry.load_model(self.folder / "plain")(self.images)
        self.assertAllClose(features, expected, rtol=1e-4, atol=1e-5)
        with self.assertRaisesRegex(InputError, "no projection head: leave --head out"):
            self.convert("back.safetensors", model="plain", to="torch", head=True)
        with self.assertRaisesRegex(InputError, "Detectron2's ResNets have the ImageNet stem"):
            self.convert("plain.pkl", model="plain", to="detectron2")

    @pytest.mark.slow
    def test_head_that_pytorch_cannot_have(self):
        """Batch norm's weights come in twos, too."""
        head = heads.make_batch_norm_head("stage4", 16, 8)
        encoder = types.SimpleNamespace(
            backbone=resnet.make_resnet(18, 2), heads={"stage4": head}, levels=("stage4",)
        )
        card = {"image_size": 32}
        saved_model.export(encoder, self.folder / "byol", (0.5,) * 3, (0.2,) * 3, card)
        with self.assertRaisesRegex(InputError, "more than linear layers .* leave --head out"):
            self.convert("byol.safetensors", model="byol", to="torch", head=True)
        self.assertFalse((self.folder / "byol.safetensors").exists())

    @parameterized.parameters(
        ({}, "Give either --checkpoint, from PyTorch, or --model"),
        ({"checkpoint": "moco.pth.tar", "model": "moco"}, "Give either"),
        ({"checkpoint": "moco.pth.tar", "to": "torch"}, "--to goes with --model"),
        ({"model": "moco"}, "--model goes with --to=torch or --to=detectron2"),
        ({"model": "moco", "to": "torch", "arch": "resnet18"}, "--model goes with"),
        ({"checkpoint": "moco.pth.tar", "mean": ["1", "2"]}, "--mean wants three numbers such as"),
        ({"checkpoint": "moco.pth.tar", "std": ["1", "2", "0"]}, "--std wants three numbers"),
        ({"checkpoint": "moco.pth.tar", "std": ["1", "2", "x"]}, "--std wants three numbers"),
        ({"checkpoint": "moco.pth.tar", "arch": "resnet50"}, "of a resnet18 and not of a resnet50"),
        ({"checkpoint": "none.pth"}, "none.pth cannot be read"),
        ({"model": "none", "to": "torch"}, "There is no model"),
        ({"model": "moco", "to": "torch"}, "should end in .pth or .safetensors"),
        ({"model": "moco", "to": "detectron2"}, "should end in .pkl"),
    )
    def test_refuses_and_leaves_nothing(self, options, message):
        before = {*self.folder.iterdir()}
        with self.assertRaisesRegex(InputError, message):
            self.convert("new", **options)
        self.assertEqual({*self.folder.iterdir()}, before)

    def test_never_replaces_what_is_no_saved_model(self):
        precious = self.folder / "precious"
        precious.mkdir(exist_ok=True)
        (precious / "thesis.txt").write_text("all of it")
        with self.assertRaisesRegex(InputError, "precious is there and no SavedModel"):
            self.convert("precious", checkpoint="moco.pth.tar")
        with self.assertRaisesRegex(InputError, "precious is a folder: give --output the name"):
            self.convert("precious", model="moco", to="torch")
        self.assertTrue((precious / "thesis.txt").exists())

    def test_another_saved_model(self):
        images = tf.keras.Input([8, 8, 3])
        maps = tf.keras.layers.Conv2D(2, 3)(images)
        tf.keras.Model(images, maps).save(self.folder / "foreign", save_format="tf")
        with self.assertRaisesRegex(InputError, "foreign is no ResNet of this package"):
            self.convert("foreign.safetensors", model="foreign", to="torch")


if __name__ == "__main__":
    tf.test.main()
