"""Settings that a recipe leaves open, out of the images, the machine and the time there is.

What is measured: ResNet-18 of width 16 on views of 64 px, batches of 256, a queue of 2,048 and an
average of decay 0.99, for 9,469 photographs on two CPU cores; and that blur costs accuracy at
64 px. What is published: MoCo v2's settings for ImageNet. All between and beyond is our judgement.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from csml_tf import amounts
from csml_tf.errors import InputError

OPEN = "auto"  # What a recipe sets a knob to that is chosen here.
MIN_IMAGES = 20
# What decides the speed; the others follow the number of epochs.
BEFORE_EPOCHS = (
    *("IMAGE_SIZE", "STEM", "DEPTH", "WIDTH"),
    *("GLOBAL_BATCH_SIZE", "BN_GROUPS", "NUM_NEGATIVES", "PRECISION"),
)

_VIEW_SIZES_PX = (224, 160, 128, 96, 64, 32)
_LARGEST_VIEW_PX = {"CPU": 64, "GPU": 224}
_SMALLEST_BLURRED_PX = 128
# An ImageNet stem leaves a quarter of a side: too little of small images.
_SMALLEST_IMAGENET_STEM_PX = 64
_NETWORKS = {"CPU": ((18, 64), (18, 32), (18, 16)), "GPU": ((50, 64), (18, 64))}  # (depth, width)
# Fewer images do not fill a network so large: {(depth, width): images}.
_IMAGES_OF_A_NETWORK = {(50, 64): 100_000, (18, 64): 0, (18, 32): 0, (18, 16): 0}
_IMAGES_OF_A_WIDTH_ON_CPU = {64: 50_000, 32: 1_000, 16: 0}

# Epochs of a run that nobody has set a time for.
_MIN_EPOCHS, _MAX_EPOCHS, _ANCHORS = 100, 500, 1_000_000
_MOST_ANCHORS = {"CPU": 10_000_000, "GPU": 128_000_000}
_HOURS_WHERE_NONE_ARE_GIVEN = {"CPU": 2.0, "GPU": 48.0}  # Of the choice of a network only.
_SHARE_FOR_EPOCHS = 0.92  # Of the time: start, accuracy and export take the rest.

_SMALLEST_BATCH, _LARGEST_BATCH = 16, 256
_STEPS_OF_AN_EPOCH = 10
_IMAGES_OF_A_GROUP = 32
_LARGEST_QUEUE = 65_536
_MEASUREMENTS = 10

# Of a run's length, in steps: what is short has been measured, what is long is MoCo v2's.
_LONG_RUN_STEPS = 250_000
_MEDIUM_RUN_STEPS = 50_000
_AVERAGES_OF_A_RUN = 10  # The key encoder's memory is at most a tenth of the run.

# Seconds of a CPU core for an anchor's two views, and its multiply-adds in a second, by which
# two cores train on 350 anchors a second at width 16 and 64 px, as measured.
_CORE_SECONDS_OF_VIEWS = 0.0045
_CORE_RATE = 32e9
# By MoCo's 53 hours on eight V100 for 200 epochs of ResNet-50 at 224 px; not measured here.
_GPU_RATE = 3e12
_SMALLEST_BFLOAT16_GAIN = 1.2  # Of a convolution alone; of a whole step it is less.
_UNITS_OF_AN_ANCHOR = 4  # MoCo: a key, and a query with its backward pass.
_MULTIPLY_ADDS = {18: 1.82e9, 50: 4.1e9}  # Of a forward pass at width 64, 224 px, ImageNet stem.
_CIFAR_STEM_FACTOR = 15.0  # Neither a stride nor pooling: 0.56e9 at 32 px for ResNet-18.


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known before a run.

    Attributes:
        num_images: to train on.
        short_side_px: the shorter side of the images, median.
        num_cpus: cores of this machine that the process may use.
        num_gpus: 0 for none; a TPU's cores count as GPUs.
        replicas: devices that share a batch.
        anchors_per_sec: speed of the network chosen, as measured; None for an estimate.
        between_epochs_s: seconds between two epochs, for input and checkpoint.
        bfloat16_gain: how many times as fast the CPU computes in bfloat16 as in float32, as
            measured; 1.0 where it has no instructions for that.
    """

    num_images: int
    short_side_px: int
    num_cpus: int
    num_gpus: int = 0
    replicas: int = 1
    anchors_per_sec: float | None = None
    between_epochs_s: float = 1.5
    bfloat16_gain: float = 1.0

    @property
    def device(self) -> str:
        """What trains: "GPU" or "CPU"."""
        return "GPU" if self.num_gpus else "CPU"


@dataclasses.dataclass(frozen=True)
class Choice:
    """The value of a knob, and why."""

    value: Any
    reason: str


