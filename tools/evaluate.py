r"""Measures how good an encoder is, and says by which protocol.

python tools/evaluate.py --protocol=knn --model=runs/quickstart --dataset=digits --baselines
python tools/evaluate.py --protocol=knn --model=runs/quickstart --dataset=digits --k=5 --k=20
python tools/evaluate.py --protocol=retrieval --model=runs/photos --dataset=folder:photos \
    --queries=holiday.jpg

--model, --dataset and --protocol can be given several times: a table compares them in the end.
"""

from absl import flags

from csml_tf import command
from csml_tf.evaluation import comparison, frozen_encoder, protocols
from csml_tf.training import strategies
from csml_tf.zoo import registry

_PROTOCOL = flags.DEFINE_multi_enum("protocol", ["knn"], protocols.NAMES, "How to measure.")
_MODEL = flags.DEFINE_multi_string(
    "model", None, "Run directory or SavedModel folder.", required=True
)
_DATASET = flags.DEFINE_multi_string(
    "dataset", None, "TFDS name, folder:DIR or digits; needs labels.", required=True
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data sets.")
_DOWNLOAD = flags.DEFINE_bool("download", False, "Let TFDS download the data set.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "Pixels; default: as it was trained.")
_STRATEGY = flags.DEFINE_enum("strategy", "auto", ["auto", "none", "mirrored"], "Devices.")
_JSON = flags.DEFINE_string(
    "json", None, "Also write the protocol card here, and as .txt beside; a list if several."
)

# Of single protocols; the others refuse them. Flags that can be given several times make a grid.
_SETTINGS = [
    flags.DEFINE_multi_enum("layer", None, frozen_encoder.LAYERS, "What to measure."),
    flags.DEFINE_multi_integer(
        "k", None, "kNN: neighbors, default 200, or 20 below 10,000 images. Retrieval: 1, 5, 10."
    ),
    flags.DEFINE_multi_float("temperature", None, "Of votes, exp(cosine / it); default 0.1."),
    flags.DEFINE_bool("baselines", None, "Also untrained weights and raw pixels."),
    flags.DEFINE_string(
        "queries", None, "Retrieval: image or folder to look up, no labels needed."
    ),
]


def main(argv):
    del argv
    with strategies.make(_STRATEGY.value).scope():
        comparison.measure(
            [registry.find_saved_model(model) for model in _MODEL.value],
            _DATASET.value,
            _PROTOCOL.value,
            image_size=_IMAGE_SIZE.value,
            data_dir=_DATA_DIR.value,
            download=_DOWNLOAD.value,
            json_path=_JSON.value,
            **{setting.name: setting.value for setting in _SETTINGS},
        )


if __name__ == "__main__":
    command.run(main)
