"""Every recipe in gin_configs: complete, buildable, and with the numbers of its paper."""

import inspect
import pathlib

import gin
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf import recipe_files, recipes
from csml_tf.models.backbones import contract
from csml_tf.training import automatic

FOLDER = pathlib.Path(__file__).parents[2] / "gin_configs"
TINY = {"DEPTH": 18, "WIDTH": 2, "IMAGE_SIZE": 32}
# Of the base methods, where the recipe has them.
TINY_BASE = {"NUM_NEGATIVES": 64, "HEAD_HIDDEN_DIM": 8, "EMBEDDING_DIM": 16, "NUM_PROTOTYPES": 9}

SGD = {"TorchSGD.sgd_momentum": 0.9, "pretrain.make_optimizer": "TorchSGD", "pretrain.epochs": 200}
MOCO = {"CrossSamples.query_kinds": ("image",), "CrossSamples.positive_weights": (1.0, 0.0)}
# The authors' released code; the levels are ours.
CSML = {
    "CrossSamples.query_kinds": ("image", "neighbor", "mixed"),
    "CrossSamples.positive_weights": (0.5, 0.5),
    "CrossSamples.neighbor_warmup_epochs": 11,
    "CrossSamples.cutmix_alpha": 2.0,
    "CsMl.level_weights": {"stage3": 1.0, "stage4": 1.0},
    "NeighborRefresh.num_neighbors": 5,
    "NeighborRefresh.every_epochs": 5,
}
# arXiv:2003.04297 and the code of its authors.
MOCO_V2 = {
    **SGD,
    "DATASET": "imagenet2012",
    "pretrain.schedule": "cosine_schedule",
    "pretrain.global_batch_size": 256,
    "pretrain.learning_rate_per_256_images": 0.03,
    "TorchSGD.l2_weight_decay": 1e-4,
    "MoCo.num_negatives": 65536,
    "MoCo.ema_decay": 0.999,
    "MoCo.temperature": 0.2,
    "MultiLevelEncoder.hidden_layers": 1,
    "make_resnet.depth": 50,
    "make_resnet.width": 64,
    "make_resnet.stem": "imagenet",
    "ViewAugmentation.image_size": 224,
    "ViewAugmentation.crop_scale": (0.2, 1.0),
    "ViewAugmentation.crop_ratio": (3 / 4, 4 / 3),
    "ViewAugmentation.brightness": 0.4,
    "ViewAugmentation.contrast": 0.4,
    "ViewAugmentation.saturation": 0.4,
    "ViewAugmentation.hue": 0.1,
    "ViewAugmentation.jitter_probability": 0.8,
    "ViewAugmentation.grayscale_probability": 0.2,
    "ViewAugmentation.blur_probability": 0.5,
    "ViewAugmentation.blur_sigma_px": (0.1, 2.0),
    "ViewAugmentation.flip_probability": 0.5,
    "ViewAugmentation.grayscale_first": False,
    "ViewAugmentation.mean": (0.485, 0.456, 0.406),
    "ViewAugmentation.std": (0.229, 0.224, 0.225),
    "CenterView.image_size": 224,
}
# arXiv:1911.05722 and the code of its authors.
MOCO_V1 = {
    **MOCO_V2,
    "MoCo.temperature": 0.07,
    "MultiLevelEncoder.hidden_layers": 0,
    "pretrain.schedule": "step_schedule",
    "step_schedule.milestones": (0.6, 0.8),
    "step_schedule.factor": 0.1,
    "ViewAugmentation.grayscale_first": True,
    "ViewAugmentation.hue": 0.4,
    "ViewAugmentation.jitter_probability": 1.0,
    "ViewAugmentation.blur_probability": 0.0,
}
# The public CIFAR notebook of MoCo's authors: 0.06 at batch 512 is 0.03 per 256.
CIFAR = {
    **MOCO_V2,
    "DATASET": "cifar10",
    "pretrain.global_batch_size": 512,
    "TorchSGD.l2_weight_decay": 5e-4,
    "MoCo.num_negatives": 4096,
    "MoCo.ema_decay": 0.99,
    "MoCo.temperature": 0.1,
    "MultiLevelEncoder.hidden_layers": 0,
    "make_resnet.depth": 18,
    "make_resnet.stem": "cifar",
    "make_resnet.bn_groups": 8,
    "ViewAugmentation.image_size": 32,
    "ViewAugmentation.crop_scale": (0.08, 1.0),
    "ViewAugmentation.blur_probability": 0.0,
    "ViewAugmentation.mean": (0.4914, 0.4822, 0.4465),
    "ViewAugmentation.std": (0.2023, 0.1994, 0.2010),
    "CenterView.image_size": 32,
    "CenterView.mean": (0.4914, 0.4822, 0.4465),
    "KnnEvaluation.k": 200,
    "KnnEvaluation.temperature": 0.1,
    "KnnMonitor.layer": "embedding",
}
# arXiv:2006.09882, Section 4: 2 x 224 + 6 x 96.
MULTI_CROP = {
    "pretrain.epochs": 800,
    "CrossSamples.num_small_views": 6,
    "ViewAugmentation.crop_scale": (0.14, 1.0),
    "pretrain.small_augmentation": "small/ViewAugmentation()",
    "small/ViewAugmentation.image_size": 96,
    "small/ViewAugmentation.crop_scale": (0.05, 0.14),
}
# CIFAR settings, smaller and shorter: the warm-up is the authors' share of it.
ABLATION = {
    **CIFAR,
    "pretrain.epochs": 20,
    "make_resnet.width": 16,
    "KnnMonitor.layer": "features",
    "KnnMonitor.every_epochs": 1,
}
ABLATION_CSML = {**ABLATION, **CSML, "CrossSamples.neighbor_warmup_epochs": 1}
# Large batches, as the four papers have them.
LARS = {
    **MOCO,
    "DATASET": "imagenet2012",
    "pretrain.global_batch_size": 4096,
    "pretrain.make_optimizer": "Lars",
    "pretrain.schedule": "warmup_cosine_schedule",
    "warmup_cosine_schedule.warmup_epochs": 10,
    "warmup_cosine_schedule.final_share": 0.0,
    "Lars.sgd_momentum": 0.9,
    "Lars.l2_weight_decay": 1e-6,
    "Lars.trust_coefficient": 0.001,
    "pretrain.learning_rate_per_256_images": 0.3,
    "make_resnet.bn_groups": 1,
    "make_batch_norm_head.bn_groups": 1,
    "make_batch_norm_head.hidden_layers": 1,
    "ViewAugmentation.blur_sigma_px": (0.1, 2.0),
    "ViewAugmentation.jitter_probability": 0.8,
    "ViewAugmentation.grayscale_probability": 0.2,
}
STRONG_COLORS = {
    "ViewAugmentation.brightness": 0.8,
    "ViewAugmentation.contrast": 0.8,
    "ViewAugmentation.saturation": 0.8,
    "ViewAugmentation.hue": 0.2,
    "ViewAugmentation.blur_probability": 0.5,
    "ViewAugmentation.solarize_probability": 0.0,
}
# arXiv:2002.05709 and the code of its authors; the hidden layer is as wide as the features.
SIMCLR = {
    **LARS,
    **STRONG_COLORS,
    "CsMl.make_base": "SimCLR",
    "pretrain.epochs": 1000,
    "SimCLR.temperature": 0.1,
    "EMBEDDING_DIM": 128,
    "make_batch_norm_head.hidden_dim": None,
    "make_batch_norm_head.last_batch_norm": "full",
    "ViewAugmentation.crop_scale": (0.08, 1.0),
}
# arXiv:2006.07733, tables 6 and section 3.2 and 3.3.
BYOL_VIEWS = {
    "ViewAugmentation.brightness": 0.4,
    "ViewAugmentation.contrast": 0.4,
    "ViewAugmentation.saturation": 0.2,
    "ViewAugmentation.hue": 0.1,
    "ViewAugmentation.blur_probability": 1.0,
    "ViewAugmentation.solarize_probability": 0.0,
    "pretrain.key_augmentation": "second/ViewAugmentation()",
    "second/ViewAugmentation.blur_probability": 0.1,
    "second/ViewAugmentation.solarize_probability": 0.2,
}
BYOL = {
    **LARS,
    **BYOL_VIEWS,
    "CsMl.make_base": "BYOL",
    "pretrain.epochs": 1000,
    "pretrain.learning_rate_per_256_images": 0.2,
    "Lars.l2_weight_decay": 1.5e-6,
    "BYOL.ema_decay": 0.996,
    "EMBEDDING_DIM": 256,
    "make_batch_norm_head.hidden_dim": 4096,
    "make_batch_norm_head.last_batch_norm": None,
    "ViewAugmentation.crop_scale": (0.08, 1.0),
}
# arXiv:2104.02057 and the setting for 300 epochs in the repository of its authors.
MOCO_V3 = {
    **LARS,
    **BYOL_VIEWS,
    "CsMl.make_base": "MoCoV3",
    "pretrain.epochs": 300,
    "MoCoV3.ema_decay": 0.99,
    "MoCoV3.temperature": 1.0,
    "EMBEDDING_DIM": 256,
    "make_batch_norm_head.hidden_dim": 4096,
    "make_batch_norm_head.last_batch_norm": "plain",
    "make_batch_norm_head.use_bias": False,
    "ViewAugmentation.crop_scale": (0.2, 1.0),
}
# arXiv:2006.09882 and the script for 800 epochs in the repository of its authors.
SWAV = {
    **LARS,
    **STRONG_COLORS,
    **MULTI_CROP,
    "CsMl.make_base": "SwAV",
    "pretrain.epochs": 800,
    "warmup_cosine_schedule.final_share": 0.001,
    "SwAV.num_prototypes": 3000,
    "SwAV.temperature": 0.1,
    "SwAV.epsilon": 0.05,
    "SwAV.sinkhorn_iterations": 3,
    "SwAV.queue_length": 0,
    "SwAV.frozen_epochs": 1,
    "EMBEDDING_DIM": 128,
    "make_batch_norm_head.hidden_dim": 2048,
    "make_batch_norm_head.last_batch_norm": None,
    "make_batch_norm_head.unit_length": True,
}
# lightly's CIFAR-10 benchmark: SGD at 0.06 for a batch of 128; images and colors as above.
SMALL = {
    **{name: each for name, each in CIFAR.items() if not name.startswith(("MoCo.", "Multi"))},
    **MOCO,
    "pretrain.global_batch_size": 128,
    "pretrain.learning_rate_per_256_images": 0.12,
    "make_resnet.bn_groups": 1,
    "KnnMonitor.layer": "features",
}
BASES = {
    "simclr": (
        SIMCLR,
        {**SMALL, "SimCLR.temperature": 0.5, "make_batch_norm_head.last_batch_norm": None},
    ),
    "byol": (BYOL, {**SMALL, "BYOL.ema_decay": 0.99, "make_batch_norm_head.hidden_dim": 1024}),
    "moco_v3": (MOCO_V3, {**SMALL, "make_batch_norm_head.hidden_dim": 1024}),
    "swav": (
        SWAV,
        {**SMALL, "SwAV.num_prototypes": 512, "make_batch_norm_head.hidden_dim": 512},
    ),
}
LAST_LEVEL = {"CsMl.level_weights": {"stage4": 1.0}}
VALUES = {
    "r50.gin": {**MOCO_V2, **CSML},
    "r50_multicrop.gin": {**MOCO_V2, **CSML, **MULTI_CROP},
    "r50_moco_v2.gin": {**MOCO_V2, **MOCO},
    "r50_moco_v1.gin": {**MOCO_V1, **MOCO},
    "r18_cifar10.gin": {**CIFAR, **CSML},
    "r18_cifar10_moco_v2.gin": {**CIFAR, **MOCO},
    "r18_cifar10_levels.gin": {
        **CIFAR,
        **MOCO,
        "pretrain.epochs": 20,
        "KnnMonitor.layer": "features",
    },
    "r18_cifar10_short.gin": {
        **CIFAR,
        **CSML,
        "pretrain.epochs": 20,
        "CrossSamples.pairs": True,
        "CrossSamples.positive_weights": (0.8, 0.2),
        "CrossSamples.neighbor_warmup_epochs": 16,
        "CrossSamples.cutmix_warmup_epochs": 16,
        "NeighborRefresh.every_epochs": 16,
        "KnnMonitor.layer": "features",
    },
    "ablation/moco_v2.gin": {**ABLATION, **MOCO},
    "ablation/moco_v2_long.gin": {**ABLATION, **MOCO, "pretrain.epochs": 55},
    "ablation/levels.gin": {**ABLATION, **MOCO},
    "ablation/neighbors.gin": {
        **ABLATION_CSML,
        **LAST_LEVEL,
        "CrossSamples.query_kinds": ("image", "neighbor"),
    },
    "ablation/cutmix.gin": {
        **ABLATION_CSML,
        **LAST_LEVEL,
        "CrossSamples.query_kinds": ("image", "mixed"),
        "CrossSamples.positive_weights": (1.0, 0.0),
    },
    "ablation/cross_samples.gin": {**ABLATION_CSML, **LAST_LEVEL},
    "ablation/csml.gin": {
        **ABLATION_CSML,
        "CrossSamples.pairs": False,
        "CrossSamples.cutmix_warmup_epochs": 0,
    },
    "ablation/csml_cutmix_waits.gin": {**ABLATION_CSML, "CrossSamples.cutmix_warmup_epochs": 1},
    "ablation/csml_pairs.gin": {**ABLATION_CSML, "CrossSamples.pairs": True},
    "ablation/csml_late.gin": {**ABLATION_CSML, "CrossSamples.neighbor_warmup_epochs": 16},
    "ablation/csml_pairs_late.gin": {
        **ABLATION_CSML,
        "CrossSamples.neighbor_warmup_epochs": 16,
        "CrossSamples.pairs": True,
        "CrossSamples.query_kinds": ("image", "neighbor"),
    },
}
for _base, _values in BASES.items():
    for _name, _own in zip((f"r50_{_base}", f"r18_cifar10_{_base}"), _values):
        VALUES[f"{_name}.gin"] = _own
        VALUES[f"{_name}_csml.gin"] = {**_own, **CSML}
