r"""Measures how good an encoder is, and says by which protocol.

csml-tf evaluate --protocol=knn --model=runs/quickstart --dataset=digits
csml-tf evaluate --protocol=knn --model=runs/quickstart --dataset=digits --k=5 --k=20
csml-tf evaluate --protocol=linear_cached --model=runs/quickstart --dataset=digits
csml-tf evaluate --protocol=linear --model=runs/quickstart --dataset=digits --seeds=3
csml-tf evaluate --protocol=semi_supervised --model=runs/quickstart --dataset=digits \
    --labels=0.1 --from_scratch --self_training --json=card.json
csml-tf evaluate --protocol=retrieval --model=runs/photos --dataset=folder:photos \
    --queries=holiday.jpg

--model, --dataset and --protocol can be given several times: a table compares them in the end.
One of several measurements that fails does not end the others; the exit code is then 2.
"""

from absl import flags

from csml_tf import choices

_PROTOCOL = flags.DEFINE_multi_enum("protocol", ["knn"], choices.PROTOCOLS, "How to measure.")
_MODEL = flags.DEFINE_multi_string(
    "model", None, "Run directory or SavedModel folder.", required=True
)
_DATASET = flags.DEFINE_multi_string(
    "dataset",
    None,
    "TFDS name, folder:DIR, csv:FILE, digits or patches; needs labels.",
    required=True,
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data sets.")
_DOWNLOAD = flags.DEFINE_bool("download", False, "Let TFDS download the data set.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "Pixels; default: as it was trained.")
_STRATEGY = flags.DEFINE_enum("strategy", "auto", choices.STRATEGIES_OF_ONE_MACHINE, "Devices.")
_TRUST_MODEL = flags.DEFINE_bool(
    "trust_model", False, "Open SavedModels that could run any program: docs/using_encoders.md."
)
_JSON = flags.DEFINE_string(
    "json", None, "Also write the protocol card here, and as .txt beside; a list if several."
)

# Of single protocols; the others refuse them. Flags that can be given several times make a grid.
_SETTINGS = [
    flags.DEFINE_multi_enum("layer", None, choices.LAYERS, "What to measure."),
    flags.DEFINE_multi_integer(
        "k", None, "kNN: neighbors, default 200, or 20 below 10,000 images. Retrieval: 1, 5, 10."
    ),
    flags.DEFINE_multi_float("temperature", None, "Of votes, exp(cosine / it); default 0.1."),
    flags.DEFINE_bool(
        "baselines",
        None,
        "Also untrained weights, raw pixels and a color histogram, or --from_scratch; default: of "
        "knn and retrieval.",
    ),
    flags.DEFINE_bool(
        "near_duplicates",
        None,
        "knn and retrieval: find test images that are training images; default yes.",
    ),
    flags.DEFINE_integer(
        "stage_features", None, "Pool a stage to a grid of at most so many numbers; default 1x1."
    ),
    flags.DEFINE_multi_float("learning_rate", None, "Of linear layers; default: a grid to 30."),
    flags.DEFINE_integer(
        "epochs", None, "Default 100; semi_supervised: 20, or as many as make 500 steps."
    ),
    flags.DEFINE_integer("batch_size", None, "Images per step; default 256, semi_supervised 128."),
    flags.DEFINE_integer("seeds", None, "Runs, for mean and spread; default 1, semi_supervised 3."),
    flags.DEFINE_multi_float("l2", None, "Strengths of L2; default: a grid."),
    flags.DEFINE_integer("crops", None, "linear_cached: train on so many random crops an image."),
    flags.DEFINE_float("labels", None, "Share of the labels to use; default all."),
    flags.DEFINE_integer("labels_per_class", None, "Labels of each class to use; default all."),
    flags.DEFINE_string("labels_file", None, "Use the labels listed here; CARD.labels.json."),
    flags.DEFINE_integer("labels_seed", None, "Of the draw of labels; default 0."),
    flags.DEFINE_float(
        "backbone_learning_rate", None, "Default: the best of a grid on held-out labelled images."
    ),
    flags.DEFINE_float("head_learning_rate", None, "The same."),
    flags.DEFINE_enum("schedule", None, choices.SCHEDULES, "Default cosine."),
    flags.DEFINE_float("weight_decay", None, "Default 1e-4."),
    flags.DEFINE_bool("from_scratch", None, "Also the same network from fresh weights."),
    flags.DEFINE_float("scratch_learning_rate", None, "Of --from_scratch; the same."),
    flags.DEFINE_bool("self_training", None, "Also again, with pseudo labels for the rest."),
    flags.DEFINE_float("max_entropy", None, "Of kept pseudo labels, nats."),
    flags.DEFINE_float("kept_share", None, "Of pseudo labels; default 0.5."),
    flags.DEFINE_bool("balance_classes", None, "Keep as many pseudo labels of each class."),
    flags.DEFINE_integer("retrain_epochs", None, "Default 5, or as many steps as before."),
    flags.DEFINE_string(
        "queries", None, "Retrieval: image or folder to look up, no labels needed."
    ),
]


def main(argv):
    del argv
    from csml_tf import unfinished
    from csml_tf.evaluation import comparison
    from csml_tf.training import strategies

    strategy = strategies.make(_STRATEGY.value)
    comparison.measure(
        _MODEL.value,
        _DATASET.value,
        _PROTOCOL.value,
        image_size=_IMAGE_SIZE.value,
        data_dir=_DATA_DIR.value,
        download=_DOWNLOAD.value,
        json_path=_JSON.value,
        find_model=lambda model: unfinished.find_model(model, _TRUST_MODEL.value),
        scope=strategy.scope,
        **{setting.name: setting.value for setting in _SETTINGS},
    )
