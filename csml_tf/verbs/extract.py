"""Writes the features of a folder of images, of any size; repeat the command to go on.

csml-tf extract --model=runs/photos --images=photos --output=features.npz
csml-tf extract --model=runs/photos --images=photos --output=features.parquet
csml-tf extract --model=runs/photos --images=photos --output=features --layer=embedding
"""

from absl import flags

from csml_tf import choices

_MODEL = flags.DEFINE_string(
    "model", None, "Run directory, SavedModel folder, or id of a published model.", required=True
)
_IMAGES = flags.DEFINE_string("images", None, "Folder of images.", required=True)
_OUTPUT = flags.DEFINE_string(
    "output", None, "NAME.npz, NAME.parquet, or a folder for many files.", required=True
)
_FORMAT = flags.DEFINE_enum(
    "format", None, choices.FEATURE_FILES, "Default: that of --output, or npz."
)
_LAYER = flags.DEFINE_enum("layer", "features", choices.LAYERS, "Of the encoder.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "Pixels; default: as it was trained.")
_BATCH = flags.DEFINE_integer("batch", 64, "Images per call of the encoder, over all devices.")
_PART_IMAGES = flags.DEFINE_integer("part_images", 8192, "Images per part, or file of a folder.")
_PRECISION = flags.DEFINE_enum(
    "precision",
    "float32",
    choices.COMPUTE_PRECISIONS,
    "bfloat16: for CPUs with instructions for it; what it changes is printed.",
)
_TRUST_MODEL = flags.DEFINE_bool(
    "trust_model", False, "Open SavedModels that could run any program: docs/using_encoders.md."
)
_STRATEGY = flags.DEFINE_enum("strategy", "auto", choices.STRATEGIES_OF_ONE_MACHINE, "Devices.")


def main(argv):
    del argv
    from csml_tf import unfinished
    from csml_tf.evaluation import frozen_encoder
    from csml_tf.extraction import extract
    from csml_tf.training import strategies

    strategy = strategies.make(_STRATEGY.value)
    model = unfinished.find_model(_MODEL.value, _TRUST_MODEL.value)
    with strategy.scope():
        encoder = frozen_encoder.FrozenEncoder(model, _IMAGE_SIZE.value)
        line = extract.run(
            *(encoder, _IMAGES.value, _OUTPUT.value, _LAYER.value, _FORMAT.value),
            *(_BATCH.value, _PART_IMAGES.value, _PRECISION.value),
        )
    print(line)
