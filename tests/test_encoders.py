"""Encoders: against what they say, value by value."""

import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.encoders import LevelCrossing, PopulationCode, Window


@pytest.mark.x64
def test_events_tell_where_the_signal_is():
    """Levels counted up and down never lie further than a level away, once the signal is slow enough."""
    time = np.arange(600)
    x = np.stack([np.sin(time / 40), 0.3 * np.cos(time / 25) + 0.001 * time], axis=1)[:, None, :]
    events = np.asarray(LevelCrossing(0.05)(jnp.asarray(x)))
    assert events.shape == (600, 1, 4) and set(np.unique(events)) == {0, 1}
    told = x[0] + 0.05 * np.cumsum(events[..., ::2] - events[..., 1::2], axis=0)
    assert np.abs(told - x).max() < 0.05
    # Doubling signal and level changes nothing.
    np.testing.assert_array_equal(LevelCrossing(0.1)(jnp.asarray(2 * x)), events)


def test_a_jump_is_told_step_by_step():
    x = jnp.asarray([0.0, 0.0, 3.5, 3.5, 3.5, 3.5, 3.5, 0.9, 0.9, 0.9])[:, None]
    events = LevelCrossing(1.0)(x)
    assert events[:, 0].tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    assert events[:, 1].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 1, 0]


def test_differences_are_those_of_neighbours():
    draw = np.random.default_rng(0).standard_normal((50, 3, 2)).astype(np.float32)
    events = np.asarray(LevelCrossing(0.7, "difference")(jnp.asarray(draw)))
    moved = np.diff(draw, axis=0)
    np.testing.assert_array_equal(events[1:, :, 0], moved[..., 0] >= 0.7)
    np.testing.assert_array_equal(events[1:, :, 3], moved[..., 1] <= -0.7)
    assert not events[0].any()


def test_a_window_shows_what_comes():
    x = np.arange(24.0).reshape(6, 2, 2)
    seen = np.asarray(Window(3)(jnp.asarray(x)))
    assert seen.shape == (6, 2, 6)
    for t in range(6):
        first = min(t, 3)
        np.testing.assert_array_equal(seen[t], np.concatenate(x[first : first + 3], axis=-1))
    np.testing.assert_array_equal(Window(1)(jnp.asarray(x)), x)


@pytest.mark.unchecked
def test_what_encoders_refuse():
    for make, message in (
        (lambda: LevelCrossing(0.0), "level must be a finite number > 0"),
        (lambda: LevelCrossing(1.0, "sent"), "kind must be one of"),
        (lambda: Window(0), "size must be an integer"),
        (lambda: Window(4)(jnp.zeros((3, 1))), "3 steps is shorter than the window of 4"),
        (lambda: Window(2)(jnp.arange(5.0)), r"give x\[:, None\]"),
        (lambda: LevelCrossing(1.0)(jnp.arange(5.0)), r"give x\[:, None\]"),
        (lambda: LevelCrossing(1.0)(jnp.arange(5)[:, None]), "floating-point"),
        (lambda: PopulationCode([0.0], [0.0]), "low must lie below high"),
        (lambda: PopulationCode([0.0], [1.0], units=1), "units"),
        (lambda: PopulationCode([0.0], [1.0], width=0), "width"),
    ):
        with pytest.raises(ex.errors.ArgumentError, match=message):
            make()
