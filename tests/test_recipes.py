"""Recipes: those that come with Engrax, what a recipe may say, and that what it may not is named by its path."""

import contextlib
import re
import tomllib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engrax as ex
from engrax.errors import DataError, RecipeError
from engrax.parameter import is_parameter
from engrax.training import recipe as recipes
from engrax.training.build import build

SMALL = ("network.populations.hidden.size=10", "network.populations.hidden.beta=0.1", "training.batch=8")


@pytest.fixture
def mine(tmp_path):
    """A user's own recording."""
    random = np.random.RandomState(0)
    path = tmp_path / "mine.npz"
    np.savez(path, inputs=random.rand(30, 9, 5), targets=random.randint(0, 3, 30))
    return path


@pytest.fixture
def parts(request, mine):
    """Builds a recipe by name; those on recordings need the real data."""

    def make(name, *changes, rule=None):
        if name.startswith(("yin2021/", "fsdd", "latency")):
            request.getfixturevalue("data")
        path = (f"task.path={str(mine)!r}",) if name == "npz" else ()
        return build(recipes.load(name, (*path, *changes), rule))

    return make


def test_the_recipes_that_come_with_engrax():
    speech = {"fsdd", "fsdd_bidirectional", "fsdd_lstm", "fsdd_strings"}
    worlds = {"cartpole", "catch", "gym", "pong", "reaching", "reward_evidence"}
    murray = {"add", "mimic", "periodic", "ready_set_go", "syllables"}
    own = {"digits", "evidence", "latency_mnist", "npz", "pattern", "store_recall", *murray, *speech, *worlds}
    assert {name for name in recipes.names() if "/" not in name} == own
    for name in recipes.names():
        assert recipes.load(name).description


# Whose data cannot be had: with the tests of their files.
_ELSEWHERE = {f"yin2021/{name}" for name in ("shd", "ssc", "soli", "timit", "gsc")}

# By day each kind of recipe once, and BPTT in the one that comes first.
_DAILY = {(name, None) for name in ("digits", "yin2021/ecg", "evidence", "fsdd", "npz", "pattern", "catch")} | {
    ("digits", "bptt")
}
# Symmetric feedback does not reach layers that no readout reads, nor do local rules thresholds before the first state.
_CHANGES = {
    ("yin2021/ecg-adlif", "eprop"): ("rule.feedback=random",),
    ("yin2021/ecg-bidirectional", "eprop"): ("rule.feedback=random",),
    ("yin2021/smnist", "eprop"): ("rule.feedback=random",),
    ("yin2021/psmnist", "eprop"): ("rule.feedback=random",),
    ("yin2021/gsc12", "eprop"): (
        "rule.feedback=random",
        "network.populations.events.threshold=0.05",
        'optimizer.multipliers={"first.tau" = 2.0}',
    ),
}


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        pytest.param(name, rule, marks=() if (name, rule) in _DAILY else pytest.mark.nightly)
        for rule in (None, "bptt", "eprop")
        for name in recipes.names()
        if name not in _ELSEWHERE
    ],
)
def test_recipe_gives_finite_loss_and_gradients(name, rule, parts):
    built = parts(name, *_CHANGES.get((name, rule), ()), rule=rule)
    net = built.rule.bind(built.net, jax.random.key(0))
    trial = built.task.sample(jax.random.key(0), 2)
    loss, grads = built.rule.value_and_grad(net, trial, jax.random.key(1))
    assert np.isfinite(float(loss))
    sizes = {path: float(jnp.max(jnp.abs(g))) for path, g in jax.tree.leaves_with_path(grads)}
    assert all(np.isfinite(s) for s in sizes.values())
    assert any(s > 0 for s in sizes.values())
    fitted = ex.fit(*built[:4], 1, batch=2, progress=False) if name == "npz" and rule is None else None
    assert fitted is None or fitted.steps == 1


