import numpy as np
from absl.testing import absltest, parameterized

from csml_tf.conversion import torch_layouts
from csml_tf.errors import InputError
from tests.conversion import numpy_resnet

STATE = numpy_resnet.random_state(width=1)
KEYS = numpy_resnet.random_state(width=1, seed=1)
HEAD = numpy_resnet.random_head(8)
KEY_HEAD = numpy_resnet.random_head(8, seed=1)
LINEAR = {"weight": np.ones([5, 8], "float32"), "bias": np.ones([5], "float32")}
BATCH_NORM_HEAD = {"0.weight": np.ones([16, 8]), "1.running_mean": np.ones([16])}
QUEUE = {
    "queue": np.arange(30, dtype="float32").reshape(5, 6),
    "queue_ptr": np.array([4]),
}


def under(prefix, tensors):
    return {prefix + name: array for name, array in tensors.items()}


def numbered(tensors, modules):
    """As the state dict of `nn.Sequential(*resnet.children())`; `modules` are their names."""
    renamed = {}
    for name, array in tensors.items():
        first, _, rest = name.partition(".")
        renamed[f"{modules.index(first)}.{rest}"] = array
    return renamed


TORCHVISION = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
CIFAR_DEMO = ["conv1", "bn1", "relu", "layer1", "layer2", "layer3", "layer4"]
LIGHTLY = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
KUANGLIU = {name.replace("downsample", "shortcut"): array for name, array in STATE.items()}
MOCO = {
    **under("module.encoder_q.", STATE),
    **under("module.encoder_q.fc.", HEAD),
    **under("module.encoder_k.", KEYS),
    **under("module.encoder_k.fc.", KEY_HEAD),
    **under("module.", QUEUE),
}

