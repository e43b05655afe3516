import types

from absl.testing import absltest, parameterized

from csml_tf.training import forward_units
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
        ({"cutmix_warmup_epochs": 1}, 2 * 3 + 2),  # In epoch 0.
        # Of half the side, so a quarter of the work.
        ({"num_small_views": 6, **MOCO}, 3 + 1 + 6 * 3 / 4),
    )
    def test_per_image(self, options, expected):
        model = tiny_run.make_model(**options)
        sizes = {name: 8 if name.startswith("small") else 16 for name in model.view_names}
        augmentations = {
            name: types.SimpleNamespace(image_size=size) for name, size in sizes.items()
        }
        self.assertEqual(forward_units.per_image(model, augmentations), expected)


if __name__ == "__main__":
    absltest.main()
