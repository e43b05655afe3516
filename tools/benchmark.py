"""Measures speed and memory; prints one line of JSON.

python tools/benchmark.py step --arch=resnet18 --stem=cifar --res=32 --batch=64 --queue=16384
"""

import json

from absl import flags

from csml_tf import command
from csml_tf.benchmarks import step
from csml_tf.errors import InputError
from csml_tf.models import resnet

_METHOD = flags.DEFINE_enum("method", "csml", step.METHODS, "What trains.")
_ARCH = flags.DEFINE_enum("arch", "resnet50", step.ARCHS, "Network.")
_STEM = flags.DEFINE_enum("stem", "imagenet", resnet.STEMS, "First layers of the network.")
_WIDTH = flags.DEFINE_integer("width", 64, "Channels of the stem.")
_RES = flags.DEFINE_integer("res", 224, "Height and width of a view, pixels.")
_BATCH = flags.DEFINE_integer("batch", 16, "Anchors per step.")
_QUEUE = flags.DEFINE_integer("queue", 65536, "Keys in the queue.")
_STEPS = flags.DEFINE_integer("steps", 5, "Timed steps; the median counts.")
_WARMUP = flags.DEFINE_integer("warmup", 2, "Steps before the timed ones.")


def main(argv):
    if argv[1:] != ["step"]:
        raise InputError("Say what to measure: python tools/benchmark.py step")
    result = step.measure(
        _METHOD.value,
        _ARCH.value,
        _STEM.value,
        _WIDTH.value,
        _RES.value,
        _BATCH.value,
        _QUEUE.value,
        _STEPS.value,
        _WARMUP.value,
    )
    print(json.dumps(result))


if __name__ == "__main__":
    command.run(main, num_arguments=1)
