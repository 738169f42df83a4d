"""Encoders: against what they say, value by value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import savgol_filter

import engrax as ex
from engrax.encoders import Chain, Deltas, EventBins, LevelCrossing, PopulationCode, UnitSpread, Window


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


@pytest.mark.x64
@pytest.mark.parametrize(("order", "width"), [(1, 3), (2, 9), (3, 5)])
def test_deltas_are_derivatives_of_fitted_polynomials(order, width):
    x = np.random.default_rng(0).standard_normal((20, 2, 3))
    found = np.asarray(Deltas(order, width)(jnp.asarray(x)))
    wanted = [savgol_filter(x, width, k, k, axis=0, mode="interp") for k in range(1, order + 1)]
    np.testing.assert_allclose(found, np.concatenate([x, *wanted], axis=-1), atol=1e-12)
    # Exact where the signal is such a polynomial, at its ends too.
    time = np.arange(20.0)[:, None]
    slope = np.asarray(Deltas(1, width)(jnp.asarray(3 * time)))
    np.testing.assert_allclose(slope[:, 1], 3, rtol=1e-12)


def test_what_stands_still_has_neither_derivatives_nor_a_spread():
    """To the last bit, or rounding would be blown up to the size of a signal."""
    still = jnp.full((30, 2, 4), 0.1, jnp.float32)
    encoded = Chain(Deltas(2, 9), UnitSpread())(still)
    np.testing.assert_array_equal(encoded[..., :4], still)
    assert not np.any(encoded[..., 4:])
    moving = jnp.asarray(np.random.default_rng(0).standard_normal((30, 2, 4)) * 1e-6, jnp.float32)
    spread = np.asarray(UnitSpread()(moving))
    np.testing.assert_allclose(spread.std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(spread, np.asarray(moving) / np.asarray(moving).std(axis=0), rtol=1e-4)


@pytest.mark.parametrize("binary", [True, False])
def test_events_fall_into_bins(binary):
    draw = np.random.default_rng(1)
    when, who = draw.uniform(-3, 45, (200, 3)), draw.integers(0, 10, (200, 3))
    when[150:, 1] = np.inf  # a shorter list
    when[190:, 2] = np.nan
    found = np.asarray(EventBins(4.0, 10, 3, pool=3, binary=binary)(jnp.asarray(when, jnp.float32), jnp.asarray(who)))
    assert found.shape == (10, 3, 3) and found.max() == (1 if binary else found.max()) and found.max() >= 1
    for trial in range(3):
        there = (when[:, trial] >= 0) & (when[:, trial] < 40) & (who[:, trial] < 9)
        edges = (np.arange(11) * 4.0, np.arange(4) * 3.0)
        counts = np.histogram2d(when[there, trial], who[there, trial], bins=edges)[0]
        assert counts.max() > 1
        np.testing.assert_array_equal(found[:, trial], np.minimum(counts, 1) if binary else counts)
    one = EventBins(1.0, 3, 2)(jnp.asarray([2, 0, 3]), jnp.asarray([1, 0, 0]))
    assert one.tolist() == [[1, 0], [0, 0], [0, 1]]


def test_a_chain_is_its_encoders_in_turn():
    x = jnp.asarray(np.random.default_rng(2).standard_normal((20, 2, 3)), jnp.float32)
    chain = Chain(jnp.tanh, LevelCrossing(0.4), Window(2))
    np.testing.assert_array_equal(chain(x), Window(2)(LevelCrossing(0.4)(jnp.tanh(x))))
    assert chain(x).shape == (20, 2, 12) and np.any(chain(x))
    np.testing.assert_array_equal(jax.jit(lambda c, x: c(x))(Chain(LevelCrossing(0.4)), x), LevelCrossing(0.4)(x))
    when, who = jnp.asarray([0.5, 2.5]), jnp.asarray([1, 0])
    bins = EventBins(1.0, 3, 2)
    np.testing.assert_array_equal(Chain(bins, Window(3))(when, who), Window(3)(bins(when, who)))


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
        (lambda: Chain(), "at least one encoder"),
        (lambda: Chain(Window(2), 3), "encoder 1 must be an encoder or a function, got 3"),
        (lambda: Chain(Window), "encoder 0 must be an encoder"),
        (lambda: Deltas(0), "order must be an integer"),
        (lambda: Deltas(2, 8), "width must be odd and above the order 2, got 8"),
        (lambda: Deltas(3, 3), "width must be odd and above"),
        (lambda: Deltas(2, 9)(jnp.zeros((8, 1))), "8 steps is shorter than the width of 9"),
        (lambda: Deltas()(jnp.zeros(20)), r"give x\[:, None\]"),
        (lambda: UnitSpread()(jnp.zeros(20)), r"give x\[:, None\]"),
        (lambda: EventBins(0.0, 1, 1), "bin must be a finite number > 0"),
        (lambda: EventBins(1.0, 0, 1), "count must be an integer"),
        (lambda: EventBins(1.0, 1, 1, binary=1), "binary must be True or False"),
        (lambda: EventBins(1.0, 1, 1)(jnp.zeros(3), jnp.zeros(2, int)), r"of one shape.*\(3,\) and int32\[2\]"),
        (lambda: EventBins(1.0, 1, 1)(jnp.zeros(3), jnp.zeros(3)), "senders integers"),
    ):
        with pytest.raises(ex.errors.ArgumentError, match=message):
            make()
