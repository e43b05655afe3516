"""Writes a run's report, one HTML page and its pictures; draws what a recipe trains on.

csml-tf report --model_dir=runs/quickstart --output=reports/quickstart
csml-tf report --model_dir=runs/quickstart --output=reports/quickstart --explorer
csml-tf report --model_dir=runs/quickstart --output=reports/quickstart --queries=holiday.jpg
csml-tf report --model_dir=runs/a --model_dir=runs/b --output=reports/a_and_b
csml-tf report --model_dir=runs/quickstart --output=reports/quickstart --views
csml-tf report --gin_file=r50.gin --dataset=folder:photos --output=reports/r50 --views
csml-tf report --zoo --output=.
csml-tf report --model_dir=runs/quickstart --reference --output=csml_tf/reports
"""

from absl import flags

from csml_tf.errors import InputError

_OUTPUT = flags.DEFINE_string("output", None, "Folder for the report.", required=True)
_MODEL_DIRS = flags.DEFINE_multi_string(
    "model_dir", [], "Run directory; shows its newest epoch. Several are compared on one page."
)
_DATASET = flags.DEFINE_string(
    "dataset", None, "TFDS name, folder:DIR, digits or patches; default: that of the run or recipe."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data sets.")
_IMAGES = flags.DEFINE_bool("images", True, "The parts of the page that need the data set.")
_MAP = flags.DEFINE_bool("map", True, "The map of the features, and the projector's files.")
_EXPLORER = flags.DEFINE_bool(
    "explorer", False, "Also explorer.html: the map of up to 20,000 images, to look through."
)
_QUERIES = flags.DEFINE_string(
    "queries", None, "Image or folder of images: a sheet of them with their nearest."
)
_TRAIN_IMAGES = flags.DEFINE_integer(
    "train_images", 50_000, "Training images to search for what is nearest to unseen ones."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the draws of images, and of the map.")

_VIEWS = flags.DEFINE_bool(
    "views", False, "In place of the page: anchors, their views, neighbors and mixed images."
)
_GIN_FILES = flags.DEFINE_multi_string("gin_file", [], "--views: recipe, in place of a run")
_GIN_BINDINGS = flags.DEFINE_multi_string("gin_bindings", [], "--views: 'IMAGE_SIZE = 96'")
_STEP = flags.DEFINE_integer("step", 1, "--views: whose batch to show, of the epoch.")
_REFERENCE = flags.DEFINE_bool(
    "reference", False, "In place of the page: add the run to the reference runs of the folder."
)
_ZOO = flags.DEFINE_bool(
    "zoo", False, "In place of the page: the tables of the MODEL_ZOO.md in the output folder."
)


def one_run():
    """The run directory, or None where none was given."""
    if len(_MODEL_DIRS.value) > 1:
        raise InputError(
            "Only the page compares runs: give one --model_dir, or leave --views and --reference "
            "away."
        )
    return next(iter(_MODEL_DIRS.value), None)


def write_views():
    from csml_tf import recipes
    from csml_tf.reports import views
    from csml_tf.training import run_directory

    model_dir, gin_files = one_run(), _GIN_FILES.value
    if bool(model_dir) == bool(gin_files) or (model_dir and _GIN_BINDINGS.value):
        raise InputError(
            "Give either --model_dir, a run, or --gin_file, a recipe with its --gin_bindings."
        )
    recipe = recipes.parse(
        [run_directory.find(model_dir).config] if model_dir else gin_files, _GIN_BINDINGS.value
    )
    return views.write(
        *(_OUTPUT.value, recipe, model_dir, _DATASET.value, _DATA_DIR.value, _STEP.value)
    )


def write_page():
    from csml_tf.reports import run_comparison, run_report

    if not _MODEL_DIRS.value or _GIN_FILES.value or _GIN_BINDINGS.value:
        raise InputError(
            "A report is about a run, --model_dir, alone; with --views it can be about a recipe, "
            "--gin_file, too."
        )
    if len(_MODEL_DIRS.value) > 1:
        if any(flag.value for flag in (_DATASET, _DATA_DIR, _EXPLORER, _QUERIES)):
            raise InputError(
                "A page about several runs reads no images: leave --dataset, --data_dir, "
                "--explorer and --queries away."
            )
        return run_comparison.write(_MODEL_DIRS.value, _OUTPUT.value)
    return run_report.write(
        _MODEL_DIRS.value[0],
        _OUTPUT.value,
        _DATASET.value,
        _DATA_DIR.value,
        _IMAGES.value,
        _MAP.value,
        _TRAIN_IMAGES.value,
        _SEED.value,
        _EXPLORER.value,
        _QUERIES.value,
    )


def main(argv):
    del argv
    if _ZOO.value:
        from csml_tf.zoo import table

        print(table.update(_OUTPUT.value))
    elif _REFERENCE.value:
        from csml_tf.reports import reference_runs, run_record

        model_dir = one_run()
        if not model_dir:
            raise InputError("--reference adds a run: give its directory as --model_dir.")
        print(reference_runs.add(run_record.read(model_dir), _OUTPUT.value))
    else:
        print(write_views() if _VIEWS.value else write_page())
