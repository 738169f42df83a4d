"""The table of every rule on every neuron model, and proof that its checks can fail."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import engrax as ex
from engrax.testing import ConformanceError, check_neuron, check_rule


class Doubled(ex.Neuron):
    """A user's model in ten lines: two state variables, no file of its own in the library."""

    tau: float = 8.0

    def init_state(self):
        return jnp.zeros(self.size), jnp.zeros(self.size)

    def step(self, state, current):
        fast, slow = state
        fast = fast + self.dt / self.tau * (current - fast - slow)
        slow = slow + 0.05 * (fast - slow)
        return (fast, slow), jnp.tanh(fast)


def _per_unit(low, high):
    return ex.trainable(jnp.linspace(low, high, 5), positive=True)


NEURONS = {
    "LIF": lambda: ex.neurons.LIF(5, refractory=2.0),
    "LIF zero": lambda: ex.neurons.LIF(5, reset="zero", tau=_per_unit(8.0, 15.0), threshold=ex.trainable(1.0, True)),
    "LIF leak": lambda: ex.neurons.LIF(5, input_scale="leak", threshold=0.1, surrogate="gaussian"),
    "ALIF": lambda: ex.neurons.ALIF(5, tau_adaptation=50.0, beta=0.3, refractory=3.0),
    "ALIF Yin": lambda: ex.neurons.ALIF(
        5,
        tau=_per_unit(10.0, 20.0),
        threshold=0.1,
        input_scale="leak",
        reset="threshold",
        tau_adaptation=_per_unit(40.0, 60.0),
        beta=ex.trainable(1.8),
        surrogate="multi_gaussian",
    ),
    "CuBaLIF": lambda: ex.neurons.CuBaLIF(5, tau=10.0, tau_synapse=3.0, refractory=2.0),
    "CuBaLIF trained": lambda: ex.neurons.CuBaLIF(
        5,
        tau=ex.trainable(10.0, True),
        tau_synapse=_per_unit(2.0, 6.0),
        threshold=ex.trainable(0.1),
        input_scale="leak",
    ),
    "CuBaLIF zero": lambda: ex.neurons.CuBaLIF(5, tau=_per_unit(8.0, 15.0), tau_synapse=4.0, reset="zero"),
    "AdLIF": lambda: ex.neurons.AdLIF(5, tau_adaptation=_per_unit(40.0, 60.0), gain=ex.trainable(5.0, True)),
    "AdLIF euler": lambda: ex.neurons.AdLIF(5, a=0.2, gain=5.0, integration="euler", refractory=2.0),
    "SiLIF": lambda: ex.neurons.SiLIF(5, pace=ex.trainable(jnp.linspace(0.5, 2.0, 5), "log"), a=0.02),
    "CSiLIF": lambda: ex.neurons.CSiLIF(5, omega=_per_unit(0.05, 0.3)),
    "BRF": lambda: ex.neurons.BRF(5, omega=_per_unit(5.0, 30.0)),
    "RF": lambda: ex.neurons.BRF(5, kind="plain"),
    "BHRF": lambda: ex.neurons.BHRF(5, omega=_per_unit(5.0, 30.0)),
    "Izhikevich": lambda: ex.neurons.Izhikevich(5),
    "LI": lambda: ex.neurons.LI(5),
    "Rate": lambda: ex.neurons.Rate(5, tau=_per_unit(3.0, 9.0)),
    "Rate sigmoid": lambda: ex.neurons.Rate(5, activation="sigmoid"),
    "Rate started": lambda: ex.neurons.Rate(5, initial=ex.trainable(jnp.linspace(-0.3, 0.3, 5))),
    "CTRNN": lambda: ex.neurons.CTRNN(5, tau=_per_unit(3.0, 9.0), initial=0.3),
    "CTRNN started": lambda: ex.neurons.CTRNN(5, initial=ex.trainable(jnp.linspace(0.1, 0.9, 5)), tau=4.0),
    "ForcedCTRNN": lambda: ex.neurons.ForcedCTRNN(5, tau=4.0, forcing=0.4),
    "ForcedCTRNN nudged": lambda: ex.neurons.ForcedCTRNN(5, tau=4.0, kind="nudge", activation="tanh"),
    "Relay": lambda: ex.neurons.Relay(5),
    "Ternary": lambda: ex.neurons.Ternary(5, threshold=_per_unit(0.2, 0.6), surrogate="gaussian"),
    "LSTM": lambda: ex.neurons.LSTM(5, forget_bias=ex.trainable(jnp.ones(5))),
    "LRU": lambda: ex.neurons.LRU(5, tau=ex.trainable(9.0, "log"), omega=ex.trainable(bounds=(0.0, 1.0))),
    "GRU": lambda: ex.neurons.GRU(5, update_bias=ex.trainable(jnp.ones(5))),
    "user": lambda: Doubled(5),
}

