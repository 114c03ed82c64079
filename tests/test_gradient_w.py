"""Chapter 8: the gradient for W with one step of memory, and what it misses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn.cross_entropy import loss, output_error
from rnn.gradient_check import complex_step, gradient_error
from rnn.gradient_u import hidden_error
from rnn.gradient_w import gradient_w
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


def case(seed, T, batch=(), g=1.0):
    """U and V of order one, W = g Q / sqrt(H), a text, and s(-1)."""
    rng = np.random.default_rng(seed)
    W = g * rng.normal(size=(H, H)) / np.sqrt(H)
    params = Parameters(rng.normal(size=(H, N)), W, rng.normal(size=(N, H)))
    words, targets = rng.integers(N, size=(2, T, *batch))
    return params, words, targets, rng.uniform(-1, 1, (*batch, H))


def errors_and_states_before(params, words, targets, s_init, activation):
    states = hidden_states(params, words, s_init, activation)
    e_h = hidden_error(
        params, output_error(outputs(params, states), targets), states, activation
    )
    return e_h, np.concatenate([np.broadcast_to(s_init, states[:1].shape), states[:-1]])


def cut_loss_gradient(params, words, targets, s_init, activation):
    """dE/dW by the complex step: T texts of one word, with given states before."""
    _, before = errors_and_states_before(params, words, targets, s_init, activation)

    def of_w(W):
        cut = params._replace(W=W)
        return loss(cut, words[np.newaxis], targets[np.newaxis], before, activation)

    return complex_step(of_w, params.W)


def whole_gradient(params, words, targets, s_init, activation):
    def of_w(W):
        return loss(params._replace(W=W), words, targets, s_init, activation)

    return complex_step(of_w, params.W)


def test_gradient_of_the_hand_example():
    params, words, targets = hand_example()
    arrays = errors_and_states_before(params, words, targets, np.zeros(2), sigmoid)
    expected = [[0.0705, -0.0962], [0.0211, 0.1285]]
    np.testing.assert_allclose(gradient_w(*arrays), expected, atol=5e-5)


def test_rows_belong_to_the_error_and_columns_to_the_state_before():
    gradient = gradient_w([[1.0, 0.0], [0.0, 2.0]], [[10.0, 100.0], [1000.0, 3.0]])
    np.testing.assert_array_equal(gradient, [[-10.0, -100.0], [-2000.0, -6.0]])


@given(st.integers(1, 20), st.integers(1, 6), st.integers(0, 10**6))
def test_gradient_is_the_sum_of_outer_products(T, size, seed):
    error, before = np.random.default_rng(seed).normal(size=(2, T, size))
    expected = -sum(np.outer(error[t], before[t]) for t in range(T))
    np.testing.assert_allclose(gradient_w(error, before), expected, atol=1e-13)


@pytest.mark.parametrize("batch", BATCHES)
def test_gradient_sums_over_all_axes_but_the_last(batch):
    error, before = np.random.default_rng(1).normal(size=(2, 5, *batch, H))
    expected = np.zeros((H, H))
    for place in np.ndindex(5, *batch):
        expected -= np.outer(error[place], before[place])
    np.testing.assert_allclose(gradient_w(error, before), expected, atol=1e-13)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("T", [1, 2, 12])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_equation_9_is_the_gradient_of_the_cut_loss(activation, T, batch):
    text = (*case(10 * T + len(batch), T, batch), activation)
    given_gradient = gradient_w(*errors_and_states_before(*text))
    true = cut_loss_gradient(*text)
    assert gradient_error(given_gradient, true) < 1e-12
    assert gradient_error(given_gradient.T, true) > 0.1


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("T", "g", "carried"), [(1, 3.0, True), (15, 0.0, True), (2, 3.0, False)]
)
def test_nothing_is_missing_in_three_cases(activation, T, g, carried):
    params, words, targets, s_init = case(26, T, g=g)
    text = (params, words, targets, s_init * carried, activation)
    given_gradient, true = (
        gradient_w(*errors_and_states_before(*text)),
        whole_gradient(*text),
    )
    assert true.any()
    assert gradient_error(given_gradient, true) < 1e-12


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("T", "carried"), [(2, True), (3, False), (10, True)])
def test_otherwise_something_is_missing(activation, T, carried):
    params, words, targets, s_init = case(22, T)
    text = (params, words, targets, s_init * carried, activation)
    given_gradient = gradient_w(*errors_and_states_before(*text))
    assert gradient_error(given_gradient, whole_gradient(*text)) > 1e-3


def test_the_first_step_tells_nothing_if_no_state_came_before():
    params, words, targets, s_init = case(23, 1)
    text = (params, words, targets, 0 * s_init, sigmoid)
    assert not gradient_w(*errors_and_states_before(*text)).any()
    assert not whole_gradient(*text).any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_two_words_miss_the_one_path_that_goes_back(activation):
    text = (*case(24, 2, g=2.0), activation)
    e_h, before = errors_and_states_before(*text)
    forgotten = -np.outer(
        (text[0].W.T @ e_h[1]) * activation.slope(before[1]), before[0]
    )
    whole = whole_gradient(*text)
    assert gradient_error(gradient_w(e_h, before) + forgotten, whole) < 1e-12


@pytest.mark.parametrize("activation", [sigmoid, tanh])
def test_the_missing_part_begins_in_proportion_to_w(activation):
    shares = []
    for g in (0.001, 0.01):
        text = (*case(25, 8, g=g), activation)
        given_gradient = gradient_w(*errors_and_states_before(*text))
        shares.append(gradient_error(given_gradient, whole_gradient(*text)))
    assert 8 < shares[1] / shares[0] < 12


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_types_pass_through(dtype):
    error, before = np.random.default_rng(30).normal(size=(2, 7, H))
    gradient = gradient_w(error.astype(dtype), before.astype(dtype))
    assert gradient.dtype == dtype
    np.testing.assert_allclose(gradient, gradient_w(error, before), atol=1e-5)


def test_the_complex_step_runs_through():
    error, before, direction = np.random.default_rng(31).normal(size=(3, 7, H))
    derivative = gradient_w(error + 1e-30j * direction, before).imag / 1e-30
    np.testing.assert_allclose(derivative, gradient_w(direction, before), atol=1e-13)


def test_integers_become_floats_and_arguments_are_left_alone():
    error, before = np.array([[1, 2]]), np.array([[3, 4]])
    gradient = gradient_w(error, before)
    np.testing.assert_array_equal(gradient, [[-3.0, -4.0], [-6.0, -8.0]])
    assert gradient.dtype == np.float64
    assert error.tolist() == [[1, 2]]
    assert before.tolist() == [[3, 4]]


def test_gradient_at_the_extremes():
    with np.errstate(all="raise", under="ignore"):
        gradient = gradient_w(np.full((2, 3), 1e-200), np.full((2, 3), 1e-200))
        assert not gradient.any()
        gradient = gradient_w(np.full((2, 3), 1e150), np.full((2, 3), 1e150))
    np.testing.assert_allclose(gradient, -2e300)


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
            r"previous_states has shape \(3, 2\): expected \(2, 2\), to fit error",
        ),
        (
            {"previous_states": np.full((3, 2), np.inf)},
            "previous_states holds inf: expected",
        ),
        ({"previous_states": np.float64(1)}, "previous_states has shape"),
        (
            {"previous_states": np.zeros((3, 1))},
            r"previous_states has shape \(3, 1\): expected",
        ),
        (
            {"previous_states": np.zeros((2, 3))},
            r"previous_states has shape \(2, 3\): expected",
        ),
        (
            {"previous_states": np.zeros((3, 1, 2))},
            r"previous_states has shape \(3, 1, 2\): exp",
        ),
        (
            {"previous_states": np.full((3, 2), "a")},
            "previous_states holds <U1: expected",
        ),
    ],
)
def test_gradient_w_refuses_by_name(change, message):
    arguments = {"error": np.zeros((3, 2)), "previous_states": np.zeros((3, 2))}
    with pytest.raises(ValueError, match=message):
        gradient_w(**{**arguments, **change})
