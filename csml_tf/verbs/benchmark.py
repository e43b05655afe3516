"""Measures speed and memory; prints one line of JSON.

csml-tf benchmark step --arch=resnet18 --stem=cifar --res=32 --batch=64 --queue=16384
csml-tf benchmark pipeline --dataset=folder:photos --res=224 --batch=32
csml-tf benchmark knn --n=50000 --d=512 --k=5
csml-tf benchmark extract --arch=resnet50 --res=224 --batch=32
csml-tf benchmark time_to_accuracy --gin_file=quickstart.gin --dataset=digits --target_knn=0.9
"""

import functools
import json

from absl import flags

from csml_tf import choices
from csml_tf.errors import InputError

NUM_ARGUMENTS = 1  # What is measured.

_METHOD = flags.DEFINE_enum("method", "csml", choices.METHODS, "What trains.")
_RES = flags.DEFINE_integer("res", 224, "Height and width of a view or image, pixels.")
_BATCH = flags.DEFINE_integer("batch", 16, "Anchors per step, or images per call.")
_SEED = flags.DEFINE_integer("seed", 0, "Of what is drawn at random.")

_ARCH = flags.DEFINE_enum("arch", "resnet50", choices.RESNETS, "step, extract: network.")
_STEM = flags.DEFINE_enum(
    "stem", "imagenet", choices.STEMS, "step, extract: first layers of the network."
)
_PRECISION = flags.DEFINE_enum(
    "precision", "float32", choices.COMPUTE_PRECISIONS, "extract: numbers that compute."
)
_WIDTH = flags.DEFINE_integer("width", 64, "step, extract: channels of the stem.")
_QUEUE = flags.DEFINE_integer("queue", 65536, "step: keys in the queue.")
_STEPS = flags.DEFINE_integer("steps", 5, "step, extract: timed steps; the median counts.")
_WARMUP = flags.DEFINE_integer("warmup", 2, "step, extract: steps before the timed ones.")
_PAIRS = flags.DEFINE_bool("pairs", False, "step: batches of pairs, see docs/ablation.md.")

_DATASET = flags.DEFINE_string(
    "dataset",
    "digits",
    "pipeline, time_to_accuracy: TFDS name, folder:DIR, digits or patches; for the latter without "
    "it: the recipe's DATASET.",
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "pipeline, time_to_accuracy: where TFDS keeps its data sets."
)
_AUGMENT_ON = flags.DEFINE_enum(
    "augment_on", "host", choices.AUGMENT_ON, "pipeline: where colours and blur are done."
)
_NO_BLUR = flags.DEFINE_bool("no_blur", False, "pipeline: leave the blur out.")
_WINDOWS = flags.DEFINE_integer("windows", 5, "pipeline: timed windows; the median counts.")
_WINDOW_S = flags.DEFINE_float("window_s", 2.0, "pipeline: shortest window, seconds.")

_N = flags.DEFINE_integer("n", 50000, "knn: rows.")
_D = flags.DEFINE_integer("d", 512, "knn: columns.")
_K = flags.DEFINE_integer("k", 5, "knn: neighbors of a row.")
_GIN_FILES = flags.DEFINE_multi_string(
    "gin_file", [], "time_to_accuracy: recipe, found in gin_configs/ too."
)
_GIN_BINDINGS = flags.DEFINE_multi_string(
    "gin_bindings", [], "time_to_accuracy: override, 'EPOCHS = 10'."
)
_TARGET_KNN = flags.DEFINE_float(
    "target_knn", 0.4, "time_to_accuracy: kNN top-1 at which the training ends, in (0, 1]."
)
_EVERY_EPOCHS = flags.DEFINE_integer(
    "every_epochs", 1, "time_to_accuracy: epochs between two measurements."
)
_APPROXIMATE = flags.DEFINE_bool("approximate", False, "knn: search in an inverted file of FAISS.")
_CLUSTERS = flags.DEFINE_integer(
    "clusters", 0, "knn: around which the rows lie; 0: random directions."
)
_REPEATS = flags.DEFINE_integer("repeats", 3, "knn: timed searches; the median counts.")


def measure_step():
    from csml_tf.benchmarks import step

    return step.measure(
        _METHOD.value,
        _ARCH.value,
        _STEM.value,
        _WIDTH.value,
        _RES.value,
        _BATCH.value,
        _QUEUE.value,
        _STEPS.value,
        _WARMUP.value,
        _PAIRS.value,
    )


def measure_pipeline():
    from csml_tf.benchmarks import pipeline

    return pipeline.measure(
        _DATASET.value,
        _DATA_DIR.value,
        _METHOD.value,
        _RES.value,
        _BATCH.value,
        _AUGMENT_ON.value,
        not _NO_BLUR.value,
        _WINDOWS.value,
        _WINDOW_S.value,
        _SEED.value,
    )


def measure_knn():
    from csml_tf.benchmarks import knn

    return knn.measure(
        *(_N.value, _D.value, _K.value, _REPEATS.value, _SEED.value),
        *(_APPROXIMATE.value, _CLUSTERS.value),
    )


def measure_extract():
    from csml_tf.benchmarks import extract

    return extract.measure(
        _ARCH.value,
        _STEM.value,
        _WIDTH.value,
        _RES.value,
        _BATCH.value,
        _STEPS.value,
        _WARMUP.value,
        _PRECISION.value,
    )


def measure_time_to_accuracy():
    if not _GIN_FILES.value:
        raise InputError("Name what is trained: --gin_file=quickstart.gin.")
    from csml_tf import recipes, runs
    from csml_tf.benchmarks import time_to_accuracy
    from csml_tf.training import strategies

    strategy = strategies.make("auto")  # Must come before any TensorFlow operation.
    every = f"MONITOR_EVERY_EPOCHS = {_EVERY_EPOCHS.value}"
    recipe = recipes.parse(_GIN_FILES.value, [*_GIN_BINDINGS.value, every])
    pretrain = functools.partial(
        runs.pretrain,
        strategy=strategy,
        dataset=_DATASET.value if _DATASET.present else None,
        data_dir=_DATA_DIR.value,
    )
    return time_to_accuracy.measure(recipe, pretrain, _TARGET_KNN.value)


_BENCHMARKS = {
    "step": measure_step,
    "pipeline": measure_pipeline,
    "knn": measure_knn,
    "extract": measure_extract,
    "time_to_accuracy": measure_time_to_accuracy,
}


def main(argv):
    measure = _BENCHMARKS.get(" ".join(argv[1:]))
    if measure is None:
        raise InputError(
            f"Say what to measure, one of {', '.join(_BENCHMARKS)}: "
            "csml-tf benchmark pipeline --dataset=folder:photos."
        )
    print(json.dumps(measure()))
