"""Spyx (Flax NNX): a custom recurrent neuron in its contract of state in, state out, run by `spyx.nn.run`.

Its own surrogates have slope 1 at threshold, so the workloads' comes by `axn.custom`. Its LI adds its input as it is,
so the input is scaled by (1 - kappa). Layers are run one after the other, so that products cover all steps at once.
"""

from typing import Any

from ..candidate import Candidate, Seen, Trainer, Variant
from ..workload import ADAM, DAMPENING, Arrays, Workload


class Spyx(Candidate):
    """Spyx by backpropagation through time, compiled."""

    name, package, modules = "spyx", "spyx", ("spyx", "flax")

    def build(self, workload: Workload, arrays: Arrays, variant: Variant) -> Trainer:
        return SpyxTrainer(workload, arrays)


def network(w: Workload, arrays: Arrays) -> Any:
    """The workload's network as an NNX module: inputs (time, batch, inputs) to readout and spikes."""
    import jax.numpy as jnp
    import spyx
    from flax import nnx

    def slope(x: Any) -> Any:
        return DAMPENING / w.threshold * jnp.maximum(0, 1 - jnp.abs(x) / w.threshold)

    class RecurrentALIF(nnx.Module):
        """As Spyx's RLIF, with adaptation; it spikes at the step at which it crosses, which none of Spyx's does."""

        def __init__(self) -> None:
            self.recurrent_w = nnx.Param(jnp.asarray(arrays.recurrent.T))
            self.beta = nnx.Variable(jnp.asarray(arrays.beta))
            self.spike = spyx.axn.custom(slope)

        def __call__(self, x: Any, state: Any) -> tuple[Any, Any]:
            v, slow, z = state
            slow = w.rho * slow + z
            v = w.alpha * v + x + z @ self.recurrent_w[...] - w.threshold * z
            z = self.spike(v - w.threshold - self.beta[...] * slow)
            return z, (v, slow, z)

        def initial_state(self, batch_size: int) -> Any:
            zero = jnp.zeros((batch_size, w.hidden), arrays.inputs.dtype)
            return zero, zero, zero

    def dense(weight: Any) -> Any:
        post, pre = weight.shape
        return nnx.Linear(pre, post, use_bias=False, kernel_init=lambda *_: jnp.asarray(weight.T), rngs=nnx.Rngs(0))

    class Net(nnx.Module):
        def __init__(self) -> None:
            self.input, self.hidden, self.output = dense(arrays.input), RecurrentALIF(), dense(arrays.output)
            self.readout = spyx.nn.LI((w.outputs,), beta=w.kappa, rngs=nnx.Rngs(0))

        def __call__(self, inputs: Any) -> tuple[Any, Any]:
            spikes, _ = spyx.nn.run(self.hidden, self.input(inputs))
            readout, _ = spyx.nn.run(self.readout, (1 - w.kappa) * self.output(spikes))
            return readout, spikes

    return Net()


class SpyxTrainer(Trainer):
    """Steps by `spyx.optimize.make_train_step`, the step of Spyx's own `fit`."""

    def __init__(self, workload: Workload, arrays: Arrays) -> None:
        import jax.numpy as jnp
        import optax
        import spyx.optimize
        from flax import nnx

        self.net = network(workload, arrays)
        self.batch = jnp.asarray(arrays.inputs), jnp.asarray(arrays.classes)

        def loss(net: Any, inputs: Any, classes: Any) -> Any:
            late = net(inputs)[0][-workload.window :]
            return optax.softmax_cross_entropy_with_integer_labels(
                late, jnp.broadcast_to(classes, late.shape[:2])
            ).mean()

        # LI's decay is a parameter too; it must stay as it is.
        weights = nnx.All(nnx.Param, nnx.Not(nnx.PathContains("beta")))
        rates = {name: value for name, value in ADAM.items() if name != "learning_rate"}
        self.optimizer = nnx.Optimizer(self.net, optax.adam(ADAM["learning_rate"], **rates), wrt=weights)
        self._loss, self._step = loss, spyx.optimize.make_train_step(loss)

    def step(self) -> float:
        import jax
        from flax import nnx

        loss = self._step(self.net, self.optimizer, *self.batch)
        jax.block_until_ready((loss, nnx.state(self.net)))
        return float(loss)

    def look(self) -> Seen:
        import numpy as np
        from flax import nnx

        loss, grads = nnx.value_and_grad(self._loss)(self.net, *self.batch)
        _, spikes = self.net(self.batch[0])
        found = {
            "input": grads["input"]["kernel"],
            "recurrent": grads["hidden"]["recurrent_w"],
            "output": grads["output"]["kernel"],
        }
        return Seen(float(loss), np.asarray(spikes), {name: np.asarray(g[...]).T for name, g in found.items()})