def test_ecg_is_the_published_network(parts):
    built = parts("yin2021/ecg")
    net = built.net
    assert net.inputs == {"input": 4} and net.output_specs[0][1:] == ("readout", "voltage")
    hidden, readout = net.populations["hidden"], net.populations["readout"]
    assert (type(hidden).__name__, type(readout).__name__) == ("LIF", "ALIF")
    assert readout.reset == "threshold" and hidden.input_scale == readout.input_scale == "leak"
    moved = jax.tree.leaves(eqx.filter(net, ex.trainable_leaves(net)))
    # 1,818 in the authors' store, less the 36 adaptation time constants that their hidden layer never uses.
    assert sum(x.size for x in moved) == 1818 - 36
    np.testing.assert_allclose(hidden.tau.value, np.full(36, 20.0), rtol=1e-5)
    recurrent = net.projections["hidden->hidden"].weight
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(36), atol=1e-5)


def test_evidence_has_the_papers_settings(parts):
    built = parts("evidence")
    hidden = built.net.populations["hidden"]
    beta = 1.7 * (1 - np.exp(-1 / 2000)) / (1 - np.exp(-1 / 20))
    np.testing.assert_allclose(hidden.beta, [0.0] * 50 + [beta] * 50, rtol=2e-5)
    assert built.rule.feedback == "random" and built.rule.regularizers[0].coefficient == 2.0
    assert not np.diag(built.net.projections["hidden->hidden"].weight).any()


@pytest.mark.slow
def test_digits_learns(parts):
    built = parts("digits", "training.steps=150", "training.seeds=1")
    run = ex.fit(*built[:4], 150, seeds=1, validate_every=75, progress=False)
    assert run.test_accuracy > 0.75  # chance is 0.1; the whole recipe reaches 0.966
    assert 10 < run.firing_rate_hz < 300


def test_parameters_by_number_list_table_and_group(parts):
    hidden = "network.populations.hidden."
    net = parts(
        "digits",
        hidden + "size=4",
        hidden + "tau={value=7.0, trainable=true, positive=true}",
        hidden + "beta={groups=[[1, 0.5], [3, 0.25]]}",
        hidden + "threshold=[1.0, 2.0, 3.0, 4.0]",
        hidden + "tau_adaptation={groups=[[4, 50.0]], trainable=true}",
        hidden + 'surrogate={name="multi_gaussian", sigma=0.4}',
    ).net.populations["hidden"]
    assert is_parameter(net.tau) and net.tau.positive and float(net.tau.value) == pytest.approx(7.0)
    np.testing.assert_allclose(net.beta, [0.5, 0.25, 0.25, 0.25])
    np.testing.assert_allclose(net.threshold, [1, 2, 3, 4])
    assert is_parameter(net.tau_adaptation) and not net.tau_adaptation.positive
    assert type(net.surrogate).__name__ == "MultiGaussian" and net.surrogate.sigma == 0.4


def test_overrides_reach_lists_and_named_projections(parts):
    built = parts(
        "digits",
        *SMALL,
        "network.projections.hidden->hidden.autapses=true",
        "network.projections.0.bias=true",
        "optimizer.multipliers={'input->hidden.weight' = 0.0}",
        "training.seed=3",
    )
    assert np.diag(built.net.projections["hidden->hidden"].weight).any()
    assert built.net.projections["input->hidden"].bias is not None
    assert not np.array_equal(
        built.net.projections["input->hidden"].weight, parts("digits", *SMALL).net.projections["input->hidden"].weight
    )


def test_another_rule_keeps_what_both_know():
    own = recipes.load("pattern")
    other = recipes.load("pattern", rule="bptt")
    assert own.rule.options["feedback"] == "random"
    assert other.rule.name == "bptt" and "feedback" not in other.rule.options
    for shared in ("loss", "reduction", "scale", "regularizers"):
        assert other.rule.options[shared] == own.rule.options[shared]
    assert recipes.load("pattern", ["rule.checkpoint=10"], "bptt").rule.options["checkpoint"] == 10


def test_a_recipe_of_ones_own(tmp_path, mine):
    source = (recipes.FOLDER / "npz.toml").read_text().replace('name = "npz"', f'name = "npz"\npath = {str(mine)!r}')
    (tmp_path / "own.toml").write_text(source)
    assert build(recipes.load(str(tmp_path / "own.toml"))).task.output_size == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3.0", 3.0),
        ("1e-3", 1e-3),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('"two words"', "two words"),
        ("random", "random"),
        ("a.npz", "a.npz"),
        ("/x/y=z.npz", "/x/y=z.npz"),
        ("{a = 1}", {"a": 1}),
        ("", ""),
        ("1\nb = 2", "1\nb = 2"),
    ],
)
def test_value_of(text, value):
    assert recipes.value_of(text) == value
    assert type(recipes.value_of(text)) is type(value)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30))
