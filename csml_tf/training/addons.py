"""Optimizers of tensorflow-addons: LAMB, Lookahead and stochastic weight averaging.

The package is out of maintenance and its optimizers are of Keras' older kind, with other names
for what a run needs: `build`, `variables`, the count of steps. The classes here are of the newer
kind on the outside, so that a checkpoint, a loss scale and replicas meet one kind only.
"""

import contextlib
import importlib
import math
import sys
import warnings
from typing import Callable, Optional

import tensorflow as tf

from csml_tf.errors import InputError

# Biases and the parameters of batch and layer norm; a replica's copy has a longer name.
_NO_DECAY = (r"(^|/)(gamma|beta|bias)[/:]",)


class _FromAddons(tf.keras.optimizers.Optimizer):
    """An optimizer of tensorflow-addons, which keeps this one's steps and learning rate.

    Args:
        name: of the optimizer.
        make_addon: function of no arguments that returns the optimizer of tensorflow-addons.
        **kwargs: as for `tf.keras.optimizers.Optimizer`.
    """

    def __init__(self, name, make_addon, **kwargs):
        super().__init__(name=name, **{"jit_compile": False, **kwargs})
        self._make_addon = make_addon
        self._addon = None

    def build(self, var_list):
        """Makes the slots of all variables."""
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        self._addon = self._make_addon()
        self._addon.iterations = self.iterations
        self._addon._create_all_weights(list(var_list))
        self._built = True

    def update_step(self, gradient, variable):
        """One step of the optimizer of tensorflow-addons for one variable."""
        self._addon._resource_apply_dense(tf.convert_to_tensor(gradient), variable)

    @property
    def variables(self):
        """All that a step changes, each once."""
        held = [] if self._addon is None else self._addon.weights
        return [*{id(each): each for each in [*self._variables, *held]}.values()]


class Lamb(_FromAddons):
    """LAMB, arXiv:1904.00962 algorithm 2: Adam whose steps are scaled layer by layer.

        m = beta_1 * m + (1 - beta_1) * gradient
        v = beta_2 * v + (1 - beta_2) * gradient^2
        update = m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon)
                 + weight_decay * parameter
        parameter -= learning_rate * (|parameter| / |update|) * update

    at step t from 1, with norms over the whole parameter; their ratio is 1 where one of them
    is 0. Biases and the parameters of norm layers do not decay, and their ratio is 1.

    Args:
        learning_rate: float at least 0; may be assigned between steps.
        beta_1: in [0, 1).
        beta_2: in [0, 1).
        epsilon: above 0.
        weight_decay: at least 0.
        name: of the optimizer.
        **kwargs: as for `tf.keras.optimizers.Optimizer`.

    Raises:
        InputError: if tensorflow-addons cannot be imported.
    """

    def __init__(
        self,
        learning_rate: float = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float = 0.01,
        name: str = "Lamb",
        **kwargs,
    ):
        addons = _import_addons("Lamb")

        def make_addon():
            return addons.LAMB(
                lambda: self.learning_rate,
                *(float(value) for value in (beta_1, beta_2, epsilon, weight_decay)),
                exclude_from_weight_decay=list(_NO_DECAY),
            )

        super().__init__(name, make_addon, **kwargs)
        self._learning_rate = self._build_learning_rate(learning_rate)


class _Around(_FromAddons):
    """An optimizer of tensorflow-addons around another one.

    Args:
        make_optimizer: function of no arguments that returns a Keras optimizer.
        name: of the optimizer.
        make_addon: as for `_FromAddons`.
        **kwargs: as for `tf.keras.optimizers.Optimizer`.
    """

    def __init__(self, make_optimizer, name, make_addon, **kwargs):
        super().__init__(name, make_addon, **kwargs)
        inner = make_optimizer()
        self._inner = _Older(inner)
        # One count of steps and one learning rate for both.
        self._variables = []
        self._iterations = inner.iterations
        self._learning_rate = inner._learning_rate


