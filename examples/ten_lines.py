"""Handwritten digits by e-prop, in ten lines. The README shows the lines between the marks."""

# --8<-- [start:code]
import jax
import optax

import engrax as ex

task = ex.tasks.get("digits")
hidden = ex.neurons.ALIF(100, beta=0.1, refractory=3.0)
populations = {"hidden": hidden, "readout": ex.neurons.LI(task.output_size, input_scale="one")}
projections = [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "readout")]
net = ex.Network(populations, projections, inputs={"input": task.input_size}, outputs="readout", key=jax.random.key(0))
rule = ex.rules.EProp()  # or ex.rules.BPTT(): nothing else changes
run = ex.fit(net, task, rule, optax.adam(5e-3), steps=500)
# --8<-- [end:code]

print(ex.evaluate(run))
