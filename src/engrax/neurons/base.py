"""The contract of a neuron model: elementwise dynamics, `step(state, current) -> (state, output)`.

A model in ten lines::

    class Leaky(ex.Neuron):
        tau: float = 20.0

        def init_state(self):
            return jnp.zeros(self.size)

        def step(self, state, current):
            state = state + self.dt / self.tau * (current - state)
            return state, jnp.tanh(state)

and it has every rule. Each unit acts alone: a synapse reaches it only through its own current.
"""

from typing import Any, ClassVar, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._checks import finite
from ..errors import ArgumentError, NetworkError
from ..kernels import Unit
from ..parameter import is_parameter, positive_integer, resolve
from .event_unit import EventUnit

State: TypeAlias = PyTree[Array]


class Neuron(eqx.Module):
    """Base class of neuron models.

    Fields:
        size: number of units (static).
        dt: time step in milliseconds (static). A network sets it to its own.

    Class attributes:
        ports: names of the model's currents. Empty for the usual single current of shape (size,); with names, the
            current has shape (ports, size).
        spiking: whether the output is 0 or 1, so that rates and energy count it as spikes.
        signed: whether it is -1, 0 or 1. Energy counts what is not 0; rates are not regularised.
        loop_times: parameters that `loop` has in alpha, gain, rho and jump alone: native loops know what they do.
    """

    size: int = eqx.field(static=True, converter=positive_integer("size"))
    dt: float = eqx.field(
        static=True, default=1.0, kw_only=True, converter=lambda x: finite("dt", x, 0, exclusive=True)
    )

    ports: ClassVar[tuple[str, ...]] = ()
    spiking: ClassVar[bool] = False
    signed: ClassVar[bool] = False
    loop_times: ClassVar[tuple[str, ...]] = ()

    @property
    def sends_events(self) -> bool:
        """Whether each output is an event or none, so that its derivative is a surrogate."""
        return self.spiking or self.signed

    def __check_init__(self) -> None:
        for field in self.__dataclass_fields__.values():
            if "parameter" not in field.metadata:
                continue
            value = getattr(self, field.name)
            if value is None:
                continue
            shape = (value.raw if is_parameter(value) else value).shape
            if shape not in ((), (self.size,)):
                raise ArgumentError(
                    f"{type(self).__name__}: {field.name} must be a scalar or have one value for each of the "
                    f"{self.size} units, got shape {shape}."
                )
            if is_parameter(value):
                object.__setattr__(self, field.name, value.with_dt(self.dt))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a unit's update at a step, for the energy meter. Default: one a state variable."""
        return sum(jnp.issubdtype(x.dtype, jnp.inexact) for x in jax.tree.leaves(resolve(self).init_state()))

    def init_state(self) -> State:
        """The state before the first step: a pytree of (size,) arrays. The engine adds the batch axis."""
        raise TypeError(f"{type(self).__name__} must define init_state().")

    def init_output(self) -> Float[Array, " size"]:
        """What the outputs were before the first step, as projections with a delay read them. Default: zeros."""
        return jnp.zeros(self.size)

    def derivative(self, state: State, current: Float[Array, "*ports size"]) -> State:
        """What `net.solve` integrates, for models of continuous time: the state's derivative by time, per ms.

        The output is then that of `output(state)`.
        """
        raise TypeError(f"{type(self).__name__} has no derivative: it steps, and `net.solve` cannot integrate it.")

    def output(self, state: State) -> Float[Array, " size"]:
        """The output of a state, for models of continuous time."""
        raise TypeError(f"{type(self).__name__} has no derivative: it steps, and `net.solve` cannot integrate it.")

    def step(self, state: State, current: Float[Array, "*ports size"]) -> tuple[State, Float[Array, " size"]]:
        """One time step.

        Args:
            state: as `init_state` gives it; integer leaves are counters and carry no gradient.
            current: (size,) or, with ports, (ports, size).

        Returns:
            The next state and the output.
        """
        raise TypeError(f"{type(self).__name__} must define step(state, current).")

    def local_step(self, state: State, current: Array) -> tuple[State, Array]:
        """The step as a local rule differentiates it: same values; spiking models hold their own reset constant."""
        return self.step(state, current)

    def uniform(self) -> tuple[str, ...]:
        """State variables that `local_step` moves alike in all units: by one number times each of themselves, and by
        one number times each current, and not by any other variable.

        Their eligibility vectors depend on the presynaptic unit alone, and local rules keep one for all units.
        """
        return ()

    def loop(self) -> Unit | None:
        """The same dynamics as native loops know them (`kernels.Unit`), for models whose state variables are among
        voltage (or rate), adaptation, synaptic and refractory; None: `step` is the only form.

        Where parameters train that `loop_times` does not name, gradients are made by `step`."""
        return None

    def event_unit(self) -> EventUnit:
        """The units between events, in closed form, for `net.run_events`.

        Raises:
            NetworkError: the model has none.
        """
        raise NetworkError(f"{type(self).__name__} has no closed form between events: CuBaLIF and LI have.")

    def with_dt(self, dt: float) -> "Neuron":
        """A copy with another time step (milliseconds), which its parameters are told."""
        copy = object.__new__(type(self))
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            object.__setattr__(copy, name, value.with_dt(float(dt)) if is_parameter(value) else value)
        object.__setattr__(copy, "dt", float(dt))
        return copy


def variable(state: State, name: str) -> Any:
    """The state variable called `name`: an attribute, a dictionary key, or an index written as a number.

    Raises:
        ArgumentError: there is none; the message lists those that exist.
    """
    names = variables(state)
    if name not in names:
        from ..errors import unknown

        raise unknown("state variable", name, names)
    if isinstance(state, dict):
        return state[name]
    if name.isdigit():
        return jax.tree.leaves(state)[int(name)]
    return getattr(state, name)


def variables(state: State) -> tuple[str, ...]:
    """Names of a state's variables: fields, keys, or the numbers of its leaves for plain arrays and tuples."""
    held = jax.tree.leaves(state, is_leaf=lambda x: x is None)
    names = slots(state)
    return tuple(n for n, x in zip(names, held, strict=True) if x is not None) if len(held) == len(names) else names


def slots(state: State) -> tuple[str, ...]:
    """Names as `variables` gives them, and of what this unit does without (None): one for each place in the state."""
    if isinstance(state, dict):
        return tuple(sorted(state))  # as JAX orders its leaves
    fields = getattr(state, "_fields", None) or tuple(getattr(state, "__dataclass_fields__", ()))
    return tuple(fields) or tuple(str(i) for i in range(len(jax.tree.leaves(state))))
