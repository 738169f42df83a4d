"""BrainTrace on BrainState: a custom neuron, trained by BPTT and by the online rules that BrainTrace makes of it.

Its EProp propagates all of a neuron's own state and cuts recurrent weights. With the reset cut too (`stop_gradient`),
and the readout's filter as a state of the neuron, that is e-prop, and has the gradient of Engrax's rule. EProp's own
filter, `kappa_filter_decay`, is not used: it filters traces of the voltage, before the slope of the spike is applied.
"""

from typing import Any

from ..candidate import Candidate, Seen, Trainer, Variant
from ..workload import ADAM, DAMPENING, Arrays, Workload

PP_PROP_DECAY = 0.99  # Of its examples; any takes as long.
WINDOW = 150  # Steps at most, when chunked; longer windows gain little and need more memory.


class BrainTrace(Candidate):
    """BPTT and online rules. E-prop is backpropagated inside windows of all, some or no steps, with traces across."""

    name, package, modules = "braintrace", "braintrace", ("braintrace", "brainstate", "braintools")

    def variants(self) -> list[Variant]:
        # BrainTrace's documentation advises against windows for pp-prop.
        return [
            Variant(),
            *(Variant("eprop", e) for e in ("offline", "chunked", "online")),
            Variant("pp-prop", "online"),
        ]

    def build(self, workload: Workload, arrays: Arrays, variant: Variant) -> Trainer:
        return BrainTraceTrainer(workload, arrays, variant)


