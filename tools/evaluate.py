"""Measures how good an encoder is, and says by which protocol.

python tools/evaluate.py --protocol=knn --model=runs/quickstart --dataset=digits --baselines
"""

from absl import flags

from csml_tf import command
from csml_tf.data.sources import catalog
from csml_tf.evaluation import exported
from csml_tf.zoo import registry

_PROTOCOL = flags.DEFINE_enum("protocol", "knn", ["knn"], "How to measure.")
_MODEL = flags.DEFINE_string("model", None, "Run directory or SavedModel folder.", required=True)
_DATASET = flags.DEFINE_string(
    "dataset", None, "TFDS name, folder:DIR or digits; needs labels.", required=True
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data sets.")
_DOWNLOAD = flags.DEFINE_bool("download", False, "Let TFDS download the data set.")
_LAYER = flags.DEFINE_enum("layer", "features", exported.LAYERS, "What to measure.")
_K = flags.DEFINE_integer("k", None, "Neighbors; default 200, or 20 below 10,000 images.")
_TEMPERATURE = flags.DEFINE_float("temperature", 0.1, "Of the votes, exp(cosine / temperature).")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "Pixels; default: as it was trained.")
_BASELINES = flags.DEFINE_bool("baselines", False, "Also untrained weights and raw pixels.")
_JSON = flags.DEFINE_string("json", None, "Also write the result here.")


def main(argv):
    del argv
    directory = registry.find_saved_model(_MODEL.value)
    train, test = (
        catalog.open_source(_DATASET.value, split, _DATA_DIR.value, _DOWNLOAD.value)
        for split in ("train", "test")
    )
    result = exported.knn_result(
        directory,
        train,
        test,
        image_size=_IMAGE_SIZE.value,
        layer=_LAYER.value,
        k=_K.value,
        temperature=_TEMPERATURE.value,
        baselines=_BASELINES.value,
    )
    print(exported.describe(result))
    if _JSON.value:
        exported.save(result, _JSON.value)


if __name__ == "__main__":
    command.run(main)