class Lookahead(_Around):
    """Lookahead, arXiv:1907.08610: k steps forward, one step back, around another optimizer.

        every sync_period steps: slow += slow_step_size * (parameter - slow), parameter = slow

    The parameters of the model, which are evaluated and exported, are the fast ones: at the
    end of a run they are up to `sync_period` - 1 steps ahead of the slow ones, and none where
    the steps of the run are a multiple of it.

    Args:
        make_optimizer: function of no arguments that returns a Keras optimizer.
        sync_period: steps, at least 1.
        slow_step_size: in (0, 1].
        name: of the optimizer.
        **kwargs: as for `tf.keras.optimizers.Optimizer`.

    Raises:
        InputError: if tensorflow-addons cannot be imported.
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        make_optimizer: Callable[[], tf.keras.optimizers.Optimizer],
        sync_period: int = 6,
        slow_step_size: float = 0.5,
        name: str = "Lookahead",
        **kwargs,
    ):
        addons = _import_addons("Lookahead")
        if sync_period < 1 or not 0 < slow_step_size <= 1:
            raise ValueError(
                "sync_period must be at least 1 and slow_step_size in (0, 1], got "
                f"{sync_period} and {slow_step_size}."
            )

        def make_addon():
            return addons.Lookahead(self._inner, sync_period, float(slow_step_size))

        super().__init__(make_optimizer, name, make_addon, **kwargs)


class StochasticAverage(_Around):
    """Stochastic weight averaging (SWA), arXiv:1803.05407, around another optimizer.

    From `start_share` of the run on, the parameters are added to a running mean every
    `average_every_steps`. In the last `settle_steps` the parameters are that mean and stand
    still, while batch norm gets its moving statistics for them from the training batches. So
    what a run evaluates and exports in the end is the mean, with statistics of its own; what
    is measured before these steps is of the parameters of the moment.

    Args:
        make_optimizer: function of no arguments that returns a Keras optimizer.
        start_share: of the run's steps before the first snapshot, in [0, 1).
        average_every_steps: between two snapshots; None is an epoch.
        settle_steps: at least 1, fewer than between two snapshots. A statistic that moves by
            a tenth in each step is the mean's to 3e-5 after 100.
        name: of the optimizer.
        **kwargs: as for `tf.keras.optimizers.Optimizer`.

    Raises:
        InputError: if tensorflow-addons cannot be imported.
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        make_optimizer: Callable[[], tf.keras.optimizers.Optimizer],
        start_share: float = 0.75,
        average_every_steps: Optional[int] = None,
        settle_steps: int = 100,
        name: str = "StochasticAverage",
        **kwargs,
    ):
        addons = _import_addons("StochasticAverage")
        if not 0 <= start_share < 1 or settle_steps < 1:
            raise ValueError(
                "start_share must be in [0, 1) and settle_steps at least 1, got "
                f"{start_share} and {settle_steps}."
            )

        def make_addon():
            average = _replicated(addons.SWA)
            return average(self._inner, self._snapshots.start, self._snapshots.step)

        super().__init__(make_optimizer, name, make_addon, **kwargs)
        self._start_share = start_share
        self._average_every_steps = average_every_steps
        self._settle_steps = settle_steps
        self._snapshots = None

    def plan(self, steps_per_epoch: int, epochs: int) -> range:
        """Chooses the steps after which a snapshot is taken; to be called before the first one.

        Args:
            steps_per_epoch: of the run.
            epochs: of the whole run.

        Returns:
            The steps, counted from 0; the last is followed by `settle_steps` others.

        Raises:
            InputError: if the run is too short.
        """
        steps = steps_per_epoch * epochs
        every = self._average_every_steps or steps_per_epoch
        last = steps - self._settle_steps - 1
        count = (last - math.ceil(self._start_share * steps)) // every + 1
        if every <= self._settle_steps or count < 2:
            raise InputError(
                f"StochasticAverage finds no two snapshots {every} steps apart in a run of {steps} "
                f"steps, {self._settle_steps} of which follow the last: settle_steps must be below "
                f"{every}, and start_share {self._start_share} lower or EPOCHS higher."
            )
        self._snapshots = range(last - (count - 1) * every, last + 1, every)
        return self._snapshots

    def build(self, var_list):
        """Makes the slots of all variables.

        Raises:
            InputError: if `plan` has not been called, or a loss scale may leave steps out.
        """
        if self._snapshots is None:
            raise InputError(
                "StochasticAverage does not know how long the run is: call its "
                "plan(steps_per_epoch, epochs) before the first step."
            )
        if getattr(self, "_is_wrapped_by_loss_scale_optimizer", False):
            raise InputError(
                "StochasticAverage cannot follow float16, which leaves steps out: choose "
                'PRECISION = "mixed_bfloat16" or "float32".'
            )
        super().build(var_list)

    def update_step(self, gradient, variable):
        """A step of the inner optimizer; after the last snapshot, to where the mean is."""
        super().update_step(gradient, variable)
        # The next snapshot would come after the end of the run, so the mean stays as it is.
        mean = self._addon.get_slot(variable, "average")
        stands_still = self.iterations >= self._snapshots[-1]
        variable.assign(tf.where(stands_still, mean, variable))


