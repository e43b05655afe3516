"""Which batches a model can be trained on."""

from csml_tf import amounts
from csml_tf.errors import InputError
from csml_tf.methods.cross_samples import CrossSamples
from csml_tf.methods.method import Method
from csml_tf.models import split_batch_norm


def check(
    global_batch_size: int,
    base: Method,
    cross_samples: CrossSamples,
    replicas: int,
    accumulation_steps: int,
) -> None:
    """Raises `InputError` if a batch cannot be divided as all parts of the model want it."""
    groups = base.query_encoder.bn_groups
    for parts, reason in (
        (
            replicas * accumulation_steps,
            f"be spread evenly over {replicas} replicas with {accumulation_steps} "
            "accumulation steps each",
        ),
        (
            2 * replicas if cross_samples.pairs else 1,
            f"give each of {amounts.count(replicas, 'replica')} whole pairs",
        ),
        (groups, f"be split into {groups} equal batch norm groups"),
    ):
        if global_batch_size % parts:
            raise InputError(
                f"A batch of {global_batch_size} images cannot {reason}: choose "
                f"GLOBAL_BATCH_SIZE as a multiple of {parts}."
            )
    least = 4 if cross_samples.pairs else 2
    if base.needs_strangers and global_batch_size < least:
        raise InputError(
            f"{type(base).__name__} compares the images of a batch, and {global_batch_size} is "
            f"too few: choose GLOBAL_BATCH_SIZE of at least {least}."
        )
    has_norm = any(split_batch_norm.find_all(head) for head in base.query_encoder.heads.values())
    if has_norm and global_batch_size == groups:
        raise InputError(
            f"{groups} batch norm groups have one image each, which batch norm in the heads "
            "makes all alike: lower BN_GROUPS or raise GLOBAL_BATCH_SIZE."
        )
