"""What the zoo knows of one model: its recipe, and where its encoder is if there is one."""

import dataclasses
import re
from typing import Optional

_ID = re.compile(r"[a-z0-9][a-z0-9_]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
ARCHIVE_ENDINGS = (".zip", ".tar.gz")


@dataclasses.dataclass(frozen=True)
class Archive:
    """The published file that holds an encoder: a SavedModel as .zip or .tar.gz.

    Attributes:
        source: an http(s) address, or the name of a file in `csml_tf/zoo/encoders/`, which
            is installed with the package.
        sha256: of the file, 64 hex digits.
        num_bytes: size of the file.
        commit: of this project, that trained it.
        hardware: that trained it, in words.
        hours: of the training.
        licence: of the weights, with that of the images where it bears on them.
        bindings: what the training changed of its recipe, as for `--gin_bindings`.

    Raises:
        ValueError: if one of them cannot be right.
    """

    source: str
    sha256: str
    num_bytes: int
    commit: str
    hardware: str
    hours: float
    licence: str
    bindings: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.source.endswith(ARCHIVE_ENDINGS):
            raise ValueError(f"{self.source} must end in one of {ARCHIVE_ENDINGS}.")
        if not self.is_remote and re.search(r"[/\\]|^\.", self.source):
            raise ValueError(f"{self.source} must be an http(s) address or a plain file name.")
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"{self.source}: sha256 must be 64 hex digits, got {self.sha256!r}.")
        if self.num_bytes <= 0 or self.hours < 0:
            raise ValueError(f"{self.source}: num_bytes must be above 0, hours at least 0.")

    @property
    def is_remote(self):
        """Whether it has to be fetched from the network."""
        return self.source.startswith(("https://", "http://"))

    @property
    def ending(self):
        """The one of `ARCHIVE_ENDINGS` that says how to unpack it."""
        return next(ending for ending in ARCHIVE_ENDINGS if self.source.endswith(ending))


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of the zoo. Its id is that of the recipe: `gin_configs/<id>.gin`.

    Attributes:
        id: lower-case letters, digits and underscores.
        method: of the pretraining, for people; so are the next two.
        network: the encoder's.
        data: what it is trained on.
        published: the paper's own result with its source, or "none".
        archive: `Archive` of the encoder, or None for a recipe that is not trained yet.

    Raises:
        ValueError: if the id could not be the name of a file.
    """

    id: str
    method: str
    network: str
    data: str
    published: str
    archive: Optional[Archive] = None

    def __post_init__(self):
        if not _ID.fullmatch(self.id):
            raise ValueError(f"An id has lower-case letters, digits and _, got {self.id!r}.")