_RATES = ex.losses.FiringRate(50.0, 20.0)
RULES = {
    "BPTT": lambda spiking: ex.rules.BPTT(regularizers=_RATES if spiking else ()),
    "BPTT checkpoint": lambda spiking: ex.rules.BPTT(checkpoint=5),
    "e-prop symmetric": lambda spiking: ex.rules.EProp(regularizers=_RATES if spiking else ()),
    "e-prop random": lambda spiking: ex.rules.EProp(feedback="random"),
    "e-prop adaptive": lambda spiking: ex.rules.EProp(feedback="adaptive"),
    "e-prop uniform": lambda spiking: ex.rules.EProp(feedback="uniform"),
    "RFLO": lambda spiking: ex.rules.RFLO(regularizers=_RATES if spiking else ()),
    "BPTT random": lambda spiking: ex.rules.FeedbackBPTT(regularizers=_RATES if spiking else ()),
    "RTRL": lambda spiking: ex.rules.RTRL(regularizers=_RATES if spiking else ()),
    "UORO": lambda spiking: ex.rules.UORO(regularizers=_RATES if spiking else ()),
    "KF-RTRL": lambda spiking: ex.rules.KFRTRL(regularizers=_RATES if spiking else ()),
    "reverse KF-RTRL": lambda spiking: ex.rules.ReverseKFRTRL(),
    "optimal Kronecker": lambda spiking: ex.rules.OptimalKronecker(rank=2),
    "SnAp-1": lambda spiking: ex.rules.SnAp(regularizers=_RATES if spiking else ()),
    "SnAp-2": lambda spiking: ex.rules.SnAp(order=2),
    "sliding BPTT": lambda spiking: ex.rules.SlidingBPTT(horizon=4),
    "FPTT": lambda spiking: ex.rules.FPTT(),
    "OSTL": lambda spiking: ex.rules.OSTL(regularizers=_RATES if spiking else ()),
    "OSTL without H": lambda spiking: ex.rules.OSTL(recurrent=False),
    "OTTT": lambda spiking: ex.rules.OTTT(),
    "KeRNL": lambda spiking: ex.rules.KeRNL(regularizers=_RATES if spiking else ()),
    "DNI": lambda spiking: ex.rules.DNI(regularizers=_RATES if spiking else ()),
    "forward gradient": lambda spiking: ex.rules.ForwardGradient(regularizers=_RATES if spiking else ()),
}

# Daily: every rule on three models, every model on three rules; the whole table, harder models too, runs at night.
_RULES = ("BPTT", "BPTT checkpoint", "e-prop symmetric")
# RFLO is e-prop by random feedback, so that one of them will do; other forms of a rule run at night, too.
_FORMS = ("e-prop random", "e-prop adaptive", "e-prop uniform", "SnAp-2", "OSTL without H")
_DAILY = {(r, n) for r in RULES for n in ("LIF", "ALIF", "Rate") if r not in _FORMS} | {("OTTT", "LI")}
_DAILY |= {(r, n) for r in _RULES for n in ex.neurons.MODELS if n not in ("ALIF", "LIF", "Rate")} | {
    (r, n) for r in ("BPTT", "RTRL") for n in ("Rate started", "CTRNN started")
}
# Outputs before the first step that train: tests/test_continuous.py has the refusals of the others.
_STARTED = ("BPTT", "BPTT checkpoint", "BPTT random", "RTRL", "e-prop symmetric", "e-prop random")
TABLE = [
    pytest.param(r, n, id=f"{r} on {n}", marks=() if (r, n) in _DAILY else pytest.mark.nightly)
    for r in RULES
    for n in NEURONS
    if r != "OTTT" or n in ("LIF", "LI")  # which it says: tests/test_online_family.py
    if n != "CTRNN started" or r in _STARTED
]


