"""Chapter 9: recursive BPTT against the complex step, loops, and bad input."""

import tracemalloc
from importlib import import_module

import numpy as np
import pytest
from chapter import load

from rnn.bptt import bptt, send_back, total_error, truncated_error
from rnn.cross_entropy import loss, output_error
from rnn.gradient_check import complex_step, gradient_error
from rnn.gradient_u import hidden_error
from rnn.hidden_state import (
    Parameters,
    hand_example,
    hidden_states,
    init_parameters,
    relu,
    sigmoid,
    tanh,
)
from rnn.softmax import outputs
from rnn.words import SMALL_LANGUAGE, Vocabulary, sample_text, stream, tokenize

ACTIVATIONS = [sigmoid, tanh, relu]
naive_bptt = load("bptt", "naive_bptt")


def network(rng, H, N, g, dtype=np.float64):
    """U and V of order one, W of norm about 2 g."""
    U, W, V = rng.normal(size=(H, N)), rng.normal(size=(H, H)), rng.normal(size=(N, H))
    return Parameters(*(x.astype(dtype) for x in (U, g * W / np.sqrt(H), V)))


def case(rng, T, g, batch=(), low=4, high=13):
    """A random network with H and N from low to high - 1, words, targets and s(-1)."""
    H, N = rng.integers(low, high, 2).tolist()
    words, targets = rng.integers(0, N, (2, T, *batch))
    return network(rng, H, N, g), words, targets, rng.uniform(0.2, 0.8, (*batch, H))


def perturbed_loss(U, W, V, words, targets, s, activation):
    """The loss of many networks, one for each leading index; words (T, B), s (H, B)."""
    E = 0
    for word, target in zip(words, targets, strict=True):
        s = activation(U[..., word] + W @ s)
        z = V @ s
        z = z - z.real.max(axis=-2, keepdims=True)
        at_target = np.take_along_axis(
            z, np.broadcast_to(target, z[..., :1, :].shape), axis=-2
        )
        E = E + (np.log(np.exp(z).sum(axis=-2)) - at_target[..., 0, :]).sum(axis=-1)
    return E


def true_gradient(params, words, targets, s_init, activation):
    """Loss and gradient by the complex step, all elements of a matrix at once."""
    H, T = len(params.W), len(words)
    words, targets, s = (
        words.reshape(T, -1),
        targets.reshape(T, -1),
        s_init.reshape(-1, H).T,
    )
    gradient = []
    for i, matrix in enumerate(params):
        moved = list(params)
        steps = 1e-30j * np.eye(matrix.size).reshape(-1, *matrix.shape)
        moved[i] = matrix + steps
        E = perturbed_loss(*moved, words, targets, s, activation)
        gradient.append(E.imag.reshape(matrix.shape) / 1e-30)
    return E[0].real, Parameters(*gradient)


def worst_error(given, true):
    return max(gradient_error(a, b) for a, b in zip(given, true, strict=True))


# ---------------- right


