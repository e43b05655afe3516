"""Draws figures of a run, or of what a recipe would train on; writes the zoo's tables.

python tools/report.py --model_dir=runs/quickstart --output=reports/quickstart --views
python tools/report.py --gin_file=r50.gin --dataset=folder:photos --output=reports/r50 --views
python tools/report.py --zoo --output=.
"""

from absl import flags

from csml_tf import command, recipes
from csml_tf.errors import InputError
from csml_tf.reports import zoo_table

_OUTPUT = flags.DEFINE_string("output", None, "Folder for the figures.", required=True)
_VIEWS = flags.DEFINE_bool("views", False, "Anchors, their views, neighbors and mixed images.")
_ZOO = flags.DEFINE_bool("zoo", False, "The tables of the MODEL_ZOO.md in the output folder.")
_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Run directory; shows its newest epoch.")
_GIN_FILES = flags.DEFINE_multi_string("gin_file", [], "Recipe, in place of a run")
_GIN_BINDINGS = flags.DEFINE_multi_string("gin_bindings", [], "Override: 'IMAGE_SIZE = 96'")
_DATASET = flags.DEFINE_string(
    "dataset", None, "TFDS name, folder:DIR or digits; default: that of the run or recipe."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data sets.")
_STEP = flags.DEFINE_integer("step", 1, "Whose batch to show, of the epoch.")


def main(argv):
    del argv
    if _ZOO.value:
        print(zoo_table.update(_OUTPUT.value))
        return
    if not _VIEWS.value:
        raise InputError("Say what to report: --views draws the images that a step trains on.")
    print(
        recipes.views(
            _OUTPUT.value,
            _MODEL_DIR.value,
            _GIN_FILES.value,
            _GIN_BINDINGS.value,
            _DATASET.value,
            _DATA_DIR.value,
            _STEP.value,
        )
    )


if __name__ == "__main__":
    command.run(main)