# Photographs at 64 px: equal but for the base method and what it is asked about.
PHOTOGRAPHS = {
    **SMALL,
    "pretrain.epochs": 50,
    "pretrain.global_batch_size": 256,
    "make_resnet.width": 16,
    "make_resnet.stem": "imagenet",
    "ViewAugmentation.image_size": 64,
    "ViewAugmentation.crop_scale": (0.2, 1.0),
    "ViewAugmentation.mean": (0.485, 0.456, 0.406),
    "ViewAugmentation.std": (0.229, 0.224, 0.225),
    "CenterView.image_size": 64,
    "CenterView.mean": (0.485, 0.456, 0.406),
    "KnnEvaluation.k": None,
}
del PHOTOGRAPHS["DATASET"]
PHOTOGRAPHS_CSML = {
    **CSML,
    "CrossSamples.pairs": True,
    "CrossSamples.positive_weights": (0.8, 0.2),
    "CrossSamples.neighbor_warmup_epochs": 40,
    "CrossSamples.cutmix_warmup_epochs": 40,
    "NeighborRefresh.every_epochs": 40,
}
ON_PHOTOGRAPHS = {
    "moco": {
        "pretrain.learning_rate_per_256_images": 0.06,
        "MoCo.num_negatives": 2048,
        "MoCo.ema_decay": 0.99,
        "MoCo.temperature": 0.1,
        "make_resnet.bn_groups": 8,
    },
    "simclr": {"SimCLR.temperature": 0.5, "make_batch_norm_head.last_batch_norm": None},
    "byol": {"BYOL.ema_decay": 0.99},
    "moco_v3": {"MoCoV3.temperature": 0.2},
    "swav": {"SwAV.num_prototypes": 128, "SwAV.queue_length": 0},
}
for _base, _own in ON_PHOTOGRAPHS.items():
    _own = {**PHOTOGRAPHS, **_own}
    VALUES[f"photographs/{_base}.gin"] = _own
    VALUES[f"photographs/{_base}_levels.gin"] = _own
    VALUES[f"photographs/{_base}_csml.gin"] = {**_own, **PHOTOGRAPHS_CSML}