def test_hand_example():
    params, words, targets = hand_example()
    E, gradient, last = bptt(params, words, targets)
    assert abs(E - 3.1595) < 5e-5
    u = [[0.0741, 0.1747, -0.2028], [-0.1579, 0.0057, 0.1601]]
    w = [[0.0784, -0.0908], [0.0432, 0.1436]]
    v = [[0.1821, 0.1543], [-0.2378, 0.2224], [0.0557, -0.3768]]
    for given, by_hand in zip(gradient, (u, w, v), strict=True):
        np.testing.assert_allclose(given, by_hand, atol=5e-5)
    np.testing.assert_allclose(last, [0.3193, 0.4213], atol=5e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("g", [0.1, 1, 3])
def test_exact_over_lengths_and_sizes(g, activation):
    rng = np.random.default_rng(int(10 * g))
    for T in range(1, 11 if g == 3 else 51):
        batch = [(), (2,), (2, 1)][T % 3]
        params, words, targets, s_init = case(rng, T, g, batch)
        E, gradient, last = bptt(params, words, targets, s_init, activation=activation)
        true_E, true = true_gradient(params, words, targets, s_init, activation)
        assert worst_error(gradient, true) <= 1e-12, T
        assert abs(E - true_E) <= 1e-12 * abs(true_E), T
        assert abs(E - loss(params, words, targets, s_init, activation)) <= 1e-15 * abs(
            E
        )
        states = hidden_states(params, words, s_init, activation)
        np.testing.assert_array_equal(last, states[-1])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("batch", [(), (2,), (1, 2)])
def test_exact_by_the_judge_itself(batch, activation):
    rng = np.random.default_rng(5)
    params, words, targets, s_init = case(rng, 7, 1, batch, high=6)
    _, gradient, _ = bptt(params, words, targets, s_init, activation=activation)
    for i, matrix in enumerate(params):

        def loss_at(x, i=i):
            moved = Parameters(
                *(x if j == i else other for j, other in enumerate(params))
            )
            return loss(moved, words, targets, s_init, activation)

        assert gradient_error(gradient[i], complex_step(loss_at, matrix)) <= 1e-12


def test_exact_on_trained_weights():
    rng = np.random.default_rng(2)
    tokens = tokenize(sample_text(SMALL_LANGUAGE, rng, 60))
    vocabulary = Vocabulary.from_tokens(tokens)
    words, targets = stream(vocabulary.encode(tokens))
    params = init_parameters(len(vocabulary), 8, rng)
    words, targets = (
        x[: len(x) // 20 * 20].reshape(20, -1).T for x in (words, targets)
    )
    first = loss(params, words, targets, activation=tanh)
    for _ in range(150):
        E, gradient, _ = bptt(params, words, targets, activation=tanh)
        moved = [p - 2 / words.size * g for p, g in zip(params, gradient, strict=True)]
        params = Parameters(*moved)
    assert first > E / 0.6
    s_init = rng.uniform(-0.8, 0.8, (20, 8))
    _, gradient, _ = bptt(params, words, targets, s_init, activation=tanh)
    _, true = true_gradient(params, words, targets, s_init, tanh)
    assert worst_error(gradient, true) <= 1e-12


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("T", [1, 2, 3, 9])
def test_every_tau_as_by_loops(T, activation):
    rng = np.random.default_rng(T)
    params, words, targets, s_init = case(rng, T, 1)
    for tau in range(T + 1):
        _, gradient, _ = bptt(params, words, targets, s_init, tau, activation)
        naive, pairs = naive_bptt(params, words, targets, s_init, tau, activation)
        assert worst_error(gradient, naive) <= 1e-12, tau
        assert pairs == sum(min(tau, t) + 1 for t in range(T))


@pytest.mark.parametrize("activation", [sigmoid, tanh])
@pytest.mark.parametrize("T", [2, 3, 6])
def test_exact_from_tau_t_minus_1_and_not_before(T, activation):
    rng = np.random.default_rng(3)
    params, words, targets, s_init = case(rng, T, 1)
    _, exact, _ = bptt(params, words, targets, s_init, activation=activation)
    for tau in (T - 1, T, 10**9, np.int64(T)):
        _, gradient, _ = bptt(params, words, targets, s_init, tau, activation)
        assert worst_error(gradient, exact) == 0
    _, gradient, _ = bptt(params, words, targets, s_init, T - 2, activation)
    assert gradient_error(gradient.U, exact.U) > 1e-7
    assert gradient_error(gradient.W, exact.W) > 1e-7
    assert gradient_error(gradient.V, exact.V) == 0
    # with s(-1) = 0 the one pair left out is multiplied by zero in dE/dW
    _, exact, _ = bptt(params, words, targets, None, activation=activation)
    _, gradient, _ = bptt(params, words, targets, None, T - 2, activation)
    assert gradient_error(gradient.U, exact.U) > 1e-7
    assert gradient_error(gradient.W, exact.W) <= 1e-15


def test_tau_0_holds_the_previous_states_constant():
    rng = np.random.default_rng(4)
    params, words, targets, s_init = case(rng, 5, 1)
    _, gradient, _ = bptt(params, words, targets, s_init, 0)
    single, state = [], s_init
    for t in range(5):
        _, one, state = bptt(params, words[t : t + 1], targets[t : t + 1], state)
        single.append(one)
    assert (
        worst_error(gradient, [sum(parts) for parts in zip(*single, strict=True)])
        <= 1e-14
    )


@pytest.mark.parametrize("batch", [(3,), (2, 3)])
@pytest.mark.parametrize("tau", [None, 0, 2])
def test_batch_is_the_sum_of_its_sequences(batch, tau):
    rng = np.random.default_rng(6)
    params, words, targets, s_init = case(rng, 5, 1, batch)
    E, gradient, last = bptt(params, words, targets, s_init, tau)
    total_E, total = 0, [np.zeros_like(matrix) for matrix in params]
    for b in np.ndindex(batch):
        at = (slice(None), *b)
        E_b, gradient_b, last_b = bptt(params, words[at], targets[at], s_init[b], tau)
        total_E += E_b
        total = [x + y for x, y in zip(total, gradient_b, strict=True)]
        np.testing.assert_allclose(last[b], last_b, rtol=1e-13)
    assert abs(E - total_E) <= 1e-13 * E
    assert worst_error(gradient, total) <= 1e-13
    assert last.shape == (*batch, len(params.W))


def test_s_init_none_is_zero_and_one_state_serves_a_batch():
    rng = np.random.default_rng(7)
    params, words, targets, s_init = case(rng, 4, 1, (3,))
    H = len(params.W)
    for given, full in (
        (None, np.zeros((3, H))),
        (s_init[0], np.stack([s_init[0]] * 3)),
    ):
        one, other = (
            bptt(params, words, targets, given),
            bptt(params, words, targets, full),
        )
        assert one[0] == other[0]
        assert worst_error(one[1], other[1]) == 0


# ---------------- the parts


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_deltas_add_what_was_sent(batch):
    rng = np.random.default_rng(8)
    T, H, N = 5, 4, 6
    params = network(rng, H, N, 1)
    e_h, slopes = rng.normal(size=(T, *batch, H)), rng.uniform(0, 1, (T, *batch, H))
    kept = e_h.copy(), slopes.copy()
    for tau in range(T + 2):
        expected = np.zeros_like(e_h)
        for t in range(T):
            error = e_h[t]
            for r in range(t, max(t - tau, 0) - 1, -1):
                if r < t:
                    error = slopes[r] * np.einsum("ij,...i->...j", params.W, error)
                expected[r] += error
        np.testing.assert_allclose(
            truncated_error(params, e_h, slopes, tau), expected, atol=1e-13
        )
    np.testing.assert_allclose(total_error(params, e_h, slopes), expected, atol=1e-13)
    np.testing.assert_array_equal((e_h, slopes), kept)
    sent = send_back(params, e_h[1:], slopes[:-1])
    np.testing.assert_allclose(
        sent, np.einsum("ij,...i->...j", params.W, e_h[1:]) * slopes[:-1]
    )


def test_exact_takes_the_one_pass_and_truncated_the_other(monkeypatch):
    module = import_module("rnn.bptt")
    params, words, targets = hand_example()

    def refuse(*args):
        raise AssertionError

    monkeypatch.setattr(module, "truncated_error", refuse)
    for tau in (None, 2, 3):
        bptt(params, words, targets, tau=tau)
    bptt(params, words[:1], targets[:1], tau=0)
    with pytest.raises(AssertionError):
        bptt(params, words, targets, tau=1)
    monkeypatch.undo()
    monkeypatch.setattr(module, "total_error", refuse)
    bptt(params, words, targets, tau=1)


def test_products_by_w_are_few(monkeypatch):
    module = import_module("rnn.bptt")
    rows = []

    def counting(params, error, slopes):
        rows.append(error.size // error.shape[-1])
        return send_back(params, error, slopes)

    monkeypatch.setattr(module, "send_back", counting)
    rng = np.random.default_rng(0)
    params, words, targets, s_init = case(rng, 30, 1)
    bptt(params, words, targets, s_init)
    assert rows == [1] * 29
    rows.clear()
    bptt(params, words, targets, s_init, 4)
    assert rows == [29, 28, 27, 26]
    rows.clear()
    bptt(params, words, targets, s_init, 0)
    assert rows == []
    e_h = slopes = np.ones((5, len(params.W)))
    truncated_error(params, e_h, slopes, 10**9)  # there is nothing left to send at T
    assert rows == [4, 3, 2, 1]


def test_memory_is_linear_in_the_length():
    rng = np.random.default_rng(0)
    H, N = 6, 10
    params = network(rng, H, N, 1)

    def peak(T, tau):
        words, targets = rng.integers(0, N, (2, T))
        tracemalloc.start()
        try:
            bptt(params, words, targets, None, tau)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    for tau in (None, 3):
        one, two = peak(2000, tau), peak(4000, tau)
        assert one < 2000 * 8 * (6 * N + 10 * H)  # a T x T array alone would be 32 MB
        assert 1.8 < two / one < 2.2


# ---------------- types


@pytest.mark.parametrize("tau", [None, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_types_follow_the_parameters(dtype, tau):
    rng = np.random.default_rng(9)
    params = network(rng, 4, 5, 1, dtype)
    words, targets = rng.integers(0, 5, (2, 6, 2))
    for s_init in (None, np.full(4, 0.5, dtype)):
        E, gradient, last = bptt(params, words, targets, s_init, tau)
        assert E.dtype == last.dtype == dtype
        assert E.shape == ()
        assert isinstance(gradient, Parameters)
        for given, matrix in zip(gradient, params, strict=True):
            assert (given.dtype, given.shape) == (dtype, matrix.shape)
    assert gradient.U.flags.f_contiguous
    e_h = slopes = np.ones((3, 4), dtype)
    assert total_error(params, e_h, slopes).dtype == dtype
    assert truncated_error(params, e_h, slopes, 1).dtype == dtype


@pytest.mark.parametrize("moved", range(3))
def test_one_matrix_of_a_wider_type(moved):
    rng = np.random.default_rng(10)
    params = list(network(rng, 4, 5, 1, np.float32))
    params[moved] = params[moved].astype(np.complex128)
    words, targets = rng.integers(0, 5, (2, 6))
    _, gradient, _ = bptt(Parameters(*params), words, targets)
    assert all(np.isfinite(matrix).all() for matrix in gradient)
    assert gradient[moved].dtype == np.complex128


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("tau", [None, 2])
def test_the_complex_step_runs_through_bptt(tau, activation):
    """The exact gradient has a symmetric derivative, a truncated one has not."""
    rng = np.random.default_rng(11)
    params, words, targets, s_init = case(rng, 6, 1)
    directions = [network(rng, *params.U.shape, 1) for _ in range(2)]

    def second(along, by):
        moved = Parameters(
            *(p + 1e-30j * d for p, d in zip(params, along, strict=True))
        )
        _, gradient, _ = bptt(moved, words, targets, s_init, tau, activation)
        return (
            sum((g.imag * d).sum() for g, d in zip(gradient, by, strict=True)) / 1e-30
        )

    one, other = second(*directions), second(*directions[::-1])
    assert (abs(one - other) <= 1e-11 * abs(one)) == (tau is None)


def test_float32_stays_near_float64():
    """The bound is from a sweep of 2160 cases: T = 1 .. 60, H and N from 4 to 12.

    Its greatest error of a matrix was 5.9e-7 at g = 0.1 and 8.5e-7 at g = 1; of the
    loss, 5.7e-7.
    """
    rng = np.random.default_rng(12)
    for g in (0.1, 1):
        for T in (1, 3, 10, 50):
            for activation in ACTIVATIONS:
                params, words, targets, s_init = case(rng, T, g, (2,))
                single = Parameters(*(matrix.astype(np.float32) for matrix in params))
                double = Parameters(*(matrix.astype(np.float64) for matrix in single))
                start = s_init.astype(np.float32)
                E, gradient, _ = bptt(
                    single, words, targets, start, activation=activation
                )
                true_E, true, _ = bptt(
                    double, words, targets, start * 1.0, activation=activation
                )
                assert worst_error(gradient, true) <= 5e-6
                assert abs(E - true_E) <= 5e-6 * true_E


def test_integers_lists_and_either_memory_order():
    params, words, targets = hand_example()
    E, gradient, last = bptt(params, words, targets, [0, 1])
    plain = [matrix.tolist() for matrix in params]
    again = bptt(plain, words.tolist(), targets.astype(np.uint8), np.array([0, 1.0]))
    assert again[0] == E
    assert worst_error(gradient, again[1]) <= 1e-15
    np.testing.assert_array_equal(last, again[2])
    turned = Parameters(*(np.asfortranarray(matrix) for matrix in params))
    assert worst_error(gradient, bptt(turned, words, targets, [0, 1])[1]) <= 1e-15


def test_arguments_stay_as_they_are():
    rng = np.random.default_rng(13)
    params, words, targets, s_init = case(rng, 6, 1, (2,))
    arrays = [*params, words, targets, s_init]
    kept = [array.copy() for array in arrays]
    for tau in (None, 2):
        bptt(params, words, targets, s_init, tau)
    for array, copy in zip(arrays, kept, strict=True):
        np.testing.assert_array_equal(array, copy)


# ---------------- extremes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tau", [None, 1])
def test_extreme_weights_raise_no_warning(dtype, tau):
    rng = np.random.default_rng(14)
    words, targets = rng.integers(0, 5, (2, 8))
    for scale in (1e-30, 1e3):
        params = Parameters(*(dtype(scale) * x for x in network(rng, 4, 5, 1, dtype)))
        with np.errstate(all="raise", under="ignore"):
            E, gradient, _ = bptt(params, words, targets, None, tau)
        assert np.isfinite(E)
        assert all(np.isfinite(matrix).all() for matrix in gradient)


def test_certain_and_wrong():
    """log y is finite where y underflows: so are the loss and the gradient."""
    params, words, targets = hand_example()
    params = params._replace(V=np.array([[1e5, 0], [0, 0], [0, 0]]))
    with np.errstate(all="raise", under="ignore"):
        E, gradient, _ = bptt(params, words, targets)
    assert E > 1e4
    assert all(np.isfinite(matrix).all() for matrix in gradient)


# ---------------- hostile input


@pytest.mark.parametrize("tau", [-1, 1.0, 2.5, True, False, np.True_, "3", np.nan, [1]])
def test_tau_must_be_a_whole_number(tau):
    params, words, targets = hand_example()
    with pytest.raises(ValueError, match=r"^tau is .*: expected an integer, 0 or more"):
        bptt(params, words, targets, tau=tau)
    with pytest.raises(ValueError, match=r"^tau is .*: expected an integer, 0 or more"):
        truncated_error(params, np.ones((3, 2)), np.ones((3, 2)), tau)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": [0, 1, 3]}, "^words holds the index 3"),
        ({"words": []}, "^words is empty"),
        ({"words": [0.0, 1.0, 2.0]}, "^words"),
        ({"targets": [1, 2]}, r"^targets has shape \(2,\): expected \(3,\)"),
        ({"targets": [1, 2, -1]}, "^targets holds the index -1"),
        ({"targets": [1, 2, 3]}, "^targets holds the index 3"),
        ({"targets": [[1, 2, 0]]}, r"^targets has shape \(1, 3\)"),
        ({"s_init": [0.0, 0.0, 0.0]}, "^s_init has shape"),
        ({"s_init": [0.0, np.nan]}, "^s_init holds nan"),
        ({"s_init": np.zeros((2, 2))}, "^s_init has shape"),
        ({"params": (np.ones((2, 3)), np.ones((2, 2)))}, "^params"),
        (
            {"params": (np.ones((2, 3)), np.ones((3, 3)), np.ones((3, 2)))},
            r"^params\.W has shape",
        ),
        (
            {"params": (np.ones((2, 3)), np.ones((2, 2)), np.ones((2, 3)))},
            r"^params\.V has shape",
        ),
        (
            {"params": (np.full((2, 3), np.inf), np.ones((2, 2)), np.ones((3, 2)))},
            r"^params\.U",
        ),
        (
            {"params": (np.ones((2, 3)), np.full((2, 2), np.nan), np.ones((3, 2)))},
            r"^params\.W",
        ),
        (
            {"params": (np.ones((2, 3)), np.ones((2, 2)), np.full((3, 2), np.nan))},
            r"^params\.V",
        ),
    ],
)
def test_bad_input_is_named(change, message):
    params, words, targets = hand_example()
    arguments = {"params": params, "words": words, "targets": targets} | change
    for tau in (None, 1):
        with pytest.raises(ValueError, match=message):
            bptt(**arguments, tau=tau)


@pytest.mark.parametrize(
    "function", [total_error, lambda *args: truncated_error(*args, 1)]
)
def test_bad_errors_are_named(function):
    params, _, _ = hand_example()
    e_h = slopes = np.ones((3, 2))
    with pytest.raises(
        ValueError, match=r"^slopes has shape \(2, 2\): expected \(3, 2\)"
    ):
        function(params, e_h, slopes[:2])
    with pytest.raises(
        ValueError, match=r"^slopes has shape \(2,\): expected \(3, 2\)"
    ):
        function(params, e_h, slopes[0])
    with pytest.raises(ValueError, match=r"^slopes holds inf"):
        function(params, e_h, slopes * np.inf)
    with pytest.raises(ValueError, match=r"^e_h has shape \(2,\)"):
        function(params, e_h[0], slopes[0])
    with pytest.raises(ValueError, match=r"^e_h has shape \(3, 3\)"):
        function(params, np.ones((3, 3)), np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"^e_h holds nan"):
        function(params, e_h * np.nan, slopes)
    with pytest.raises(ValueError, match=r"^params\.W has shape"):
        function(params._replace(W=np.ones((3, 3))), e_h, slopes)
    with pytest.raises(ValueError, match=r"^params\.W holds nan"):
        function(params._replace(W=np.full((2, 2), np.nan)), e_h, slopes)


# ---------------- the chapter's own tools


def test_load_wants_one_definition():
    with pytest.raises(LookupError, match="defines nothing_of_the_kind in 0 cells"):
        load("bptt", "nothing_of_the_kind")


def test_delta_is_the_derivative_by_the_preactivation():
    """dE/da(t) by moving a(t): column w(t) of U, for a word that occurs once."""
    rng = np.random.default_rng(15)
    params, words, targets = network(rng, 4, 6, 1), np.arange(6), rng.integers(0, 6, 6)
    states = hidden_states(params, words)
    e_h = hidden_error(params, output_error(outputs(params, states), targets), states)
    delta = total_error(params, e_h, sigmoid.slope(states))
    slope = complex_step(lambda U: loss(params._replace(U=U), words, targets), params.U)
    np.testing.assert_allclose(-delta.T, slope, atol=1e-14)