def network(w: Workload, arrays: Arrays) -> tuple[Any, Any]:
    """Neurons, with `update` for online rules and `recur` for BPTT, and the readout's weights."""
    import brainstate
    import braintools
    import jax
    import jax.numpy as jnp
    from braintrace.nn import Linear

    surrogate = braintools.surrogate.ReluGrad(alpha=DAMPENING / w.threshold**2, width=w.threshold)
    weights = [jnp.asarray(weight.T) for weight in (arrays.input, arrays.recurrent, arrays.output)]
    linears = [Linear(*weight.shape, w_init=weight, b_init=None) for weight in weights]
    beta = jnp.asarray(arrays.beta)

    class ALIF(brainstate.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.input, self.recurrent = linears[:2]

        def init_state(self, batch_size: int) -> None:
            zero = jnp.zeros((batch_size, w.hidden), beta.dtype)
            # spikes: of the last step by BPTT; online, those before the last step as the readout filters them.
            self.v, self.slow, self.spikes = (brainstate.HiddenState(zero) for _ in range(3))

        def advance(self, current: Any, z: Any, sent: Any) -> None:
            self.slow.value = w.rho * self.slow.value + z
            self.v.value = w.alpha * self.v.value + current + self.recurrent(sent) - w.threshold * sent

        def fire(self) -> Any:
            # Upside down, because braintools' spikes begin at 0 and the workloads' above it.
            return 1 - surrogate(-(self.v.value - w.threshold - beta * self.slow.value))

        def recur(self, current: Any) -> Any:
            self.advance(current, self.spikes.value, self.spikes.value)
            self.spikes.value = self.fire()
            return self.spikes.value

        def update(self, x: Any) -> tuple[Any, Any]:
            # No state may depend on another of the same step: the loss would count the path through both twice.
            z = self.fire()
            self.spikes.value = w.kappa * self.spikes.value + (1 - w.kappa) * z
            self.advance(self.input(x), z, jax.lax.stop_gradient(z))
            z = self.fire()
            return w.kappa * self.spikes.value + (1 - w.kappa) * z, z

    return ALIF(), linears[2]


class BrainTraceTrainer(Trainer):
    """One jitted step, with states and learner made in it, as in BrainTrace's documentation; Adam is Optax's."""

    def __init__(self, w: Workload, arrays: Arrays, variant: Variant) -> None:
        import brainstate
        import braintools
        import braintrace
        import jax.numpy as jnp

        # BrainState sets JAX's precision, whatever it was.
        brainstate.environ.set(precision=8 * arrays.inputs.dtype.itemsize)
        hidden, output = network(w, arrays)
        linears = {"input": hidden.input, "recurrent": hidden.recurrent, "output": output}
        self.weights = {name: linear.weight for name, linear in linears.items()}
        self.batch = jnp.asarray(arrays.inputs), jnp.asarray(arrays.classes)
        optimizer = braintools.optim.Adam(ADAM["learning_rate"], (ADAM["b1"], ADAM["b2"]), eps=ADAM["eps"])
        optimizer.register_trainable_weights(self.weights)
        both: dict[str, Any] = {"has_aux": True, "return_value": True}

        def losses(readout: Any, classes: Any) -> Any:
            classes = jnp.broadcast_to(classes, readout.shape[:-1])
            return braintools.metric.softmax_cross_entropy_with_integer_labels(readout, classes).mean(axis=-1)

        def leak(y: Any, drive: Any) -> Any:
            y = w.kappa * y + (1 - w.kappa) * drive
            return y, y

        def backward(inputs: Any, classes: Any) -> Any:
            def objective() -> Any:
                brainstate.nn.init_all_states(hidden, batch_size=w.batch)
                spikes = brainstate.transform.for_loop(hidden.recur, hidden.input(inputs))
                drive = output(spikes)
                _, readout = brainstate.transform.scan(leak, jnp.zeros_like(drive[0]), drive)
                return losses(readout[-w.window :], classes).mean(), spikes

            return brainstate.transform.grad(objective, self.weights, **both)()

        def online(inputs: Any, classes: Any) -> Any:
            rule = variant.rule.replace("-", "_")
            longest = {"chunked": WINDOW, "offline": w.steps}.get(variant.evaluation)
            options: dict[str, Any] = {"decay_or_rank": PP_PROP_DECAY} if rule == "pp_prop" else {}
            options["vjp_method"] = "multi-step" if longest else "single-step"
            learner: Any = braintrace.compile(hidden, rule, inputs[0], batch_size=w.batch, **options)

            def step_loss(x: Any) -> Any:
                # Readout weights stay outside: a learner gives weights that no state depends on no gradient.
                filtered, z = learner(braintrace.MultiStepData(x) if longest else x)
                return losses(output(filtered), classes), z

            def window(steps: int) -> int | None:
                return max(n for n in range(1, min(longest, steps) + 1) if steps % n == 0) if longest else None

            # Steps without loss only move traces, where there are traces.
            early = 0 if longest == w.steps else w.steps - w.window
            late, mask, seen = inputs[early:], jnp.arange(early, w.steps) >= w.steps - w.window, []
            if early:
                seen.append(learner.etrace_evolve(inputs[:early], chunk_size=window(early), return_outputs=True)[1])
            ask = {"mask": mask.astype(inputs.dtype), "chunk_size": window(len(late)), "loss_output": "scalar", **both}
            grads, loss, z = learner.etrace_grad(late, step_fn=step_loss, weights=self.weights, **ask)
            return grads, loss, jnp.concatenate([s.reshape(-1, *z.shape[-2:]) for s in (*seen, z)])

        gradients = backward if variant.rule == "bptt" else online

        def step(inputs: Any, classes: Any) -> Any:
            grads, loss, _ = gradients(inputs, classes)
            optimizer.update(grads)
            return loss

        self._step, self._look = brainstate.transform.jit(step), brainstate.transform.jit(gradients)

    def step(self) -> float:
        import jax

        loss = self._step(*self.batch)
        jax.block_until_ready((loss, [weight.value for weight in self.weights.values()]))
        return float(loss)

    def look(self) -> Seen:
        import numpy as np

        grads, loss, spikes = self._look(*self.batch)
        return Seen(float(loss), np.asarray(spikes), {name: np.asarray(g["weight"]).T for name, g in grads.items()})