def test_any_override_loads_or_is_refused(text):
    for override in (text, f"training.{text}", f"training.steps={text}", f"{text}=1"):
        with contextlib.suppress(RecipeError):  # anything else is a bug
            recipes.load("digits", [override])


HIDDEN = "network.populations.hidden."


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("trainin.steps=3", r"^trainin: unknown key\. Did you mean 'training'\?"),
        ("training.step=3", r"^training\.step: unknown key\. Did you mean 'steps'\?"),
        ("training.steps=abc", r"^training\.steps: .*integer.*'abc'"),
        ("training.steps=1.5", r"^training\.steps: .*integer"),
        ("training.steps=true", r"^training\.steps: .*integer"),
        ("training.steps=0", r"^training\.steps: .*1"),
        ("training.batch=-1", r"^training\.batch"),
        ("training.seed=-1", r"^training\.seed"),
        ("training.seeds=0", r"^training\.seeds"),
        ("training.validate_every=0", r"^training\.validate_every"),
        ("training.steps.more=1", r"training\.steps is 1500, not a table"),
        ("training=5", r"^training: "),
        ("steps", r"--set 'steps': write it as"),
        ("=5", r"--set '=5': write it as"),
        ("description=5", r"^description"),
        ("task.name=digit", r"^task\.name: unknown task 'digit'\. Did you mean 'digits'"),
        ("task.hodl=4", r"^task\.hodl: unknown key\. Did you mean 'hold'\?"),
        ("task.hold=abc", r"^task: hold"),
        ("network.outputs=readuot", r"^network: .*Did you mean 'readout'"),
        ("network.output=readout", r"^network\.output: unknown key\. Did you mean 'outputs'\?"),
        ("network.dt=-1.0", r"^network\.dt"),
        ("network.dt=abc", r"^network\.dt"),
        ("network.inputs=abc", r"^network\.inputs"),
        ("network.populations=3", r"^network\.populations"),
        (HIDDEN + "model=ALFI", r"^network\.populations\.hidden\.model: .*Did you mean 'ALIF'"),
        (HIDDEN + "size=abc", r"^network\.populations\.hidden\.size"),
        (HIDDEN + "size=0", r"^network\.populations\.hidden\.size"),
        (HIDDEN + "taus=3.0", r"^network\.populations\.hidden\.taus: unknown key\. Did you mean 'tau'\?"),
        (HIDDEN + "dt=3.0", r"^network\.populations\.hidden\.dt: unknown key"),
        (HIDDEN + "tau=-3.0", r"^network\.populations\.hidden: tau must be > 0"),
        (HIDDEN + "tau=abc", r"^network\.populations\.hidden: tau"),
        (HIDDEN + "tau=[1.0, 2.0]", r"^network\.populations\.hidden: .*tau.*150"),
        (HIDDEN + "tau={valu=3.0}", r"^network\.populations\.hidden\.tau\.valu: unknown key\. Did you mean 'value'"),
        (HIDDEN + "tau={trainable=true}", r"^network\.populations\.hidden\.tau: give either"),
        (HIDDEN + "tau={value=3.0, positive=true}", r"^network\.populations\.hidden\.tau\.positive"),
        (HIDDEN + "tau={value=3.0, trainable=1}", r"^network\.populations\.hidden\.tau\.trainable"),
        (
            HIDDEN + "tau={groups=[[10, 3.0]]}",
            r"tau\.groups: the groups have 10 units together, the population has 150",
        ),
        (HIDDEN + "tau={groups=[[1.5, 3.0]]}", r"tau\.groups: must be"),
        (HIDDEN + "surrogate=triangle", r"^network\.populations\.hidden\.surrogate: .*Did you mean 'triangular'"),
        (
            HIDDEN + "surrogate={name='triangle'}",
            r"^network\.populations\.hidden\.surrogate\.name: .*Did you mean 'triangular'",
        ),
        (HIDDEN + "surrogate={name='triangular', widht=1.0}", r"hidden\.surrogate\.widht: unknown key"),
        ("network.projections.0.kind=dens", r"^network\.projections\.0\.kind"),
        ("network.projections.0.dela=1", r"^network\.projections\.0\.dela: unknown key\. Did you mean 'delay'\?"),
        ("network.projections.0.delay=-1", r"^network\.projections\.0: .*delay"),
        ("network.projections.0.init=orthogonl", r"^network\.projections\.0: .*Did you mean 'orthogonal'"),
        ("network.projections.0.pre=inptu", r"^network: .*Did you mean 'input'"),
        ("network.projections.9.delay=1", r"^network\.projections\.9: unknown entry"),
        ("network.projections.input->hiden.delay=1", r"Did you mean 'input->hidden'"),
        ("rule.name=eporp", r"^rule\.name: unknown rule 'eporp'\. Did you mean 'eprop'"),
        ("rule.feedbck=random", r"^rule\.feedbck: unknown key\. Did you mean 'feedback'\?"),
        ("rule.feedback=rnadom", r"^rule: feedback"),
        ("rule.loss=mes", r"^rule: .*Did you mean 'mse'"),
        ("rule.regularizers=5", r"^rule\.regularizers: must be a list"),
        ("rule.regularizers=[5]", r"^rule\.regularizers\.0: must be a table"),
        (
            "rule.regularizers=[{name='rate'}]",
            r"^rule\.regularizers\.0\.name: unknown regulariser 'rate'\..*Known: firing_rate",
        ),
        ("rule.regularizers=[{name='firing_rate'}]", r"^rule\.regularizers\.0\.coefficient: is missing"),
        ("rule.regularizers=[{name='firing_rate', coefficient=-1.0}]", r"^rule\.regularizers\.0: .*coefficient"),
        ("optimizer.name=adm", r"^optimizer: .*Did you mean 'adam'"),
        ("optimizer.learning_rate=0", r"^optimizer\.learning_rate"),
        ("optimizer.learning_rate=abc", r"^optimizer\.learning_rate"),
        ("optimizer.bb1=0.9", r"^optimizer: .*Did you mean 'b1'"),
        ("optimizer.schedule={name='csine'}", r"^optimizer: .*Did you mean 'cosine'"),
        ("optimizer.multipliers={tau=2.0}", r"^optimizer: .*multipliers"),
        ("optimizer.kolen_pollack=0.1", r"^optimizer: kolen_pollack.*adaptive"),
    ],
)
def test_what_a_recipe_may_not_say_is_named_by_its_path(change, words):
    with pytest.raises(RecipeError, match=words):
        build(recipes.load("digits", [change]))