@pytest.mark.parametrize("name", NEURONS)
def test_every_model(name):
    check_neuron(NEURONS[name]())


@pytest.mark.nightly
@pytest.mark.parametrize("name", ex.neurons.MODELS)
def test_every_model_by_class(name):
    check_neuron(ex.neurons.MODELS[name])


@pytest.mark.parametrize(("rule", "neuron"), TABLE)
def test_every_rule_on_every_model(rule, neuron):
    with jax.enable_x64(True):
        model = NEURONS[neuron]()
        check_rule(RULES[rule](model.spiking), model)


def test_the_table_is_complete():
    assert {type(make()).__name__ for make in NEURONS.values()} >= set(ex.neurons.MODELS)
    assert {type(make(False)).__name__ for make in RULES.values()} == {
        name for name, rule in ex.rules.RULES.items() if rule.engine == "run"
    }


@pytest.mark.parametrize(
    ("rule", "reference"),
    [
        (ex.rules.EProp(), "full"),
        (ex.rules.BPTT(), "local"),
        (ex.rules.EProp(), ex.rules.BPTT()),
        (ex.rules.EProp(feedback="random"), ex.rules.EProp()),
        (ex.rules.EProp(feedback="uniform"), ex.rules.EProp(feedback="random")),
    ],
    ids=lambda x: x if isinstance(x, str) else f"{type(x).__name__} {getattr(x, 'feedback', '')}",
)
@pytest.mark.parametrize("neuron", ["LIF", pytest.param("Rate", marks=pytest.mark.nightly)])
def test_a_swapped_rule_fails(rule, reference, neuron):
    with pytest.raises(ConformanceError, match="gradient"):
        check_rule(rule, NEURONS[neuron](), reference=reference)


def test_a_silent_network_fails():
    with pytest.raises(ConformanceError, match="silent"):
        check_rule(ex.rules.BPTT(), ex.neurons.LIF(5, threshold=1e6))


class Lazy(ex.rules.BPTT):
    """Returns zeros."""

    def compute(self, net, trial, key):
        loss, gradient = super().compute(net, trial, key)
        return loss, jax.tree.map(jnp.zeros_like, gradient)


class Hasty(ex.rules.BPTT):
    """Uses padding."""

    def compute(self, net, trial, key):
        return super().compute(net, trial.replace(lengths=None), key)


class Drifting(ex.rules.BPTT):
    """Moves without an error."""

    def compute(self, net, trial, key):
        loss, gradient = super().compute(net, trial, key)
        return loss, jax.tree.map(lambda g: g + 1e-3, gradient)


@pytest.mark.parametrize(
    ("rule", "message"),
    [(Lazy(), "zero"), (Hasty(), "padded"), (Drifting(), "without error")],
    ids=["zero", "padding", "drift"],
)
def test_a_broken_rule_fails(rule, message):
    with pytest.raises(ConformanceError, match=message):
        check_rule(rule, ex.neurons.Rate(5), reference=None)


class Mixing(Doubled):
    """Units that see each other."""

    def step(self, state, current):
        return super().step(state, current + jnp.mean(current))


class Liar(Doubled):
    """Another value in the local step."""

    def local_step(self, state, current):
        state, output = self.step(state, current)
        return state, output + 1e-3


