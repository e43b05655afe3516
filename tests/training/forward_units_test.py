import types

from absl.testing import absltest, parameterized

from csml_tf.methods.byol import BYOL
from csml_tf.methods.simclr import SimCLR
from csml_tf.training import forward_units
from tests.methods import made
from tests.training import tiny_run

MOCO = {"query_kinds": ("image",), "positive_weights": (1.0, 0.0)}
NEIGHBORS = {"query_kinds": ("image", "neighbor")}


class ForwardUnitsTest(parameterized.TestCase):
    @parameterized.parameters(
        (MOCO, 3 + 1),
        ({}, 3 * 3 + 2),  # Three queries, two keys.
        (NEIGHBORS, 2 * 3 + 2),
        ({"query_kinds": ("image",)}, 3 + 2),
        ({"pairs": True}, 2 * 3 + 1),
        ({"pairs": True, **NEIGHBORS}, 3 + 1),
        ({"cutmix_warmup_epochs": 8}, 2 * 3 + 2),
        ({"cutmix_warmup_epochs": 7}, 3 * 3 + 2),
        # Of half the side, so a quarter of the work.
        ({"num_small_views": 6, **MOCO}, 3 + 1 + 6 * 3 / 4),
    )
    def test_per_image(self, options, expected):
        self.check(tiny_run.make_model(**options), expected)

    @parameterized.parameters(
        (SimCLR, MOCO, 2 * 3),
        (SimCLR, {}, 5 * 3),  # Image and neighbor in two views each, and their CutMix.
        (SimCLR, {"accumulation_steps": 2, **MOCO}, 2 * (3 + 1)),  # Embedded twice.
        (BYOL, MOCO, 2 * 3 + 2),
        (BYOL, {"accumulation_steps": 2, **MOCO}, 2 * 3 + 2),
        (BYOL, {}, 5 * 3 + 4),
        (BYOL, {"pairs": True}, 3 * 3 + 2),
    )
    def test_other_bases(self, make_base, options, expected):
        model = made.make_csml(tiny_run.make_encoder, make_base=make_base, **options)
        self.check(model, expected)

    def check(self, model, expected):
        sizes = {name: 8 if name.startswith("small") else 16 for name in model.view_names}
        augmentations = {
            name: types.SimpleNamespace(image_size=size) for name, size in sizes.items()
        }
        self.assertEqual(forward_units.per_image(model, augmentations, epoch=7), expected)


if __name__ == "__main__":
    absltest.main()
