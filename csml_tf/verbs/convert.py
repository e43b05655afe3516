"""Converts PyTorch's checkpoints to SavedModels, and these to PyTorch and Detectron2.

csml-tf convert --checkpoint=moco_v2_800ep_pretrain.pth.tar --arch=resnet50 --output=DIR
csml-tf convert --model=runs/r50 --to=torch --output=r50.pth
csml-tf convert --model=runs/r50 --to=detectron2 --output=r50.pkl
"""

from absl import flags

from csml_tf import choices

_OUTPUT = flags.DEFINE_string("output", None, "SavedModel folder, or file, to write", required=True)
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, ".pth, .pth.tar or .safetensors to read.")
_ARCH = flags.DEFINE_enum(
    "arch", None, choices.RESNETS, "What --checkpoint has to be; default: what it is."
)
_MEAN = flags.DEFINE_list(
    "mean", None, "Of each channel of RGB in [0, 1], for --checkpoint; default: ImageNet's."
)
_STD = flags.DEFINE_list("std", None, "The same for the standard deviation.")
_MODEL = flags.DEFINE_string("model", None, "Run directory or SavedModel folder to read.")
_TO = flags.DEFINE_enum("to", None, choices.FRAMEWORKS, "What to make of --model.")
_HEAD = flags.DEFINE_bool(
    "head", None, "Whether the projection head comes along; default: from PyTorch where it fits."
)

_PREFIX = flags.DEFINE_string(
    "prefix", None, "Of the names in --checkpoint: which of several copies, state_dict_ema."
)
_TRUST_MODEL = flags.DEFINE_bool(
    "trust_model", False, "Open SavedModels that could run any program: docs/using_encoders.md."
)


def main(argv):
    del argv
    from csml_tf import unfinished
    from csml_tf.conversion import convert

    model = _MODEL.value and unfinished.find_model(_MODEL.value, _TRUST_MODEL.value)
    source = {"checkpoint": _CHECKPOINT.value, "model": model, "to": _TO.value}
    images = {"mean": _MEAN.value, "std": _STD.value}
    options = {"arch": _ARCH.value, "head": _HEAD.value, "prefix": _PREFIX.value}
    line = convert.convert(
        _OUTPUT.value, **source, **options, **images, trust_model=_TRUST_MODEL.value
    )
    print(line)
