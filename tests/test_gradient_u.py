"""Chapter 7: the hidden error; the gradient for U, s(t-1) held constant."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn.cross_entropy import loss, output_error
from rnn.gradient_check import complex_step, gradient_error
from rnn.gradient_u import gradient_u, hidden_error
from rnn.hidden_state import (
    Parameters,
    hand_example,
    hidden_states,
    relu,
    sigmoid,
    tanh,
)
from rnn.softmax import outputs

H, N = 4, 6
ACTIVATIONS = [sigmoid, tanh, relu]
BATCHES = [(), (3,), (2, 3)]


def network(rng, g=1.0):
    """U and V of order one, W = g Q / sqrt(H)."""
    W = g * rng.normal(size=(H, H)) / np.sqrt(H)
    return Parameters(
        np.asfortranarray(rng.normal(size=(H, N))), W, rng.normal(size=(N, H))
    )


def case(seed, T, batch=(), g=1.0):
    rng = np.random.default_rng(seed)
    params = network(rng, g)
    words, targets = rng.integers(N, size=(2, T, *batch))
    return params, words, targets, rng.uniform(-1, 1, (*batch, H))


def errors(params, words, targets, s_init, activation):
    """e_o, states and e_h of a text."""
    states = hidden_states(params, words, s_init, activation)
    e_o = output_error(outputs(params, states), targets)
    return e_o, states, hidden_error(params, e_o, states, activation)


def cut_loss_gradient(params, words, targets, s_init, activation):
    """dE/dU by the complex step: T texts of one word, with given states before."""
    states = hidden_states(params, words, s_init, activation)
    before = np.concatenate([np.broadcast_to(s_init, states[:1].shape), states[:-1]])

    def of_u(U):
        cut = params._replace(U=U)
        return loss(cut, words[np.newaxis], targets[np.newaxis], before, activation)

    return complex_step(of_u, params.U)


def whole_gradient(params, words, targets, s_init, activation):
    def of_u(U):
        return loss(params._replace(U=U), words, targets, s_init, activation)

    return complex_step(of_u, params.U)


# The hidden error


def test_hidden_errors_of_the_hand_example():
    params, words, targets = hand_example()
    _, _, e_h = errors(params, words, targets, np.zeros(2), sigmoid)
    expected = [[-0.0558, 0.1149], [-0.1639, 0.0244], [0.2028, -0.1601]]
    np.testing.assert_allclose(e_h, expected, atol=5e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_hidden_error_element_by_element(activation):
    params, words, targets, s_init = case(0, 5)
    e_o, states, e_h = errors(params, words, targets, s_init, activation)
    for t in range(5):
        for j in range(H):
            collected = sum(params.V[m, j] * e_o[t, m] for m in range(N))
            slope = activation.slope(states[t, j])
            assert abs(e_h[t, j] - collected * slope) < 1e-14


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_hidden_error_is_minus_the_derivative_of_its_own_step(activation):
    """E_t by a(t): push a(t) by the column of a word that is read there only."""
    params, _, targets, s_init = case(1, 3)
    words = np.array([2, 4, 5])
    _, states, e_h = errors(params, words, targets, s_init, activation)
    before = np.concatenate([s_init[np.newaxis], states[:-1]])
    for t in range(3):
        one = (words[t : t + 1], targets[t : t + 1], before[t], activation)
        derivative = complex_step(
            lambda U, one=one: loss(params._replace(U=U), *one), params.U
        )
        assert gradient_error(-e_h[t], derivative[:, words[t]]) < 1e-12


def test_hidden_error_of_a_batch_is_that_of_its_sequences():
    params, words, targets, s_init = case(2, 4, (2, 3))
    e_o, states, e_h = errors(params, words, targets, s_init, tanh)
    for b in np.ndindex(2, 3):
        alone = hidden_error(params, e_o[:, *b], states[:, *b], tanh)
        np.testing.assert_allclose(e_h[:, *b], alone, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_hidden_errors_of_a_batch_are_those_of_its_steps(activation):
    """One product over the folded axes, or one for each step: the same."""
    text = (*case(8, 5, (3,)), activation)
    e_o, states, e_h = errors(*text)
    assert e_o.shape == (5, 3, N)
    assert e_h.shape == (5, 3, H)
    for t in range(5):
        together = hidden_error(text[0], e_o[t], states[t], activation)
        np.testing.assert_allclose(e_h[t], together, rtol=1e-13, atol=1e-15)
        for b in range(3):
            single = hidden_error(text[0], e_o[t, b], states[t, b], activation)
            np.testing.assert_allclose(e_h[t, b], single, rtol=1e-13, atol=1e-15)


def test_hidden_error_takes_the_slope_of_the_given_activation():
    params, words, targets, s_init = case(3, 4)
    e_o, states, _ = errors(params, words, targets, s_init, tanh)
    sent = e_o @ params.V
    np.testing.assert_allclose(
        hidden_error(params, e_o, states), sent * states * (1 - states)
    )
    np.testing.assert_allclose(
        hidden_error(params, e_o, states, tanh), sent * (1 - states**2)
    )
    np.testing.assert_array_equal(
        hidden_error(params, e_o, states, relu), sent * (states > 0)
    )


def test_the_same_vector_added_to_every_row_of_v_changes_nothing():
    params, words, targets, s_init = case(4, 6)
    e_o, states, e_h = errors(params, words, targets, s_init, sigmoid)
    moved = params._replace(V=params.V + np.arange(H))
    np.testing.assert_allclose(hidden_error(moved, e_o, states), e_h, atol=1e-14)


@given(st.integers(0, 10**6))
def test_hidden_error_stays_within_its_bound(seed):
    params, words, targets, s_init = case(seed, 3)
    _, _, e_h = errors(params, words, targets, s_init, sigmoid)
    assert (abs(e_h) <= (params.V.max(0) - params.V.min(0)) / 4).all()


def test_no_error_comes_through_v_equal_to_zero():
    params, words, targets, s_init = case(5, 4)
    params = params._replace(V=np.zeros((N, H)))
    _, _, e_h = errors(params, words, targets, s_init, tanh)
    assert not e_h.any()
    assert not gradient_u(e_h, words, N).any()


def test_hidden_error_at_the_extremes():
    params, words, targets, _ = case(6, 3)
    params = params._replace(U=params.U * 1e4, V=params.V * 1e4)
    with np.errstate(all="raise", under="ignore"):
        _, states, e_h = errors(params, words, targets, np.zeros(H), sigmoid)
    assert set(np.unique(states).round(8)) <= {0.0, 1.0}
    assert np.isfinite(e_h).all()
    assert not e_h[states == 1].any()


def test_hidden_error_leaves_its_arguments_alone():
    params, words, targets, s_init = case(7, 3)
    e_o, states, _ = errors(params, words, targets, s_init, sigmoid)
    kept = [array.copy() for array in (*params, e_o, states)]
    hidden_error(params, e_o, states)
    for before, now in zip(kept, (*params, e_o, states), strict=True):
        np.testing.assert_array_equal(before, now)


# The gradient


def test_gradient_of_the_hand_example():
    params, words, targets = hand_example()
    _, _, e_h = errors(params, words, targets, np.zeros(2), sigmoid)
    expected = [[0.0558, 0.1639, -0.2028], [-0.1149, -0.0244, 0.1601]]
    np.testing.assert_allclose(gradient_u(e_h, words, 3), expected, atol=5e-5)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("T", [1, 2, 12])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_equations_6_to_8_are_the_gradient_of_the_cut_loss(activation, T, batch):
    text = (*case(10 * T + len(batch), T, batch), activation)
    _, _, e_h = errors(*text)
    assert gradient_error(gradient_u(e_h, text[1], N), cut_loss_gradient(*text)) < 1e-12


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("T", "g"), [(1, 3.0), (15, 0.0)])
def test_nothing_is_missing_for_one_word_or_without_w(activation, T, g):
    text = (*case(20, T, g=g), activation)
    _, _, e_h = errors(*text)
    assert gradient_error(gradient_u(e_h, text[1], N), whole_gradient(*text)) < 1e-12


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_otherwise_something_is_missing_but_not_in_the_last_word(activation):
    params, _, targets, s_init = case(21, 4)
    text = (params, np.array([0, 1, 2, 5]), targets, s_init, activation)
    _, _, e_h = errors(*text)
    given_gradient, whole = gradient_u(e_h, text[1], N), whole_gradient(*text)
    assert gradient_error(given_gradient, whole) > 1e-2
    np.testing.assert_allclose(given_gradient[:, 5], whole[:, 5], atol=1e-14)


@given(st.lists(st.integers(0, N - 1), min_size=1, max_size=30), st.integers(0, 10**6))
@settings(deadline=None)
def test_gradient_is_the_dense_product(words, seed):
    words = np.array(words)
    error = np.random.default_rng(seed).normal(size=(len(words), H))
    gradient = gradient_u(error, words, N)
    np.testing.assert_allclose(gradient, -error.T @ np.eye(N)[words], atol=1e-13)
    absent = np.setdiff1d(np.arange(N), words)
    assert not gradient[:, absent].any()


@pytest.mark.parametrize("batch", BATCHES)
def test_gradient_sums_over_all_axes_but_the_last(batch):
    rng = np.random.default_rng(30)
    words, error = rng.integers(N, size=(5, *batch)), rng.normal(size=(5, *batch, H))
    expected = np.zeros((H, N))
    for place in np.ndindex(words.shape):
        expected[:, words[place]] -= error[place]
    np.testing.assert_allclose(gradient_u(error, words, N), expected, atol=1e-14)


def test_repeated_words_add():
    gradient = gradient_u(np.array([[1.0], [10.0], [100.0], [1000.0]]), [2, 0, 2, 2], 4)
    np.testing.assert_array_equal(gradient, [[-10.0, 0.0, -1101.0, 0.0]])


@given(st.permutations(range(N)))
def test_permuting_the_vocabulary_permutes_the_columns(order):
    rng = np.random.default_rng(31)
    words, error = rng.integers(N, size=9), rng.normal(size=(9, H))
    renamed = np.array(order)[words]
    np.testing.assert_array_equal(
        gradient_u(error, renamed, N)[:, order], gradient_u(error, words, N)
    )


def test_gradient_keeps_the_order_of_u_and_its_argument():
    rng = np.random.default_rng(32)
    words, error = rng.integers(N, size=9), rng.normal(size=(9, H))
    kept = error.copy()
    gradient = gradient_u(error, words, N)
    assert gradient.shape == (H, N)
    assert gradient.flags.f_contiguous
    gradient += 1  # its own memory, writable
    np.testing.assert_array_equal(error, kept)


# Types


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_types_pass_through(dtype):
    params, words, targets, s_init = case(40, 5)
    e_o, states, e_h = errors(params, words, targets, s_init, tanh)
    cast = Parameters(*(matrix.astype(dtype) for matrix in params))
    error = hidden_error(cast, e_o.astype(dtype), states.astype(dtype), tanh)
    gradient = gradient_u(error, words, N)
    assert error.dtype == gradient.dtype == dtype
    tolerance = (
        1e-5
        if np.dtype(dtype).itemsize // (1 + (error.dtype.kind == "c")) == 4
        else 1e-13
    )
    np.testing.assert_allclose(error, e_h, atol=tolerance)
    np.testing.assert_allclose(gradient, gradient_u(e_h, words, N), atol=tolerance)


def test_the_complex_step_runs_through_both():
    """Both are linear in e_o: the derivative along a direction is the value there."""
    params, words, targets, s_init = case(41, 5)
    e_o, states, _ = errors(params, words, targets, s_init, tanh)
    direction = np.random.default_rng(0).normal(size=e_o.shape)

    def gradient(e_o):
        return gradient_u(hidden_error(params, e_o, states, tanh), words, N)

    derivative = gradient(e_o + 1e-30j * direction).imag / 1e-30
    np.testing.assert_allclose(derivative, gradient(direction), atol=1e-13)


def test_lists_are_welcome():
    gradient = gradient_u([[1, 2], [3, 4]], [1, 0], 2)
    np.testing.assert_array_equal(gradient, [[-3.0, -1.0], [-4.0, -2.0]])
    assert gradient.dtype == np.float64


# Hostile input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"e_o": np.zeros((3, 2))}, r"e_o has shape \(3, 2\): expected \(\.\.\., 3\)"),
        (
            {"e_o": np.zeros((2, 3))},
            r"states has shape \(3, 2\): expected \(2, 2\), to fit e_o",
        ),
        ({"e_o": np.full((3, 3), np.nan)}, "e_o holds nan: expected finite numbers"),
        ({"e_o": np.float64(1)}, "e_o has shape"),
        ({"e_o": np.full((3, 3), "a")}, "e_o holds <U1: expected"),
        (
            {"states": np.zeros((3, 3))},
            r"states has shape \(3, 3\): expected \(\.\.\., 2\)",
        ),
        (
            {"states": np.zeros((3, 1, 2))},
            r"states has shape \(3, 1, 2\): expected \(3, 2\)",
        ),
        ({"states": np.zeros((1, 2))}, r"states has shape \(1, 2\): expected \(3, 2\)"),
        (
            {"states": np.full((3, 2), np.inf)},
            "states holds inf: expected finite numbers",
        ),
        (
            {"params": Parameters(np.eye(2), np.eye(2), np.eye(3))},
            r"params.V has shape \(3, 3\)",
        ),
        ({"params": None}, "params is a NoneType"),
    ],
)
def test_hidden_error_refuses_by_name(change, message):
    arguments = {
        "params": hand_example()[0],
        "e_o": np.zeros((3, 3)),
        "states": np.zeros((3, 2)),
    }
    with pytest.raises(ValueError, match=message):
        hidden_error(**{**arguments, **change})


def test_hidden_error_refuses_a_v_that_is_not_finite():
    params, _, _ = hand_example()
    V = params.V.copy()
    V[1, 1] = np.nan
    with pytest.raises(ValueError, match=r"params\.V holds nan"):
        hidden_error(params._replace(V=V), np.zeros((3, 3)), np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"error": np.full((3, 2), np.nan)},
            "error holds nan: expected finite numbers",
        ),
        ({"error": np.float64(1)}, "error has shape"),
        (
            {"error": np.zeros((2, 2))},
            r"words has shape \(3,\): expected \(2,\), to fit error",
        ),
        (
            {"error": np.zeros((1, 3, 2))},
            r"words has shape \(3,\): expected \(1, 3\), to fit error",
        ),
        ({"words": [0, 1]}, r"words has shape \(2,\): expected \(3,\), to fit error"),
        ({"words": [0, 1, 4]}, "words holds the index 4"),
        ({"words": [0, -1, 2]}, "words holds the index -1"),
        ({"words": [0.0, 1.0, 2.0]}, "words has .*float64"),
        ({"words": []}, "words is empty"),
        ({"vocab_size": 2}, "words holds the index 2 .*expected 0 to 1"),
    ],
)
def test_gradient_u_refuses_by_name(change, message):
    arguments = {"error": np.zeros((3, 2)), "words": [0, 1, 2], "vocab_size": 4}
    with pytest.raises(ValueError, match=message):
        gradient_u(**{**arguments, **change})
