"""What two runs are compared by: every tensor of the newest checkpoint, every figure."""

import numpy as np
import tensorflow as tf

from csml_tf.training.run_directory import RunDirectory

# What a clock measures.
CLOCKS = {
    "seconds",
    "mining_seconds",
    "knn_seconds",
    "knn_baselines_seconds",
    "linear_seconds",
    "images_per_sec",
    "input_wait_fraction",
}


def load(directory):
    """Everything in the newest checkpoint, {name: array}."""
    reader = tf.train.load_checkpoint(str(directory / "checkpoints"))
    names = reader.get_variable_to_shape_map()
    values = {name: np.asarray(reader.get_tensor(name)) for name in names}
    values.pop("_CHECKPOINTABLE_OBJECT_GRAPH")
    return {
        name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"): (
            value.astype(bytes) if value.dtype == object else value
        )
        for name, value in values.items()
    }


def figures(directory):
    """The rows of metrics.jsonl without what a clock measures."""
    rows = RunDirectory(directory).read_metrics()
    return [{name: row[name] for name in row.keys() - CLOCKS} for row in rows]
