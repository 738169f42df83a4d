"""Engrax itself: every rule, in every evaluation it has."""

import dataclasses
import os
from typing import Any

from ..candidate import Candidate, Seen, Trainer, Variant
from ..workload import ADAM, Arrays, Workload


class Engrax(Candidate):
    """Engrax's rules on the workloads, as `fit` steps them."""

    name, package, modules = "engrax", "engrax", ("engrax",)

    def variants(self) -> list[Variant]:
        from ...kernels import load
        from ...rules import RULES
        from ...rules.influence import Influence

        whole = ["events", "listed", "dense"] if load() else ["dense"]
        # Evaluations in pieces of a sequence make rasters of these.
        paths = {"-": whole, "offline": whole, "chunked": [p for p in whole if p != "listed"], "online": whole[:1]}
        found = []
        for name, rule in RULES.items():
            if issubclass(rule, Influence) or rule.engine != "run":
                continue  # the workloads are too wide for what these carry, and have steps
            has = any(f.name == "evaluation" for f in dataclasses.fields(rule))
            evaluations = ("offline", "chunked", "online") if has else ("-",)
            found += [
                Variant(name.lower(), evaluation, path) for evaluation in evaluations for path in paths[evaluation]
            ]
        return found

    def build(self, workload: Workload, arrays: Arrays, variant: Variant) -> Trainer:
        return EngraxTrainer(workload, arrays, variant)


def _gpu() -> bool:
    """Whether this process computes on a GPU, where kernels are to be asked for."""
    import jax

    return jax.default_backend() == "gpu"


class EngraxTrainer(Trainer):
    """One jitted step, as in `training.block`."""

    def __init__(self, workload: Workload, arrays: Arrays, variant: Variant) -> None:
        if variant.path != "-":
            # Read when JAX traces, in this process, which is the candidate's own.
            os.environ["ENGRAX_EVENTS"] = "off" if variant.path == "dense" else "on" if _gpu() else "auto"
        import equinox as eqx
        import jax
        import jax.numpy as jnp
        import numpy as np
        import optax

        from ...events import Events
        from ...network import Network, trainable_leaves
        from ...neurons.alif import ALIF
        from ...neurons.li import LI
        from ...rules import RULES
        from ...synapses import Dense
        from ...training.block import train_step
        from ...trial import Trial

        w = workload
        neurons = {
            "hidden": ALIF(
                w.hidden, tau=w.tau, threshold=w.threshold, tau_adaptation=w.tau_adaptation, beta=arrays.beta
            ),
            "readout": LI(w.outputs, tau=w.tau_readout),
        }
        projections = [
            Dense("input", "hidden", weight=arrays.input),
            Dense("hidden", "hidden", weight=arrays.recurrent),
            Dense("hidden", "readout", weight=arrays.output),
        ]
        self.net = Network(neurons, projections, inputs={"input": w.inputs}, outputs="readout")
        targets = np.broadcast_to(arrays.classes, (w.steps, w.batch))
        late = np.arange(w.steps) >= w.steps - w.window
        mask = np.broadcast_to(late[:, None], (w.steps, w.batch)).astype(arrays.input.dtype)
        given = Events.of(arrays.inputs) if variant.path == "listed" else jnp.asarray(arrays.inputs)
        self.trial = Trial(given, jnp.asarray(targets), jnp.asarray(mask))
        made = RULES[{name.lower(): name for name in RULES}[variant.rule]]
        options: dict[str, Any] = {} if variant.evaluation == "-" else {"evaluation": variant.evaluation}
        self.rule = made(**options)
        rates = {name: value for name, value in ADAM.items() if name != "learning_rate"}
        optimizer = optax.adam(ADAM["learning_rate"], **rates)
        self.state = optimizer.init(eqx.filter(self.net, trainable_leaves(self.net)))

        keys = jax.random.key(0), jax.random.key(1)

        @eqx.filter_jit
        def step(net: Network, state: Any, trial: Trial) -> Any:
            return train_step(net, state, trial, self.rule, optimizer, keys)

        self._step, self._ready = step, jax.block_until_ready

    def step(self) -> float:
        self.net, self.state, loss = self._ready(self._step(self.net, self.state, self.trial))
        return float(loss)

    def look(self) -> Seen:
        import jax
        import numpy as np

        loss, grads = self.rule.value_and_grad(self.net, self.trial, jax.random.key(0))
        spikes = self.net.run(self.trial.inputs, record=("hidden",)).recorded["hidden"]
        keys = {"input": "input->hidden", "recurrent": "hidden->hidden", "output": "hidden->readout"}
        found = {name: np.asarray(grads.projections[key].weight) for name, key in keys.items()}
        return Seen(float(loss), np.asarray(spikes), found)