@pytest.mark.unchecked
def test_missing_parts_are_named_by_their_path(tmp_path):
    content = tomllib.loads((recipes.FOLDER / "digits.toml").read_text())
    for path in ("task", "network.outputs", "rule.name", "training.steps", "optimizer.learning_rate"):
        broken = tomllib.loads((recipes.FOLDER / "digits.toml").read_text())
        *parents, last = path.split(".")
        place = broken
        for parent in parents:
            place = place[parent]
        del place[last]
        with pytest.raises(RecipeError, match=rf"^{re.escape(path)}: is missing"):
            recipes.parse(broken)
    assert recipes.parse(content).training.steps == 1500


@pytest.mark.unchecked
def test_files_that_are_no_recipes(tmp_path):
    with pytest.raises(RecipeError, match="Did you mean 'digits'"):
        recipes.load("digit")
    with pytest.raises(RecipeError, match="there is no recipe file"):
        recipes.load(str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_text("a = ")
    with pytest.raises(RecipeError, match="cannot be read as TOML"):
        recipes.load(str(tmp_path / "bad.toml"))
    (tmp_path / "latin.toml").write_bytes(b'description = "\xe9"')
    with pytest.raises(RecipeError, match="cannot be read as TOML"):
        recipes.load(str(tmp_path / "latin.toml"))
    with pytest.raises(RecipeError, match=r"^task\.path: is missing"):
        build(recipes.load("npz"))
    with pytest.raises(DataError, match="there is no file"):
        build(recipes.load("npz", ["task.path=/no/such/file.npz"]))


def test_a_recipe_in_a_folder_has_a_short_name_where_no_other_has_it():
    assert recipes.load("ecg") == recipes.load("yin2021/ecg")
    with pytest.raises(RecipeError, match="yin2021/ecg"):
        recipes.load("yin2021/ekg")