def choose(facts: Facts, given: Mapping[str, Any]) -> dict[str, Choice]:
    """A value for every knob that is known here and not given; what depends on a given one follows.

    Args:
        facts: about images and machine.
        given: {knob: value} that somebody else has decided, as `knob_rules` has them; HOURS among
            them is the time that the run may take, and None or its absence says that there is no
            limit.

    Returns:
        {knob: `Choice`}.

    Raises:
        InputError: if there are too few images, or the time is too short for an epoch, as
            measured.

    Example:
        >>> choices = choose(Facts(9_469, 96, num_cpus=2), {"HOURS": 0.5})
        >>> {name: choices[name].value for name in ("WIDTH", "IMAGE_SIZE", "EPOCHS")}
        {'WIDTH': 16, 'IMAGE_SIZE': 64, 'EPOCHS': 58}
    """
    if facts.num_images < MIN_IMAGES:
        raise InputError(
            f"{amounts.count(facts.num_images, 'image')} "
            f"{amounts.are(facts.num_images)} too few to learn from: give at least "
            f"{MIN_IMAGES}, "
            "better thousands, or begin with a trained encoder, --init_from, to use as it is."
        )
    hours = given.get("HOURS")
    choices: dict[str, Choice] = {}

    def value(name):
        return given[name] if name in given else choices[name].value

    def add(name, chosen, reason):
        if name not in given:
            choices[name] = Choice(chosen, reason)

    wanted, wanted_reason = _wanted_epochs(facts)
    depth, width, size = _choose_network(facts, given, hours, wanted)
    add("IMAGE_SIZE", size, _explain_size(facts, size))
    size = value("IMAGE_SIZE")
    small = size < _SMALLEST_IMAGENET_STEM_PX
    add("STEM", "cifar" if small else "imagenet", f"views of {size} px")
    add("DEPTH", depth, f"{amounts.count(facts.num_images, 'image')} on {_describe_device(facts)}")
    for_time = _in_hours(hours) if hours else "no limit of time, see HOURS"
    add("WIDTH", width, f"{amounts.count(facts.num_images, 'image')}, {for_time}")

    add("GLOBAL_BATCH_SIZE", _choose_batch(facts), "at least ten steps an epoch; from 16 to 256")
    batch = value("GLOBAL_BATCH_SIZE")
    groups = _choose_groups(batch, facts.replicas)
    add("BN_GROUPS", groups, f"groups of {batch // groups} images, the nearest to MoCo's 32")
    queue = max(2 * batch, _power_of_two(facts.num_images / 4))
    add(
        "NUM_NEGATIVES",
        min(queue, _LARGEST_QUEUE),
        "a quarter of the images, two batches at least, 65,536 at most",
    )

    add("PRECISION", *_choose_precision(facts))

    if "EPOCHS" not in given:
        epochs, reason = _choose_epochs(facts, hours, wanted, wanted_reason, value)
        add("EPOCHS", epochs, reason)
    epochs = value("EPOCHS")
    steps = epochs * max(1, facts.num_images // batch)
    in_steps = amounts.count(steps, "step")
    add("EMA_DECAY", _choose_decay(steps), in_steps)
    rate = (0.03 if steps >= _LONG_RUN_STEPS else 0.06) * math.sqrt(max(1.0, 256 / batch))
    add("LEARNING_RATE", round(rate, 4), f"{in_steps}, batches of {batch}")
    blurred = size >= _SMALLEST_BLURRED_PX
    add(
        "BLUR_PROBABILITY",
        0.5 if blurred else 0.0,
        f"views of {size} px" if blurred else f"blur costs accuracy in views of {size} px",
    )
    sigma = tuple(round(at_224 * size / 224, 3) for at_224 in (0.1, 2.0))
    add("BLUR_SIGMA_PX", sigma, "in proportion to the view")
    every = max(1, round(epochs / _MEASUREMENTS))
    add("MONITOR_EVERY_EPOCHS", every, f"{_MEASUREMENTS} times a run, or after each epoch")
    return choices


def anchors_per_sec(facts: Facts, depth: int, width: int, size: int, stem: str) -> float:
    """Rough speed of a MoCo step, anchors a second: within a factor of about two on CPUs."""
    multiply_adds = _MULTIPLY_ADDS.get(depth, _MULTIPLY_ADDS[50] * depth / 50)
    multiply_adds *= (width / 64) ** 2 * (size / 224) ** 2
    multiply_adds *= _UNITS_OF_AN_ANCHOR * (_CIFAR_STEM_FACTOR if stem == "cifar" else 1.0)
    views_s = _CORE_SECONDS_OF_VIEWS * max(1.0, size / 64) / facts.num_cpus
    if facts.num_gpus:  # The cores make views while the device trains.
        return 1 / max(views_s, multiply_adds / (_GPU_RATE * facts.num_gpus))
    return 1 / (views_s + multiply_adds / (_CORE_RATE * facts.num_cpus))


def _wanted_epochs(facts):
    """(epochs of a run without a limit of time, why so many)."""
    epochs = min(max(round(_ANCHORS / facts.num_images), _MIN_EPOCHS), _MAX_EPOCHS)
    most = _MOST_ANCHORS[facts.device] * max(1, facts.num_gpus)
    if epochs * facts.num_images <= most:
        return epochs, f"{amounts.count(facts.num_images, 'image')}, no limit of time"
    return max(
        1, most // facts.num_images
    ), f"{amounts.count(most, 'anchor')} are a long run on this device"


def _choose_network(facts, given, hours, wanted):
    """(depth, width, view size) of the largest that can be trained for long enough.

    That is all epochs wanted where they will be done, and half of them where the time decides.
    """
    device = facts.device
    needed = facts.num_images * wanted / (2 if hours else 1)
    seconds = 3600 * (hours or _HOURS_WHERE_NONE_ARE_GIVEN[device]) * _SHARE_FOR_EPOCHS
    largest_px = min(facts.short_side_px, _LARGEST_VIEW_PX[device])
    sizes = [size for size in _VIEW_SIZES_PX if size <= largest_px] or [_VIEW_SIZES_PX[-1]]
    sizes = [size for size in sizes if size >= 64] or sizes[:1]
    chosen = None
    for depth, width in _NETWORKS[device]:
        depth, width = given.get("DEPTH", depth), given.get("WIDTH", width)
        too_large = facts.num_images < (
            _IMAGES_OF_A_NETWORK.get((depth, width), 0)
            if facts.num_gpus
            else _IMAGES_OF_A_WIDTH_ON_CPU.get(width, 0)
        )
        if too_large and not {"DEPTH", "WIDTH"} & set(given):
            continue
        for size in sizes:
            size = given.get("IMAGE_SIZE", size)
            stem = given.get("STEM", "cifar" if size < _SMALLEST_IMAGENET_STEM_PX else "imagenet")
            speed = anchors_per_sec(facts, depth, width, size, stem)
            chosen = depth, width, size
            if seconds * speed >= needed:
                return chosen
    return chosen


def _choose_epochs(facts, hours, wanted, wanted_reason, value):
    if hours is None:
        return wanted, wanted_reason
    speed, how = facts.anchors_per_sec, "measured"
    if speed is None:
        network = (value(name) for name in ("DEPTH", "WIDTH", "IMAGE_SIZE", "STEM"))
        speed, how = anchors_per_sec(facts, *network), "a rough estimate"
    epoch_s = facts.num_images / speed + facts.between_epochs_s
    epochs = int(3600 * hours * _SHARE_FOR_EPOCHS / epoch_s)
    if epochs < 1 and facts.anchors_per_sec is None:
        epochs = 1  # An estimate refuses nobody.
    if epochs < 1:
        needed = epoch_s / (3600 * _SHARE_FOR_EPOCHS)
        raise InputError(
            f"HOURS = {hours:g} is too short for one epoch of "
            f"{amounts.count(facts.num_images, 'image')}, which takes about "
            f"{_in_hours(needed, 2)} at {speed:.0f} images a second: raise HOURS, or give fewer "
            "images."
        )
    return epochs, f"as many as fit into {_in_hours(hours)} at {speed:.0f} images a second ({how})"


def _choose_precision(facts):
    if facts.num_gpus:
        return "float32", "chosen on CPUs only; on a GPU or TPU see docs/scaling.md"
    if facts.bfloat16_gain == 1.0:
        return "float32", "this CPU has no instructions for bfloat16, or none that are quicker"
    measured = f"this CPU convolves in bfloat16 {facts.bfloat16_gain:.1f} times as fast"
    is_worth_it = facts.bfloat16_gain >= _SMALLEST_BFLOAT16_GAIN
    return "mixed_bfloat16" if is_worth_it else "float32", measured


def _choose_batch(facts):
    replicas = facts.replicas
    share = min(_LARGEST_BATCH, facts.num_images / _STEPS_OF_AN_EPOCH) / replicas
    # Statistics of batch norm need two images on a device, better more.
    return replicas * max(_power_of_two(share), -(-_SMALLEST_BATCH // replicas), 2)


def _choose_groups(batch, replicas):
    """Groups of 32 images or little more; of a small batch two, since one tells keys apart."""
    groups = [n for n in range(1, batch + 1) if batch % n == 0 and n % replicas == 0]
    full = [n for n in groups if n > 1 and batch // n >= _IMAGES_OF_A_GROUP]
    several = [n for n in groups if n > 1 and batch // n > 1]
    return max(full) if full else min(several or groups or [1])


def _choose_decay(steps):
    decay = 0.99
    if steps >= _LONG_RUN_STEPS:
        decay = 0.999
    elif steps >= _MEDIUM_RUN_STEPS:
        decay = 0.996
    return round(max(0.5, min(decay, 1 - _AVERAGES_OF_A_RUN / steps)), 4)


def _explain_size(facts, size):
    images = f"images whose shorter side is {facts.short_side_px} px"
    return f"{images}, on {_describe_device(facts)}"


def _describe_device(facts):
    if facts.num_gpus:
        return amounts.count(facts.num_gpus, "GPU")
    return amounts.count(facts.num_cpus, "CPU core")


def _in_hours(hours, digits=6):
    return f"{hours:.{digits}g} hour{'' if hours == 1 else 's'}"


def _power_of_two(number):
    """The largest that is not above a number; 1 at least."""
    return 2 ** max(0, math.floor(math.log2(max(1, number))))
