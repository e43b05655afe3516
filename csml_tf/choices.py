"""What flags and settings choose from: names alone, which wait for no library.

TensorFlow takes seconds to import; `--help` and what is said of a wrong flag need none of it. The
modules that do the work take their lists from here.
"""

# Of --strategy, see `training.strategies.make`.
STRATEGIES = ("auto", "none", "mirrored", "multi_worker", "tpu")
STRATEGIES_OF_ONE_MACHINE = ("auto", "none", "mirrored")

# Outputs of an encoder, see `evaluation.frozen_encoder`.
LAYERS = ("features", "embedding", "stage1", "stage2", "stage3", "stage4")
# In which numbers features are computed, see `evaluation.bfloat16`.
COMPUTE_PRECISIONS = ("float32", "bfloat16")
# See `evaluation.protocols`.
PROTOCOLS = ("knn", "linear", "linear_cached", "retrieval", "semi_supervised")
# Of learning rates, see `evaluation.semi_supervised.fine_tuning`.
SCHEDULES = ("cosine", "step")

# Files of features, see `extraction.files`.
FEATURE_FILES = ("npz", "parquet")
# Of an export, see `export.formats` and `conversion.preset`.
EXPORTS = ("saved_model", "keras", "tflite", "onnx", "hub", "preset")
# Whose files `conversion.convert` writes.
FRAMEWORKS = ("torch", "detectron2")

# See `models.backbones.resnet`.
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
STEMS = ("imagenet", "cifar")
# Where colors, blur and normalization are done, see `data.pipeline`.
AUGMENT_ON = ("host", "device")
# What `benchmarks.step` trains by: CsMl, or a base method alone.
METHODS = ("csml", "moco", "simclr", "byol", "moco_v3", "swav")
