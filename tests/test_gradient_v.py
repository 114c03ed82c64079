"""dE/dV."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn.cross_entropy import loss, output_error
from rnn.gradient_check import complex_step, gradient_error
from rnn.gradient_v import gradient_v
from rnn.hidden_state import (
    Parameters,
    hand_example,
    hidden_states,
    relu,
    sigmoid,
    tanh,
)
from rnn.softmax import outputs

AXES = [(5,), (5, 3), (3, 2, 2)]


def draw(seed, axes, H=4, N=6, g=1.0):
    """Parameters, words, targets and s(-1) by the rules of judging."""
    rng = np.random.default_rng(seed)
    params = Parameters(
        rng.normal(size=(H, N)),
        g * rng.normal(size=(H, H)) / np.sqrt(H),
        rng.normal(size=(N, H)),
    )
    return params, *rng.integers(0, N, (2, *axes)), rng.normal(size=(*axes[1:], H))


def gradient(params, words, targets, s_init, activation=sigmoid):
    states = hidden_states(params, words, s_init, activation)
    return gradient_v(output_error(outputs(params, states), targets), states)


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("activation", [sigmoid, tanh, relu])
@pytest.mark.parametrize("g", [0.1, 1.0, 3.0])
def test_against_the_complex_step(axes, activation, g):
    params, *arguments = draw(1, axes, g=g)
    true = complex_step(
        lambda V: loss(params._replace(V=V), *arguments, activation), params.V
    )
    assert np.abs(true).max() > 0.1
    assert gradient_error(gradient(params, *arguments, activation), true) <= 1e-12


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(AXES))
def test_is_the_sum_of_outer_products(seed, axes):
    rng = np.random.default_rng(seed)
    e_o, states = rng.normal(size=(*axes, 3)), rng.normal(size=(*axes, 4))
    total = -sum(np.outer(e_o[place], states[place]) for place in np.ndindex(axes))
    assert gradient_error(gradient_v(e_o, states), total) < 1e-13


def test_hand_example():
    params, words, targets = hand_example()
    expected = [[0.1821, 0.1543], [-0.2378, 0.2224], [0.0557, -0.3768]]
    np.testing.assert_allclose(
        gradient(params, words, targets, None), expected, atol=5e-5
    )


def test_one_step_by_hand():
    np.testing.assert_array_equal(
        gradient_v([[1, -2, 1]], [[3, 5]]), [[-3, -5], [6, 10], [-3, -5]]
    )


def test_a_single_pair_of_vectors_is_one_step():
    np.testing.assert_array_equal(
        gradient_v([1.0, -1.0], [2.0, 3.0]), [[-2, -3], [2, 3]]
    )


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(AXES))
def test_columns_sum_to_zero(seed, axes):
    G = gradient(*draw(seed, axes))
    assert np.abs(G.sum(axis=0)).max() < 1e-13


def test_same_vector_added_to_every_row_changes_nothing():
    params, *arguments = draw(3, (5,))
    shifted = params._replace(V=params.V + np.array([1.0, -2.0, 0.5, 3.0]))
    assert (
        gradient_error(gradient(shifted, *arguments), gradient(params, *arguments))
        < 1e-13
    )


def test_permuting_the_vocabulary_permutes_the_rows():
    params, words, targets, s_init = draw(4, (5,))
    p = np.random.default_rng(0).permutation(6)
    inverse = np.argsort(p)
    other = Parameters(params.U[:, p], params.W, params.V[p])
    permuted = gradient(other, inverse[words], inverse[targets], s_init)
    G = gradient(params, words, targets, s_init)
    assert gradient_error(permuted, G[p]) < 1e-13


def test_a_batch_is_the_sum_of_its_sequences():
    params, words, targets, s_init = draw(5, (4, 3))
    one_by_one = sum(
        gradient(params, words[:, b], targets[:, b], s_init[b]) for b in range(3)
    )
    assert gradient_error(gradient(params, words, targets, s_init), one_by_one) < 1e-14


def test_a_small_step_downhill_lowers_the_loss():
    params, *arguments = draw(6, (5,))
    lower = params._replace(V=params.V - 1e-3 * gradient(params, *arguments))
    assert loss(lower, *arguments) < loss(params, *arguments)


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        (np.float32, np.float32, np.float32),
        (np.float64, np.float64, np.float64),
        (np.float32, np.float64, np.float64),
        (np.complex128, np.float64, np.complex128),
        (np.float64, np.complex128, np.complex128),
        (np.uint8, np.uint8, np.float64),
    ],
)
def test_type_follows_the_arguments(first, second, result):
    G = gradient_v(np.ones((2, 3), first), np.ones((2, 4), second))
    assert G.dtype == result
    assert (G == -2).all()


def test_complex_numbers_are_not_conjugated():
    np.testing.assert_array_equal(
        gradient_v([[1j, 2.0]], [[1j, 1.0]]), [[1, -1j], [-2j, -2]]
    )


def test_memory_order_does_not_matter_and_arguments_stay():
    rng = np.random.default_rng(7)
    e_o, states = rng.normal(size=(4, 2, 3)), rng.normal(size=(4, 2, 5))
    kept = e_o.copy(), states.copy()
    G = gradient_v(e_o, states)
    assert G.shape == (3, 5)
    for a, b in (
        (np.asfortranarray(e_o), states),
        (e_o, np.asfortranarray(states)),
        (np.repeat(e_o, 2, axis=1)[:, ::2], states),
    ):
        np.testing.assert_allclose(gradient_v(a, b), G, rtol=1e-13)
    np.testing.assert_array_equal(e_o, kept[0])
    np.testing.assert_array_equal(states, kept[1])


def test_extremes():
    with np.errstate(all="raise", under="ignore"):
        large = np.full((2, 3), 1e150)
        np.testing.assert_allclose(
            gradient_v(large, large), np.full((3, 3), -2e300), rtol=1e-14
        )
        assert not gradient_v(np.full((2, 3), 1e-200), np.full((2, 3), 1e-200)).any()


@pytest.mark.parametrize(
    ("e_o", "states", "message"),
    [
        (
            np.ones((3, 4)),
            np.ones((2, 5)),
            r"states has shape \(2, 5\): .*\(3,\), as in e_o.*3, 4",
        ),
        (np.ones((6, 4)), np.ones((3, 2, 5)), r"states has shape \(3, 2, 5\)"),
        (
            np.ones((3, 2, 4)),
            np.ones((2, 3, 5)),
            r"states has shape \(2, 3, 5\): .*\(3, 2\)",
        ),
        (np.ones((3, 4)), np.ones(5), r"states has shape \(5,\)"),
        (1.0, np.ones((3, 2)), r"e_o has shape \(\)"),
        (np.ones((3, 2)), 1.0, r"states has shape \(\)"),
        ([[np.nan]], [[1.0]], "e_o holds nan"),
        ([[1.0]], [[np.inf]], "states holds inf"),
        ([["a"]], [[1.0]], "e_o holds"),
    ],
)
def test_refuses(e_o, states, message):
    with pytest.raises(ValueError, match=message):
        gradient_v(e_o, states)
