"""Pretrains an encoder as a recipe says; the same command again goes on with the run.

csml-tf train --gin_file=photos.gin --dataset=folder:photos --dry_run
csml-tf train --gin_file=photos.gin --dataset=folder:photos
csml-tf train --gin_file=r18_cifar10.gin --gin_bindings='WIDTH = 16'
"""

from absl import flags

from csml_tf import choices

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Where the run lives; default runs/<recipe>.")
_GIN_FILES = flags.DEFINE_multi_string(
    "gin_file", None, "Recipe, found in gin_configs/ too", required=True
)
_GIN_BINDINGS = flags.DEFINE_multi_string("gin_bindings", [], "Override: 'EPOCHS = 10'")
_DATASET = flags.DEFINE_string(
    "dataset",
    None,
    "TFDS name, folder:DIR, csv:FILE, digits or patches; default: the recipe's DATASET.",
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data sets.")
_DOWNLOAD = flags.DEFINE_bool("download", False, "Let TFDS download the data set.")
_INIT_FROM = flags.DEFINE_string(
    "init_from", None, "Run directory or SavedModel folder whose weights a new run begins with."
)
_TRUST_MODEL = flags.DEFINE_bool(
    "trust_model", False, "Open SavedModels that could run any program: docs/using_encoders.md."
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Only print the plan, with the hours it takes by a few timed steps."
)
_STRATEGY = flags.DEFINE_enum("strategy", "auto", choices.STRATEGIES, "Devices: docs/scaling.md.")
_TPU = flags.DEFINE_string("tpu", None, "Of --strategy=tpu: name or address; default: local.")
_WORKER_TIMEOUT_S = flags.DEFINE_integer(
    "worker_timeout_s", 1800, "Of multi_worker: the longest wait for another worker.", lower_bound=1
)


def main(argv):
    del argv
    from csml_tf import recipes, runs
    from csml_tf.training import strategies

    # Must come before any TensorFlow operation.
    strategy = strategies.make(_STRATEGY.value, _TPU.value, _WORKER_TIMEOUT_S.value)
    recipe = recipes.parse(_GIN_FILES.value, _GIN_BINDINGS.value)
    data = (_DATASET.value, _DATA_DIR.value, _DOWNLOAD.value)
    if _DRY_RUN.value:
        runs.dry_run(
            *(recipe, _MODEL_DIR.value, strategy, *data, _INIT_FROM.value),
            trust_model=_TRUST_MODEL.value,
        )
        print("Nothing was trained or written: leave --dry_run out to begin or go on.")
        return
    directory = runs.pretrain(
        *(recipe, _MODEL_DIR.value, strategy, *data, _INIT_FROM.value),
        trust_model=_TRUST_MODEL.value,
    )
    print(directory.summary())