VALUES["photographs/moco_taught.gin"] = {
    **VALUES["photographs/moco_csml.gin"],
    "CrossSamples.query_kinds": ("image", "neighbor"),
    "CrossSamples.positive_weights": (0.5, 0.5),
    "CrossSamples.neighbor_warmup_epochs": 25,
    "CrossSamples.cutmix_warmup_epochs": 25,
    "NeighborRefresh.every_epochs": 25,
}
# What 9,469 images of 96 px get in half an hour on two CPU cores: what has been measured, of 100.
PHOTOS = {
    **MOCO,
    "pretrain.epochs": 58,
    "pretrain.global_batch_size": 256,
    "pretrain.learning_rate_per_256_images": 0.06,
    "TorchSGD.l2_weight_decay": 1e-4,
    "MoCo.num_negatives": 2048,
    "MoCo.ema_decay": 0.99,
    "MoCo.temperature": 0.1,
    "make_resnet.depth": 18,
    "make_resnet.width": 16,
    "make_resnet.stem": "imagenet",
    "make_resnet.bn_groups": 8,
    "ViewAugmentation.image_size": 64,
    "ViewAugmentation.blur_probability": 0.0,
    "CenterView.image_size": 64,
}
VALUES["photos.gin"] = PHOTOS
IMAGENETTE = automatic.Facts(9_469, 96, num_cpus=2)
LAST_HEAD = ("stage4",)
TWO_HEADS = ("stage3", "stage4")
# CsMl has two levels and MoCo one, but these.
HEADS = {
    "r18_cifar10_levels.gin": TWO_HEADS,
    "patches.gin": TWO_HEADS,
    "photos.gin": TWO_HEADS,
    "ablation/levels.gin": TWO_HEADS,
    "ablation/neighbors.gin": LAST_HEAD,
    "ablation/cutmix.gin": LAST_HEAD,
    "ablation/cross_samples.gin": LAST_HEAD,
    **{f"photographs/{base}_levels.gin": TWO_HEADS for base in ON_PHOTOGRAPHS},
}


