"""A small agent to test with."""

import engrax as ex

HEADS = {"policy": "policy", "value": "value"}


def agent(world, key, hidden=None):
    """A small recurrent network that acts in a world."""
    populations = {
        "hidden": ex.neurons.ALIF(12, tau_adaptation=50.0, beta=0.2, refractory=2.0) if hidden is None else hidden,
        "policy": ex.neurons.LI(world.actions.outputs, tau=5.0),
        "value": ex.neurons.LI(1, tau=8.0),
    }
    ends = [("input", "hidden"), ("hidden", "hidden"), ("hidden", "policy"), ("hidden", "value")]
    projections = [ex.Dense(a, b, autapses=a != b) for a, b in ends]
    return ex.Network(populations, projections, inputs={"input": world.input_size}, outputs=HEADS, key=key)
