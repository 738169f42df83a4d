"""Convolutions and pooling from a recipe: trained, stored, read back, and refused by the path of what is wrong."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from engrax.cli import app
from engrax.errors import RecipeError
from engrax.training import recipe as recipes
from engrax.training.build import build
from engrax.training.stored import load_run

RECIPE = """
description = "Digits by a convolution along each row"

[task]
name = "digits"

[network]
outputs = "readout"

[network.populations]
hidden = { model = "LIF", size = 24, tau = 5.0, threshold = 0.3 }
pooled = { model = "Relay", size = 12 }
readout = { model = "LI", size = "output" }

[[network.projections]]
kind = "convolution"
pre = "input"
post = "hidden"
shape = [1, 1, 8]
channels = 4
kernel = [1, 3]
bias = true

[[network.projections]]
kind = "average_pool"
pre = "hidden"
post = "pooled"
shape = [4, 1, 6]
window = [1, 2]

[[network.projections]]
pre = "pooled"
post = "readout"

[rule]
name = "eprop"

[optimizer]
name = "adam"
learning_rate = 0.01

[training]
steps = 4
batch = 8
seed = 0
seeds = 2
validate_every = 2
"""


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.nightly)], ids=["run", "energy, report"])
def test_a_recipe_trains_it_and_a_run_is_read_back(tmp_path, whole):
    (tmp_path / "conv.toml").write_text(RECIPE)
    runner, out = CliRunner(), str(tmp_path / "run")
    trained = runner.invoke(
        app, ["train", str(tmp_path / "conv.toml"), "--out", out, "--json", *([] if whole else ["--no-report"])]
    )
    assert trained.exit_code == 0, trained.output
    stored = load_run(out)
    before = build(stored.recipe).net.projections
    assert (before["input->hidden"].shape, before["input->hidden"].kernel) == ((1, 1, 8), (1, 3))
    kernel, pool = stored.network.projections["input->hidden"].weight, stored.network.projections["hidden->pooled"]
    assert kernel.shape == (4, 1, 1, 3) and np.any(kernel != before["input->hidden"].weight)
    np.testing.assert_array_equal(pool.weight, jnp.full((1, 1, 1, 2), 0.5))
    assert "4 x 1 x 1 x 3" in stored.network.summary()
    assert json.loads(trained.stdout)["energy_joules"] > 0
    if whole:
        energy = runner.invoke(app, ["energy", out, "--json"])
        assert energy.exit_code == 0, energy.output
        assert json.loads(energy.stdout)["energy_joules"] == json.loads(trained.stdout)["energy_joules"]


def test_a_wrong_recipe_is_named_by_its_path(tmp_path):
    for old, new, message in (
        ("size = 24", "size = 23", r"network: projection 'input->hidden': 'hidden' must have 4 x 1 x 6 = 24 units"),
        ("window", "windw", r"network\.projections\.1\.windw: unknown key.*window"),
        ("kernel = [1, 3]", "", r"network\.projections\.0\.kernel: is missing"),
    ):
        (tmp_path / "conv.toml").write_text(RECIPE.replace(old, new))
        with pytest.raises(RecipeError, match=message):
            build(recipes.load(str(tmp_path / "conv.toml")))