def parse(name, bindings=()):
    """The recipe, with automatic settings where it leaves any open."""
    recipe = recipes.parse([name], [*bindings, *(["HOURS = 0.5"] if name == "photos.gin" else [])])
    left = {knob for knob, value in recipe.knobs.items() if value == automatic.OPEN}
    if left:
        given = {knob: value for knob, value in recipe.knobs.items() if knob not in left}
        choices = automatic.choose(IMAGENETTE, given)
        recipe.fill({knob: choices[knob].value for knob in left})


def value(name):
    """What a parameter is when the recipe runs: bound, through a knob, or its default."""
    try:
        bound = gin.query_parameter(name if "." in name else f"%{name}")
    except ValueError:
        configurable, parameter = name.split(".")
        makers = {c.__name__: c for c in recipes._CONFIGURABLES}
        return inspect.signature(makers[configurable]).parameters[parameter].default
    reference = str(bound)
    while reference.startswith("%"):
        bound = gin.query_parameter(reference)
        reference = str(bound)
    if reference.endswith("share_of_epochs()"):
        *scope, _ = reference.lstrip("@").split("/")
        share, epochs = (
            value("/".join([*scope[:known], f"share_of_epochs.{name}"]))
            for name, known in (("share", 1), ("epochs", 0))
        )
        return round(share * epochs)
    return reference.lstrip("@") if reference.startswith("@") else bound


class RecipesTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(gin.clear_config)

    def test_all_are_known_here(self):
        self.assertCountEqual(
            recipe_files.list_recipes(), ["patches.gin", "quickstart.gin", *VALUES]
        )

    def test_names_without_folders_differ(self):
        """Runs and what they are compared with are called so."""
        names = [name.rpartition("/")[2] for name in recipe_files.list_recipes()]
        self.assertLen({*names}, len(names))

    @parameterized.parameters(*recipe_files.list_recipes())
    def test_header(self, name):
        header = (FOLDER / name).read_text().partition("\n\n")[0].splitlines()
        self.assertTrue(all(line.startswith("#") for line in header))
        self.assertEndsWith(header[0], ".")
        starts = [line[2:].split("  ")[0].strip() for line in header if line[2:3].strip()]
        self.assertEqual([word for word in starts[1:] if word], ["Paper", "Run", "Cost", "Result"])
        self.assertIn(f"python tools/train.py --gin_file={name}", "\n".join(header))

    def test_keep_colors(self):
        reds = {}
        for more in ([], ["base/keep_colors.gin"]):
            recipes.parse(["photographs/moco.gin", *more])
            view = gin.get_configurable("ViewAugmentation")(image_size=2)
            red = tf.constant(np.broadcast_to([200, 40, 40], [64, 4, 4, 3]), tf.uint8)
            uniforms = tf.random.stateless_uniform([64, view.num_uniforms], [0, 1])
            views = view(red, uniforms).numpy()[:, 0, 0] * view.std + view.mean
            reds[bool(more)] = (views[:, 0] > views[:, 1] + 0.01) & (
                np.abs(views[:, 1] - views[:, 2]) < 1e-5
            )
        self.assertTrue(reds[True].all())
        self.assertLess(reds[False].mean(), 0.7)

    @parameterized.parameters(*VALUES)
    def test_values(self, name):
        parse(name)
        for parameter, expected in VALUES[name].items():
            self.assertEqual(value(parameter), expected, parameter)

    @parameterized.parameters(*recipe_files.list_recipes())
    def test_builds(self, name):
        parse(name)
        knobs = {**TINY, **{knob: size for knob, size in TINY_BASE.items() if has_knob(knob)}}
        parse(name, [f"{knob} = {size}" for knob, size in knobs.items()])
        model = gin.get_configurable("CsMl")(seed=0)
        uses_neighbors = value("CrossSamples.query_kinds") != ("image",)
        self.assertEqual(model.cross_samples.uses_neighbors, uses_neighbors)
        levels = HEADS.get(name, TWO_HEADS if uses_neighbors else LAST_HEAD)
        heads = dict.fromkeys(levels, 16)
        self.assertEqual(model.encoder.head_dims, heads)
        self.assertEqual(
            model.cross_samples.neighbor_warmup_epochs, value("CrossSamples.neighbor_warmup_epochs")
        )
        self.assertEqual(model.encoder.bn_groups, value("make_resnet.bn_groups"))
        for variable in model.base.shared_variables.values():
            self.assertLess(variable.shape.num_elements(), 64 * 16 + 1, variable.name)
        contract.check(model.encoder, model.base.takes_unit_vectors)
        embeddings = model(tf.zeros([8, 32, 32, 3]))
        self.assertEqual({key: v.shape[1] for key, v in embeddings.items()}, heads)


def has_knob(name):
    try:
        gin.query_parameter(f"%{name}")
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    tf.test.main()