class Growing(Doubled):
    """A state that changes its shape."""

    def step(self, state, current):
        (fast, slow), output = super().step(state, current)
        return (fast, slow[None]), output


class Untrue(Doubled):
    """A derivative that is not the function's."""

    def step(self, state, current):
        wrong = jax.lax.stop_gradient(current) + 0.5 * (current - jax.lax.stop_gradient(current))
        return super().step(state, wrong)


class Unlike(ex.neurons.LIF):
    """Resets to zero, which is not one number for all units."""

    def uniform(self):
        return ("voltage",) if self.reset == "zero" else super().uniform()


class Moved(ex.neurons.ALIF):
    """Says that the adaptation moves no other and is moved by none."""

    def uniform(self):
        return ("adaptation",)


class Misnamed(ex.neurons.LIF):
    """Names a variable that it has not."""

    def uniform(self):
        return ("current",)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Mixing, "elementwise"),
        (Liar, "local_step"),
        (Growing, "shape"),
        (Untrue, "finite differences"),
        (Unlike(5, reset="zero"), "alike in all units"),
        (Moved(5), "'voltage' moves it"),
        (Misnamed(5), "must name state variables"),
    ],
    ids=lambda x: getattr(x, "__name__", type(x).__name__ if isinstance(x, ex.neurons.Neuron) else ""),
)
def test_a_broken_model_fails(model, message):
    with pytest.raises(ConformanceError, match=message):
        check_neuron(model)


@pytest.mark.x64
@pytest.mark.nightly
def test_evaluations_agree_for_every_readout_and_loss():
    """Online = offline = chunked where traces take longer forms: unlike or spiking readouts, trial losses."""
    readouts = {
        "unlike decays": lambda: ex.neurons.LI(3, tau=jnp.array([4.0, 8.0, 12.0])),
        "trained decay": lambda: ex.neurons.LI(3, tau=ex.trainable(8.0, positive=True)),
        "spiking": lambda: ex.neurons.ALIF(3, tau=9.0, threshold=0.3, beta=0.2),
    }
    losses = ((None, "values"), ("cross_entropy_mean", "classes"), ("cross_entropy_last", "classes"))
    key = jax.random.key(0)
    steps, batch = 19, 3
    inputs = 2 * jax.random.normal(key, (steps, batch, 4))
    targets = {"values": jax.random.normal(key, (steps, batch, 3)), "classes": jnp.array([0, 2, 1])}
    rates = (
        ex.losses.FiringRate(100.0, 20.0, average="sample"),
        ex.losses.FiringRate(10.0, 20.0, running=True),
    )
    for (name, readout), (loss, kind) in zip(readouts.items(), losses, strict=True):
        net = ex.Network(
            {"hidden": ex.neurons.ALIF(5, threshold=0.5, beta=0.2), "other": NEURONS["LSTM"](), "readout": readout()},
            [
                ex.Dense("input", "hidden", bias=True),
                ex.Dense("hidden", "hidden", autapses=False),
                ex.Dense("hidden", "other"),
                ex.Dense("other", "hidden", delay=3),
                ex.Dense("hidden", "readout"),
                ex.Dense("other", "readout", bias=True),
            ],
            inputs={"input": 4},
            outputs="readout.voltage",
            key=key,
        )
        trial = ex.Trial(inputs, targets[kind], lengths=jnp.array([19, 15, 8]))
        rule = ex.rules.EProp(feedback="random", loss=loss, regularizers=rates)
        value, gradient = rule.value_and_grad(net, trial)
        assert all(jnp.any(g != 0) for g in jax.tree.leaves(gradient)), name
        for evaluation in ("online", "chunked"):
            other = dataclasses.replace(rule, evaluation=evaluation, chunk=5)
            found, also = other.value_and_grad(net, trial)
            assert abs(float(found - value)) < 1e-12
            # Relative to each array's largest entry: small entries are differences of large ones.
            for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(also), strict=True):
                assert jnp.max(jnp.abs(a - b)) <= 1e-10 * jnp.max(jnp.abs(a)), (name, evaluation)