def _replicated(average):
    """The SWA of tensorflow-addons, which gives each replica its own copy of the mean.

    Where a replica updates its copy of a parameter, SWA asks for the mean by that copy and gets
    those of all replicas.
    """

    class Average(average):
        def get_slot(self, var, slot_name):
            slot = super().get_slot(var, slot_name)
            if isinstance(var, tf.distribute.DistributedValues):
                return slot
            copies = tf.distribute.get_strategy().experimental_local_results(slot)
            return next(copy for copy in copies if copy.device == var.device)

    return Average


class _Older(tf.keras.optimizers.legacy.Optimizer):
    """An optimizer of Keras' newer kind as one of the older kind, which addons goes around."""

    def __init__(self, optimizer):
        super().__init__(name=optimizer.name)
        self._newer = optimizer
        self._track_trackable(optimizer, "newer")

    @property
    def weights(self):
        return [*self._newer.variables]

    def _create_slots(self, var_list):
        self._newer.build(var_list)

    def _resource_apply_dense(self, grad, var, apply_state=None):
        self._newer.update_step(grad, var)
        return tf.group()  # What comes next reads the variable, and so after it.

    def get_config(self):
        return {**super().get_config(), "newer": tf.keras.optimizers.serialize(self._newer)}


def _import_addons(wanted):
    """The optimizers of tensorflow-addons; raises `InputError` where they cannot be imported."""
    try:
        with warnings.catch_warnings(), _one_keras():
            warnings.simplefilter("ignore")  # That development has ended.
            import tensorflow_addons.optimizers as addons
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{wanted} comes from tensorflow-addons, which cannot be imported here "
            f"({str(error).splitlines()[0]}) and exists for Python 3.9 to 3.11 with TensorFlow "
            "2.15 only: choose pretrain.make_optimizer = @TorchSGD."
        ) from error
    return addons


@contextlib.contextmanager
def _one_keras():
    """Gives whoever imports `keras` the Keras that TensorFlow uses.

    tensorflow-addons imports two of its modules. Where TensorFlow uses tf_keras, a second Keras
    would take over the names by which configs are read, and exports would hold parts of both.
    """
    if "keras" in sys.modules or not tf.keras.Model.__module__.startswith("tf_keras."):
        yield
        return
    names = ("", ".src", ".src.backend", ".src.engine", ".src.engine.keras_tensor", ".src.utils")
    aliases = {f"keras{name}": importlib.import_module(f"tf_keras{name}") for name in names}
    sys.modules.update(aliases)
    try:
        yield
    finally:
        for name in aliases:
            del sys.modules[name]