# Name -> (tensors, parts that are found, prefixes of what is not used).
CASES = {
    "torchvision": (
        {**STATE, **under("fc.", LINEAR)},
        "torchvision, timm",
        "",
        ["fc."],
    ),
    "ours, with its head": ({**STATE, **under("fc.", HEAD)}, "torchvision, timm", "head", []),
    "a published backbone": (STATE, "torchvision, timm", "", []),
    "moco v2": (under("state_dict.", MOCO), "MoCo v1 and v2, CsMl's authors", "head key queue", []),
    "moco v1": (
        {**under("encoder_q.", {**STATE, **under("fc.", LINEAR)}), **QUEUE},
        "MoCo v1 and v2, CsMl's authors",
        "linear queue",
        [],
    ),
    "moco cifar demo": (
        {
            **under("state_dict.encoder_q.net.", numbered(STATE, CIFAR_DEMO)),
            **under("state_dict.encoder_q.net.9.", LINEAR),
            **under("state_dict.encoder_k.net.", numbered(KEYS, CIFAR_DEMO)),
            **under("state_dict.encoder_k.net.9.", LINEAR),
            **under("state_dict.", QUEUE),
        },
        "MoCo's CIFAR-10 demo",
        "linear key queue",
        [],
    ),
    "moco of mmselfsup": (
        {
            **under("state_dict.encoder_q.0.", STATE),
            **under("state_dict.encoder_q.1.mlp.", HEAD),
            **under("state_dict.encoder_k.0.", KEYS),
            **under("state_dict.encoder_k.1.mlp.", KEY_HEAD),
            **under("state_dict.", QUEUE),
        },
        "MoCo of mmselfsup and OpenSelfSup",
        "head key queue",
        [],
    ),
    "mmselfsup's backbone and neck": (
        {**under("backbone.", STATE), **under("neck.mlp.", HEAD)},
        "a ResNet named backbone",
        "",
        ["neck."],
    ),
    "split batch norm": (
        {**STATE, "layer1.0.bn1.aux_bn.0.weight": np.ones([1]), "bn1.aux_bn.0.bias": np.ones([1])},
        "torchvision, timm",
        "",
        ["layer1.0.bn1.aux_bn.", "bn1.aux_bn."],
    ),
    "moco v3": (
        {
            **under("state_dict.module.base_encoder.", STATE),
            **under("state_dict.module.base_encoder.fc.", BATCH_NORM_HEAD),
            **under("state_dict.module.momentum_encoder.", KEYS),
            **under("state_dict.module.predictor.", BATCH_NORM_HEAD),
        },
        "MoCo v3",
        "key",
        ["state_dict.module.base_encoder.fc.", "state_dict.module.predictor."],
    ),
    "dino": (
        {
            **under("student.module.backbone.", KEYS),
            **under("teacher.module.backbone.", STATE),
            **under("teacher.module.head.mlp.", BATCH_NORM_HEAD),
            "dino_loss.center": np.zeros([1, 4]),
        },
        "DINO",
        "",
        ["student.", "teacher.module.head.", "dino_loss."],
    ),
    "barlow twins": (
        {
            **under("model.module.backbone.", STATE),
            **under("model.module.projector.", BATCH_NORM_HEAD),
            "model.module.bn.running_mean": np.zeros([16]),
        },
        "Barlow Twins",
        "",
        ["model.module.projector.", "model.module.bn."],
    ),
    "vicreg": (
        {
            **under("model.module.backbone.", STATE),
            **under("model.module.projector.", BATCH_NORM_HEAD),
        },
        "VICReg or alike",
        "",
        ["model.module.projector."],
    ),
    "simsiam": (
        {
            **under("state_dict.module.encoder.", STATE),
            **under("state_dict.module.encoder.fc.", BATCH_NORM_HEAD),
            **under("state_dict.module.predictor.", BATCH_NORM_HEAD),
        },
        "SimSiam",
        "",
        ["state_dict.module.encoder.fc.", "state_dict.module.predictor."],
    ),
    "swav": (
        {
            **under("module.", STATE),
            **under("module.projection_head.", BATCH_NORM_HEAD),
            "module.prototypes.weight": np.zeros([3, 5]),
        },
        "SwAV",
        "",
        ["module.projection_head.", "module.prototypes."],
    ),
    "pytorch-byol": (
        {
            **under("online_network_state_dict.encoder.", numbered(STATE, TORCHVISION)),
            **under("online_network_state_dict.projetion.net.", BATCH_NORM_HEAD),
            **under("encoder_state_dict.", numbered(STATE, TORCHVISION)),
            **under("target_network_state_dict.encoder.", numbered(KEYS, TORCHVISION)),
        },
        "PyTorch-BYOL",
        "key",
        ["online_network_state_dict.projetion.", "encoder_state_dict."],
    ),
    "byol of bolts": (
        {
            **under("state_dict.online_network.encoder.", STATE),
            **under("state_dict.online_network.projector.model.", BATCH_NORM_HEAD),
            **under("state_dict.target_network.encoder.", KEYS),
        },
        "BYOL of Lightning Bolts",
        "key",
        ["state_dict.online_network.projector."],
    ),
    "lightly": (
        {
            **under("state_dict.backbone.", numbered(STATE, TORCHVISION)),
            **under("state_dict.projection_head.layers.", HEAD),
            **under("state_dict.backbone_momentum.", numbered(KEYS, TORCHVISION)),
            **under("state_dict.projection_head_momentum.layers.", KEY_HEAD),
        },
        "lightly",
        "head key",
        [],
    ),
    "lightly's own resnet": (
        under("backbone.", numbered(KUANGLIU, LIGHTLY)),
        "a ResNet named backbone",
        "",
        [],
    ),
    "another prefix": (
        under("trunk._feature_blocks.", STATE),
        "torchvision, timm under 'trunk._feature_blocks.'",
        "",
        [],
    ),
}


def backbone_of(state):
    return {name: array for name, array in state.items() if not name.startswith("fc.")}


