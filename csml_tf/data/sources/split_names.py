"""What people call the splits of a data set."""

# In any case; of two names for one split the first is taken.
ROLES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
}
# Images of no class, for pretraining only, where such a folder lies beside others.
UNLABELLED = ("unlabeled", "unlabelled", "unsup")


def find_role(name):
    """The split that a name stands for: "train", "test" or "val"; None for other names."""
    return ROLES.get(name.strip().lower())


def is_unlabelled(name):
    """Whether a folder of this name holds images without a class."""
    return name.strip().lower() in UNLABELLED
