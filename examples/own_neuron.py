"""A neuron model of one's own: a unit that forgets faster the stronger its current. It has every rule."""

# --8<-- [start:model]
import jax
import jax.numpy as jnp

import engrax as ex


class Gated(ex.Neuron):
    tau: float = 20.0

    def init_state(self):
        return jnp.zeros(self.size)

    def step(self, state, current):
        leak = self.dt / self.tau * (1 + jnp.tanh(current) ** 2)
        state = state + leak * (current - state)
        return state, jnp.tanh(state)


# --8<-- [end:model]

# --8<-- [start:use]
key = jax.random.key(0)
task = ex.tasks.get("digits")
net = ex.Network(
    populations={"hidden": Gated(64), "readout": ex.neurons.LI(task.output_size)},
    projections=[ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "readout")],
    inputs={"input": task.input_size},
    outputs="readout",
    key=key,
)
trial = task.sample(key, 32)
for rule in (ex.rules.BPTT(), ex.rules.EProp(), ex.rules.EProp(feedback="random", evaluation="online")):
    loss, grads = rule.value_and_grad(net, trial, key)
    size = jnp.linalg.norm(grads.projections["hidden->hidden"].weight)
    print(f"{type(rule).__name__}: loss {loss:.3f}, norm of the recurrent gradient {size:.4f}")
# --8<-- [end:use]