class LayoutTest(parameterized.TestCase):
    def assert_same(self, actual, expected):
        self.assertEqual({*actual}, {*expected})
        for name, array in expected.items():
            np.testing.assert_array_equal(actual[name], array)

    def assert_head(self, actual, expected):
        places = ("0.", "2.") if "0.weight" in expected else ("",)
        self.assertLen(actual, len(places))
        for (weight, bias), place in zip(actual, places):
            np.testing.assert_array_equal(weight, expected[f"{place}weight"])
            np.testing.assert_array_equal(bias, expected[f"{place}bias"])

    @parameterized.named_parameters((name, *case) for name, case in CASES.items())
    def test_finds(self, tensors, layout, parts, unused):
        found = torch_layouts.find(tensors)
        self.assertEqual(found.layout, layout)
        self.assert_same(found.backbone, STATE)
        if "key" in parts:
            self.assert_same(found.key_backbone, KEYS)
        else:
            self.assertIsNone(found.key_backbone)
        if "head" in parts or "linear" in parts:
            self.assert_head(found.head, HEAD if "head" in parts else LINEAR)
            self.assertIsNone(found.head_fault)
        else:
            self.assertIsNone(found.head)
            self.assertNotEmpty(found.head_fault)
        if "key" in parts and found.head:
            self.assert_head(found.key_head, KEY_HEAD if "head" in parts else LINEAR)
        if "queue" in parts:
            np.testing.assert_array_equal(found.queue, QUEUE["queue"].T)
            self.assertEqual(found.cursor, 4)
        else:
            self.assertIsNone(found.queue)
        expected = [name for name in tensors if name.startswith(tuple(unused))]
        self.assertEqual(found.unused, expected)

    def test_a_linear_layer_may_be_wanted_as_the_head(self):
        tensors = {**STATE, **under("fc.", LINEAR)}
        self.assert_head(torch_layouts.find(tensors, take_head=True).head, LINEAR)
        with self.assertRaisesRegex(InputError, "head can be taken, the checkpoint has none"):
            torch_layouts.find(STATE, take_head=True)

    def test_leaves_the_head_and_what_belongs_to_it(self):
        found = torch_layouts.find(MOCO, take_head=False)
        self.assertIsNone(found.head)
        self.assertIsNone(found.key_head)
        self.assertIsNone(found.queue)
        self.assertLen(found.unused, 10)

    def test_a_queue_of_other_keys_is_not_used(self):
        found = torch_layouts.find({**MOCO, "module.queue": np.zeros([4, 6])})
        self.assertIsNone(found.queue)
        self.assertEqual(found.unused, ["module.queue", "module.queue_ptr"])

    @parameterized.parameters("", "backbone.", "encoder.", "module.encoder_q.", "trunk.")
    def test_two_copies_are_told_apart_by_a_prefix(self, root):
        tensors = {
            **under(f"state_dict.{root}", STATE),
            **under(f"state_dict_ema.{root}", KEYS),
        }
        names = [
            f"{copy}.{root}".replace("module.", "") for copy in ("state_dict", "state_dict_ema")
        ]
        with self.assertRaisesRegex(
            InputError,
            f"several ResNets, under {names[0]!r}, {names[1]!r}: .* --prefix={names[1][:-1]} ",
        ):
            torch_layouts.find(tensors)
        for prefix in ("state_dict_ema", "state_dict_ema.", names[1], names[1][:-1]):
            found = torch_layouts.find(tensors, prefix=prefix)
            self.assert_same(found.backbone, KEYS)
            self.assertLen(found.unused, len(STATE))
        found = torch_layouts.find(tensors, prefix="state_dict")
        self.assert_same(found.backbone, STATE)
        with self.assertRaisesRegex(InputError, f"no ResNet under --prefix=ema: .* {names[0]!r}"):
            torch_layouts.find(tensors, prefix="ema")

    def test_a_copy_without_a_prefix_beside_another(self):
        tensors = {**under("ema.", KEYS), **STATE}
        with self.assertRaisesRegex(InputError, "under 'ema.', '': say .* --prefix='' for"):
            torch_layouts.find(tensors)
        for prefix, expected in (("", STATE), ("ema", KEYS)):
            found = torch_layouts.find(tensors, prefix=prefix)
            self.assert_same(found.backbone, expected)
            self.assertEqual(
                found.layout, "torchvision, timm" + (" under 'ema.'" if prefix else "")
            )

    def test_a_prefix_takes_the_student(self):
        tensors, *_ = CASES["dino"]
        found = torch_layouts.find(tensors, prefix="student")
        self.assert_same(found.backbone, KEYS)

    @parameterized.parameters(
        ({"blocks.0.attn.qkv.weight": 0, "cls_token": 0}, "is of a Vision Transformer: only Res"),
        ({"teacher.module.backbone.patch_embed.proj.weight": 0}, "is of a Vision Transformer"),
        ({"encoder.layers.encoder_layer_0.ln_1.weight": 0, "class_token": 0}, "a Vision Trans"),
        ({"layers.0.blocks.0.attn.relative_position_bias_table": 0}, "a Swin Transformer"),
        ({"stages.0.blocks.0.conv_dw.weight": 0}, "a ConvNeXt"),
        ({"features.0.weight": 0, "classifier.1.weight": 0}, "of a VGG or an AlexNet"),
        ({"features.denseblock1.denselayer1.norm1.weight": 0}, "a DenseNet"),
        ({"conv_stem.weight": 0}, "of an EfficientNet"),
        ({"a.weight": 0, "module.a.weight": 0}, "differ in a wrapper such as module. alone"),
        ({"lstm.weight": 0}, r"holds 1 tensors \(lstm.weight, ..\) and no ResNet in a layout"),
        ({}, "holds 0 tensors"),
        (
            {**under("a.", STATE), **under("b.", STATE)},
            "several ResNets, under 'a.', 'b.': say .* --prefix=b for example",
        ),
    )
    def test_refuses(self, tensors, message):
        with self.assertRaisesRegex(InputError, message):
            torch_layouts.find({name: np.asarray(array) for name, array in tensors.items()})


if __name__ == "__main__":
    absltest.main()
