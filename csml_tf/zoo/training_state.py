"""What a checkpoint holds beside its encoder for training to go on: key encoder and queue."""

import dataclasses

import numpy as np

from csml_tf.errors import InputError

_KEY = "key_encoder/"
_KEY_HEAD = "key_head/"
_QUEUE = "queue"
_CURSOR = "queue_cursor"


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """The state of the last level of a `CsMl`, without its query encoder.

    Attributes:
        key_layers: {layer name: weights} of the key encoder's backbone; empty without one.
        key_head: weights of its projection head; empty without one.
        queue: [keys, dim] unit vectors, or None.
        cursor: int, the row of the queue that is next.
    """

    key_layers: dict = dataclasses.field(default_factory=dict)
    key_head: list = dataclasses.field(default_factory=list)
    queue: np.ndarray = None
    cursor: int = 0

    def pack(self):
        """-> {name: array}, for `saved_model.export`."""
        arrays = {
            f"{_KEY}{layer}/{place}": weight
            for layer, weights in self.key_layers.items()
            for place, weight in enumerate(weights)
        }
        arrays.update({f"{_KEY_HEAD}{place}": w for place, w in enumerate(self.key_head)})
        if self.queue is not None:
            arrays.update({_QUEUE: self.queue, _CURSOR: np.array(self.cursor, "int64")})
        return arrays

    @classmethod
    def unpack(cls, arrays):
        """The inverse of `pack`.

        Raises:
            InputError: if an array is not what `pack` makes.
        """
        cursor, queue = arrays.get(_CURSOR, np.array(0)), arrays.get(_QUEUE)
        is_queue = queue is None or (queue.ndim == 2 and queue.dtype.kind == "f" and queue.size)
        if not is_queue or cursor.size != 1 or cursor.dtype.kind not in "iu":
            raise InputError(
                "The queue in the model's training_state.npz is none of MoCo's: delete the file to "
                "begin without it."
            )
        key_layers, key_head = {}, []
        for name, array in arrays.items():  # In the order in which they were packed.
            if name.startswith(_KEY):
                key_layers.setdefault(name[len(_KEY) :].split("/")[0], []).append(array)
            elif name.startswith(_KEY_HEAD):
                key_head.append(array)
        return cls(key_layers, key_head, queue, int(cursor.reshape([])))

    def describe(self):
        """What there is, in a few words; "" for nothing."""
        parts = ["the key encoder"] if self.key_layers else []
        parts += ["its head"] if self.key_head else []
        parts += [f"a queue of {len(self.queue)} keys"] if self.queue is not None else []
        return ", ".join(parts)
