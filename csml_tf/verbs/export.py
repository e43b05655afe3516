"""Exports an encoder in another format or precision, with a model card.

csml-tf export --model_dir=runs/r50 --output=exports/r50
csml-tf export --model_dir=runs/r50 --output=exports/r50_half --precision=float16
csml-tf export --model_dir=runs/r50 --output=exports/r50_lite --format=tflite
csml-tf export --model_dir=runs/r50 --output=exports/r50_preset --format=preset

A preset opens in timm, KerasHub and torchvision; hub is for TF Hub and Kaggle Models.
--precision=int8 of --format=tflite needs images, --dataset=folder:photos for example.
"""

from absl import flags

from csml_tf import choices

_MODEL_DIR = flags.DEFINE_string(
    "model_dir",
    None,
    "Run directory, SavedModel folder, or id of a published model.",
    required=True,
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder of the export; an older export is replaced.", required=True
)
_FORMAT = flags.DEFINE_enum("format", "saved_model", choices.EXPORTS, "Of what is written.")
_PRECISION = flags.DEFINE_enum(
    "precision", "float32", ["float32", "float16", "int8"], "Of the weights; int8: TFLite only."
)
_DATASET = flags.DEFINE_string(
    "dataset", None, "Images to compare on, and for the scales of int8: TFDS name or folder:DIR."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data sets.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "Pixels; default: as it was trained.")
_LICENCE = flags.DEFINE_string("licence", None, "Of the weights, for the card.")
_TRUST_MODEL = flags.DEFINE_bool(
    "trust_model", False, "Open SavedModels that could run any program: docs/using_encoders.md."
)
_RESULTS = flags.DEFINE_multi_string(
    "results", [], "JSON of csml-tf evaluate on this model, for the card."
)


def main(argv):
    del argv
    from csml_tf import unfinished
    from csml_tf.conversion import preset
    from csml_tf.export import formats

    rows = {**formats.FORMATS, preset.FORMAT.name: preset.FORMAT}
    print(
        formats.export(
            unfinished.find_model(_MODEL_DIR.value, _TRUST_MODEL.value),
            _OUTPUT.value,
            rows[_FORMAT.value],
            _PRECISION.value,
            _DATASET.value,
            _DATA_DIR.value,
            _IMAGE_SIZE.value,
            _LICENCE.value,
            _RESULTS.value,
        )
    )
