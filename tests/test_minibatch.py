"""Chapter 12: chunks of many sequences, against the chapters before; threads."""

import math
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from rnn import minibatch
from rnn.bptt import bptt
from rnn.cross_entropy import loss, output_error
from rnn.gradient_check import complex_step, gradient_error
from rnn.gradient_v import gradient_v
from rnn.hidden_state import Activation, Parameters, relu, sigmoid, tanh
from rnn.minibatch import (
    ChunkLearner,
    Dropout,
    OutputLayer,
    Stripe,
    Tiles,
    clip_factor,
    column_sums,
    dropout_mask,
    step_cost,
    workers,
)
from rnn.sgd import DivergenceError, adagrad_step, adam_step, sgd_step
from rnn.softmax import log_softmax

ACTIVATIONS = [sigmoid, tanh, relu]


@pytest.fixture(scope="module")
def pool():
    with workers(2) as pool:
        yield pool


def network(seed=0, H=4, N=7, dtype=np.float64):
    """U and V of order one, W of norm about 1, U in Fortran order."""
    rng = np.random.default_rng(seed)
    U, W, V = (rng.normal(size=shape) for shape in ((N, H), (H, H), (N, H)))
    matrices = (U.T, W / (2 * np.sqrt(H)), V)
    return Parameters(*(matrix.astype(dtype) for matrix in matrices))


def text(T, B=3, N=7, seed=1):
    return np.random.default_rng(seed).integers(0, N, (2, T, B))


def copied(params):
    return Parameters(*(matrix.copy(order="K") for matrix in params))


def equal(given, expected):
    return all((a == b).all() for a, b in zip(given, expected, strict=True))


def dense(gradient, params):
    """A gradient's three matrices, with the columns that are zero."""
    U = np.zeros_like(params.U)
    U[:, gradient.words] = gradient.columns.T
    return Parameters(U, gradient.W, gradient.V.copy())


def mean_gradient(params, words, targets, state=None, tau=None, activation=sigmoid):
    """E, the gradient of E / B, and the last states, as `bptt` gives them."""
    E, gradient, last = bptt(params, words, targets, state, tau, activation)
    return E, Parameters(*(matrix / words.shape[1] for matrix in gradient)), last


def norm(gradient):
    return math.sqrt(sum(float((matrix**2).sum()) for matrix in gradient))


def assert_same(given, expected, tolerance=1e-12, least=1e-3):
    """Each matrix within the tolerance of its greatest element, or of the least."""
    for name, a, b in zip("UWV", given, expected, strict=True):
        assert a.shape == b.shape, name
        assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), least), name


# The small functions


def test_a_word_costs_three_products_of_each_matrix():
    for N, H in ((1, 1), (7, 3), (10_000, 650)):
        assert step_cost(N, H) == 3 * (H * N + H * H)


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 9))
def test_rows_are_summed_by_word(rows, H, N):
    rng = np.random.default_rng(rows)
    words, errors = rng.integers(0, N, rows), rng.normal(size=(rows, H))
    expected = np.zeros((N, H))
    np.add.at(expected, words, errors)
    found, sums = column_sums(words, errors)
    assert found.tolist() == sorted(set(words.tolist()))
    np.testing.assert_allclose(sums, expected[found], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("length", "limit", "factor"),
    [(8.0, 2.0, 0.25), (2.0, 2.0, 1.0), (1.9, 2.0, 1.0), (0.0, 0.0, 1.0)],
)
def test_a_gradient_is_scaled_to_the_limit(length, limit, factor):
    assert clip_factor(length, limit) == factor


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_a_mask_keeps_is_enlarged(dtype):
    mask = dropout_mask(np.random.default_rng(1), (200, 300), 0.2, dtype)
    assert mask.shape == (200, 300)
    assert mask.dtype == dtype
    assert set(np.unique(mask).tolist()) == {0, dtype(1 / 0.8)}
    deviation = math.sqrt(0.2 * 0.8 / mask.size)
    assert abs((mask == 0).mean() - 0.2) < 5 * deviation
    assert abs(mask.mean(dtype=float) - 1) < 5 * deviation / 0.8


def test_a_mask_that_keeps_all_is_one():
    mask = dropout_mask(np.random.default_rng(1), (50,), 0.0)
    assert mask.tolist() == [1] * 50
    assert mask.dtype == np.float64


class Fixed:
    """A generator that draws what it was told."""

    def __init__(self, *numbers):
        self.numbers = np.array(numbers, np.float32)

    def random(self, shape, dtype):
        return self.numbers.astype(dtype).reshape(shape)


def test_what_is_drawn_is_dropped_below_p():
    mask = dropout_mask(Fixed(0, 0.2, 0.25, 0.9), (2, 2), 0.25)
    assert mask.tolist() == [[0, 0], [4 / 3, 4 / 3]]
    assert dropout_mask(Fixed(0), (1,), 0).tolist() == [1]


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, math.nan])
def test_a_share_out_of_range_is_refused(p):
    message = f"^p is {re.escape(str(p))}: expected a number from 0 to below 1$"
    with pytest.raises(ValueError, match=message):
        dropout_mask(np.random.default_rng(1), (2,), p)


# Tiles


@pytest.mark.parametrize(
    ("H", "rows", "count"),
    [
        (1, 3, 1),
        (12, 7, 1),
        (100, 100, 1),  # 10^6: one tile holds it
        (100, 101, 2),
        (100, 200, 2),
        (100, 201, 4),  # 3 is no divisor
        (300, 20, 2),
        (64, 7800, 32),  # just below 32 * 10^6
        (64, 7813, 1),  # more than the most tiles hold
        (101, 101, 1),  # a prime
        (66, 7116, 1),  # 33 tiles are too many
    ],
)
def test_tiles_make_the_product_by_the_transpose(H, rows, count):
    rng = np.random.default_rng(H)
    W, s = rng.normal(size=(H, H)), rng.normal(size=(min(rows, 20), H))
    for matrix in (W, W.T):
        tiles = Tiles(matrix, rows)
        assert len(tiles._tiles) == count
        assert np.shares_memory(tiles._tiles, W)
        for left in (s, s[:1]):
            product = left @ tiles
            assert product.shape == left.shape
            assert gradient_error(product, left @ matrix.T) <= 1e-13


# Workers


def test_there_are_as_many_workers_as_asked_for(monkeypatch):
    for count in (2, 3):
        with workers(count) as pool:
            assert pool._max_workers == count
    for processors, count in ((3, 3), (2, 2), (1, None), (None, None)):
        monkeypatch.setattr(minibatch.os, "cpu_count", lambda n=processors: n)
        with workers() as pool:
            assert (pool and pool._max_workers) == count
    with workers(1) as pool:
        assert pool is None


@pytest.mark.parametrize("count", [0, -2, 1.5, True])
def test_no_workers_are_refused(count):
    message = f"^count is {count}: expected an integer, 1 or more$"
    with pytest.raises(ValueError, match=message), workers(count):
        pass


def blas_threads():
    return {
        library["num_threads"]
        for library in threadpool_info()
        if library["user_api"] == "blas"
    }


def test_among_workers_each_product_is_made_by_one_thread():
    with threadpool_limits(2, "blas"):
        with workers(1):
            assert blas_threads() == {1}
        assert blas_threads() == {2}
        with pytest.raises(ArithmeticError), workers(1):
            raise ArithmeticError
        assert blas_threads() == {2}


def test_an_exception_reaches_the_caller_when_all_tasks_have_ended(pool):
    ended = []

    def slow():
        time.sleep(0.05)
        ended.append(True)

    with pytest.raises(ZeroDivisionError):
        minibatch._all(pool, [lambda: 1 / 0, slow])
    assert ended


# The output layer alone


def layer_by_formulas(V, states, targets, scale):
    """Costs, V^T e_o and scale dE/dV, with y stored."""
    log_y = log_softmax(states @ V.T)
    e_o = output_error(np.exp(log_y), targets)
    costs = -np.take_along_axis(log_y, targets[:, np.newaxis], axis=1)[:, 0]
    return costs, e_o @ V, scale * gradient_v(e_o, states)


def check_layer(pool, V, states, targets, scale=0.7, tolerance=1e-12):
    layer = OutputLayer(V, len(states) + 2, pool)
    costs, sent = layer.forward(states, targets)
    squares = minibatch._all(pool, layer.backward(states, scale))
    expected = layer_by_formulas(V, states, targets, scale)
    size = max(1, np.abs(V).max())  # what the differences are taken of
    largest = max(1, np.abs(expected[0]).max())
    assert np.abs(costs - expected[0]).max() <= tolerance * largest
    assert np.abs(sent - expected[1]).max() <= tolerance * size
    least = scale * np.abs(states).max()
    assert np.abs(layer.gradient - expected[2]).max() <= tolerance * least
    assert sum(squares) == pytest.approx((expected[2] ** 2).sum(), rel=1e-9, abs=1e-25)
    assert costs.shape == (len(states),)
    assert sent.shape == states.shape


@pytest.mark.parametrize("N", [1, 2, 5, 8, 9, 15, 16, 17, 60])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_an_output_layer_of_any_size(pool, N, rows):
    rng = np.random.default_rng(N)
    states = rng.normal(size=(rows, 3))
    check_layer(pool, rng.normal(size=(N, 3)), states, rng.integers(0, N, rows))


@pytest.mark.parametrize("factor", [1e2, 1e4, -1e4])
@pytest.mark.parametrize("changed", [slice(None), slice(2, 3), slice(0, 4)])
def test_logits_far_from_zero(pool, factor, changed):
    rng = np.random.default_rng(3)
    V, states = rng.uniform(0.1, 1, (20, 3)), rng.uniform(0.1, 1, (6, 3))
    states[changed] *= factor  # all logits of these rows are far above or below zero
    check_layer(pool, V, states, rng.integers(0, 20, 6))


@pytest.mark.parametrize("logit", [-707.5, -400, -300, 300, 400, 706])
def test_exponentials_at_the_ends_of_the_range(pool, logit):
    """What they are multiplied by must not overflow."""
    V = np.column_stack([np.full(4, 100.0), [0.1, 0.2, -0.1, 0.3]])
    states = np.array([[logit / 100, 0.5], [0.1, 0.2]])
    targets = np.array([3, 0])
    check_layer(pool, V, states, targets, scale=1e3, tolerance=1e-10)


def test_ordinary_logits_are_made_once(pool, monkeypatch):
    def refuse(*_):
        raise AssertionError("the largest logits were looked for")

    monkeypatch.setattr(Stripe, "leaders", refuse)
    V, states = network(0).V, np.random.default_rng(2).normal(size=(5, 4))
    check_layer(pool, V, states, np.array([0, 6, 2, 2, 1]))


@pytest.mark.parametrize("count", [1, 5, 8])
@pytest.mark.parametrize("N", [1, 3, 8, 83, 121, 127, 128, 131, 1000, 10_000])
def test_the_words_are_cut_into_stripes_of_equal_length(pool, N, count):
    """At multiples of 16, if there are enough words."""
    stripes = OutputLayer(np.zeros((N, 2)), 1, pool, count).stripes
    assert len(stripes) == min(N, count)
    check_pieces([slice(s.first, s.first + len(s.V)) for s in stripes], N, count)
    for stripe in stripes:
        assert len(stripe.halves) == min(len(stripe.V), 2)
        check_pieces(stripe.halves, len(stripe.V), 2)


def check_pieces(pieces, length, count):
    """One behind the other, of nearly equal length."""
    unit = 16 if length >= 16 * count else 1
    edges = [0, *(piece.stop for piece in pieces)]
    assert [piece.start for piece in pieces] == edges[:-1]
    assert edges[-1] == length
    assert all(edge % unit == 0 for edge in edges[:-1])
    lengths = np.diff(edges)
    assert max(lengths) - min(lengths) <= (2 * unit if unit > 1 else 1)


# Another output layer


class Recorded(OutputLayer):
    """The usual output layer, which notes what it was made of."""

    def __init__(self, V, rows, pool):
        super().__init__(V, rows, pool, stripes=1)
        self.given = rows, pool


@pytest.mark.parametrize("limit", [0.05, math.inf])
def test_an_output_layer_may_be_given(pool, limit):
    params, (words, targets) = network(), text(3)
    plain, layers = copied(params), []

    def output(*given):
        layers.append(Recorded(*given))
        return layers[-1]

    learner = ChunkLearner(params, 3, 4, pool, limit=limit, output=output)
    usual = ChunkLearner(plain, 3, 4, pool, limit=limit)
    for _ in range(3):
        E = learner.learn(words, targets, 0.3)
        assert pytest.approx(usual.learn(words, targets, 0.3), rel=1e-12) == E
    assert_same(params, plain)
    (layer,) = layers
    assert layer.V is params.V
    assert layer.given == (12, pool)
    assert learner.gradient(words, targets)[1].V is layer.gradient


@pytest.mark.parametrize(
    ("name", "output"), [("adam", OutputLayer), ("Adam", None), (True, None)]
)
def test_optimizers_that_cannot_learn_are_refused(pool, name, output):
    message = (
        f"^optimizer is {name!r}: expected sgd, adagrad, or, without an output of its "
        "own, adam$"
    )
    with pytest.raises(ValueError, match=message):
        ChunkLearner(network(), 3, 4, pool, optimizer=name, output=output)


# The gradient of a chunk


@pytest.mark.parametrize("T", [1, 2, 5])
@pytest.mark.parametrize("tau", [None, 0, 1, 2])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_the_state_is_carried_over_chunks(pool, T, tau, activation):
    params = network()
    words, targets = text(12)
    learner = ChunkLearner(params, 3, 5, pool, activation, tau)
    assert learner.state.shape == (3, 4)
    assert not learner.state.any()
    total, state = 0.0, None
    for start in range(0, 12, T):
        chunk = words[start : start + T], targets[start : start + T]
        E, gradient = learner.gradient(*chunk)
        _, expected, state = mean_gradient(params, *chunk, state, tau, activation)
        assert_same(dense(gradient, params), expected)
        total += E
    whole, _, last = bptt(params, words, targets, None, tau, activation)
    assert total == pytest.approx(whole, rel=1e-12)
    np.testing.assert_allclose(learner.state, last, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("tau", [5, 6, 7])
def test_tau_from_t_minus_1_on_goes_back_in_one_pass(pool, tau):
    params, (words, targets) = network(), text(6)
    exact, given = (
        ChunkLearner(params, 3, 6, pool, tau=steps).gradient(words, targets)[1]
        for steps in (None, tau)
    )
    assert equal(exact[1:3], given[1:3])  # to the last bit


cases = given(
    seed=st.integers(0, 2**32 - 1),
    T=st.integers(1, 8),
    B=st.integers(1, 7),
    H=st.integers(1, 40),
    N=st.integers(1, 60),
    tau=st.none() | st.integers(0, 8),
    activation=st.sampled_from(ACTIVATIONS),
    size=st.sampled_from([1.0, 300.0, 1e4]),
    dtype=st.sampled_from([np.float64, np.float64, np.float32]),
)


def check_gradient(pool, seed, T, B, H, N, tau, activation, size=1.0, dtype=float):
    """The gradient of a random chunk, with logits up to about `size`."""
    rng = np.random.default_rng(seed)
    U, V = rng.normal(size=(N, H)).T, rng.normal(size=(N, H))
    W = rng.choice([0.2, 0.6, 1.0]) * rng.normal(size=(H, H)) / math.sqrt(H)
    V *= size / np.abs(V).sum(axis=1).max()
    low = Parameters(*(matrix.astype(dtype) for matrix in (U, W, V)))
    words, targets = rng.integers(0, N, (2, T, B))
    learner = ChunkLearner(low, B, T + 1, pool, activation, tau)
    learner.state = rng.uniform(0.2, 0.8, (B, H)).astype(dtype)
    params = Parameters(*(matrix.astype(float) for matrix in low))
    state = learner.state.astype(float)
    expected_E, expected, last = mean_gradient(
        params, words, targets, state, tau, activation
    )
    E, gradient = learner.gradient(words, targets)
    single = dtype is np.float32
    unit = 1e-6 * (1 + size * H**0.5) if single else 1e-12
    largest = max(1, np.abs(last).max())  # of the states; the logits are size times it
    np.testing.assert_allclose(E, expected_E, rtol=unit, atol=unit * size * largest)
    np.testing.assert_allclose(learner.state, last, rtol=0, atol=unit * largest)
    found = dense(gradient, low)
    # with one word a gradient is nothing but rounding; in other cases it may be
    least = largest * (size if N == 1 or single or size > 1 else 1e-3)
    assert_same(found, expected, unit, least)
    assert gradient.words.tolist() == sorted(set(words.ravel().tolist()))
    assert gradient.norm == pytest.approx(norm(found), rel=1e-4 if single else 1e-12)
    assert {matrix.dtype for matrix in gradient[1:4]} == {np.dtype(dtype)}


@settings(max_examples=250)
@cases
def test_the_gradient_of_a_chunk_is_that_of_bptt(pool, **case):
    check_gradient(pool, **case)


@pytest.mark.parametrize("tau", [None, 1])
def test_a_hidden_layer_in_tiles(pool, tau):
    """The products of both ways are tiled, each for its number of rows."""
    H, B = 510, 9
    assert [len(Tiles(np.eye(H), rows)._tiles) for rows in (5, B)] == [2, 3]
    check_gradient(pool, 1, 3, B, H, 5, tau, tanh)


@pytest.mark.parametrize(("H", "B"), [(700, 9), (2001, 1)])
def test_a_large_hidden_layer_by_halves_of_the_lanes(pool, H, B):
    """So large that half of the lanes is a task, of one lane the whole."""
    N, T, rng = 3, 2, np.random.default_rng(1)
    U, V = rng.normal(size=(N, H)).T, rng.normal(size=(N, H))
    W = np.zeros((H, H), np.float32)
    rows, columns = rng.integers(0, H, (2, 10 * H))
    W[rows, columns] = rng.uniform(-0.3, 0.3, 10 * H)
    params = Parameters(U.astype(np.float32), W, V.astype(np.float32))
    words, targets = text(T, B, N)
    learner = ChunkLearner(params, B, T, pool, dropout=Dropout(inputs=0.3))
    learner.gradient(words, targets, np.random.default_rng(7))
    mask = dropout_mask(np.random.default_rng(7), (T, B, H), 0.3, np.float32)
    s = np.zeros((B, H), np.float32)
    for t in range(T):
        s = sigmoid(params.U.T[words[t]] * mask[t] + s @ W.T)
    np.testing.assert_allclose(learner.state, s, rtol=1e-4)


# The complex step, with and without dropout


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_the_gradient_is_the_derivative_of_the_loss(pool, activation):
    params, (words, targets) = network(), text(3)
    learner = ChunkLearner(params, 3, 3, pool, activation)
    learner.state += 0.3
    E, gradient = learner.gradient(words, targets)
    expected = loss(params, words, targets, np.full(4, 0.3), activation)
    np.testing.assert_allclose(E, expected, rtol=1e-12)
    for i, slope in enumerate(dense(gradient, params)):

        def at(matrix, i=i):
            changed = [*params[:i], matrix, *params[i + 1 :]]
            return loss(changed, words, targets, np.full(4, 0.3), activation) / 3

        assert gradient_error(slope, complex_step(at, params[i])) <= 1e-12


def dropped_loss(params, words, targets, s, masks, activation):
    """E of a network of which the masks leave a part, step by step."""
    U, W, V = params
    E = 0
    for t in range(len(words)):
        s = activation(U.T[words[t]] * masks.inputs[t] + s @ (W * masks.weights).T)
        z = (s * masks.states[t]) @ V.T
        for lane, target in enumerate(targets[t]):
            E = E + np.log(np.exp(z[lane]).sum()) - z[lane, target]
    return E


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize(
    "dropout",
    [
        Dropout(inputs=0.4),
        Dropout(states=0.4),
        Dropout(weights=0.4),
        Dropout(0.3, 0.4, 0.2),
    ],
    ids=["inputs", "states", "weights", "all"],
)
def test_the_gradient_with_dropout_is_that_of_the_network_that_is_left(
    pool, dropout, activation
):
    T, B, H = 4, 3, 4
    params, (words, targets) = network(), text(T, B)
    rng = np.random.default_rng(7)
    masks = Dropout(
        *(
            dropout_mask(rng, shape, p) if p else np.ones(shape)
            for shape, p in zip([(T, B, H), (T, B, H), (H, H)], dropout, strict=True)
        )
    )
    learner = ChunkLearner(params, B, T, pool, activation, dropout=dropout)
    learner.state += 0.3
    start = learner.state
    E, gradient = learner.gradient(words, targets, np.random.default_rng(7))
    expected = dropped_loss(params, words, targets, start, masks, activation)
    np.testing.assert_allclose(E, expected, rtol=1e-12)
    for i, slope in enumerate(dense(gradient, params)):

        def at(matrix, i=i):
            changed = [*params[:i], matrix, *params[i + 1 :]]
            return dropped_loss(changed, words, targets, start, masks, activation) / B

        assert gradient_error(slope, complex_step(at, params[i])) <= 1e-12


def test_every_chunk_is_dropped_anew_and_none_without_dropout(pool):
    params, (words, targets) = network(), text(2)
    rng, learner = np.random.default_rng(1), ChunkLearner(params, 3, 2, pool)
    before = rng.bit_generator.state
    learner.gradient(words, targets, rng)
    assert rng.bit_generator.state == before
    learner = ChunkLearner(params, 3, 2, pool, dropout=Dropout(0.5, 0.5, 0.5))
    costs = set()
    for _ in range(4):
        learner.state = np.zeros((3, 4))
        costs.add(learner.gradient(words, targets, rng)[0])
    assert len(costs) == 4


# Learning


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
@pytest.mark.parametrize("limit", [0.05, 1e6])
@pytest.mark.parametrize("tau", [None, 1])
def test_learning_takes_the_steps_of_the_chapters_before(pool, optimizer, limit, tau):
    params, (words, targets) = network(), text(12)
    expected, memory, state = copied(params), None, None
    alpha = {"sgd": 0.3, "adagrad": 0.4, "adam": 0.03}[optimizer]
    places = [matrix.ctypes.data for matrix in params]
    learner = ChunkLearner(params, 3, 3, pool, tanh, tau, limit, optimizer=optimizer)
    for start in range(0, 12, 3):
        chunk = words[start : start + 3], targets[start : start + 3]
        E, gradient, state = mean_gradient(expected, *chunk, state, tau, tanh)
        factor = min(1, limit / norm(gradient))
        assert (factor < 1) == (limit < 1)
        clipped = Parameters(*(factor * matrix for matrix in gradient))
        if optimizer == "sgd":
            sgd_step(expected, clipped, alpha)
        else:
            step = {"adam": adam_step, "adagrad": adagrad_step}[optimizer]
            memory = step(expected, clipped, memory, alpha)
        assert learner.learn(*chunk, alpha) == pytest.approx(E, rel=1e-10)
        assert_same(params, expected, 1e-10)
    assert [matrix.ctypes.data for matrix in params] == places
    assert (learner.moments is None) == (optimizer != "adam")
    assert (learner.sums is None) == (optimizer != "adagrad")
    if optimizer == "adam":
        assert learner.moments.steps == 4
        assert_same(learner.moments.mean, memory.mean, 1e-10, 0)
        assert_same(learner.moments.square, memory.square, 1e-10, 0)
    elif optimizer == "adagrad":
        assert_same(learner.sums, memory, 1e-10, 0)


def test_adam_takes_many_rows_a_part_at_a_time(pool):
    H, N = 300, 500
    params, (words, targets) = network(H=H, N=N), text(2, 2, N)
    expected = copied(params)
    learner = ChunkLearner(params, 2, 2, pool, optimizer="adam", limit=1e6)
    learner.learn(words, targets, 0.1)
    adam_step(expected, mean_gradient(expected, words, targets)[1], None, 0.1)
    # where a gradient is near 0, Adam makes much of its rounding
    assert_same(params, expected, 1e-8)


def test_the_limit_itself_is_not_clipped(pool):
    start, (words, targets) = network(), text(3)
    _, gradient = ChunkLearner(start, 3, 3, pool).gradient(words, targets)
    given = []
    for limit in (gradient.norm, 1e9, gradient.norm / 2):
        params = copied(start)
        ChunkLearner(params, 3, 3, pool, limit=limit).learn(words, targets, 1.0)
        given.append(params)
    assert equal(given[0], given[1])
    _, whole, _ = mean_gradient(start, words, targets)
    halved = [m - g / 2 for m, g in zip(start, whole, strict=True)]
    assert_same(given[2], halved)


def test_the_limit_is_5_unless_given(pool):
    start, (words, targets) = network(), text(3)
    start.V[:] *= 20
    ends = [copied(start), copied(start)]
    for params, limit in zip(ends, ({}, {"limit": 5.0}), strict=True):
        learner = ChunkLearner(params, 3, 3, pool, **limit)
        assert learner.gradient(words, targets)[1].norm > 6
        learner.learn(words, targets, 0.1)
    assert equal(*ends)


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
def test_a_rate_of_zero_changes_nothing(pool, optimizer):
    params, (words, targets) = network(), text(3)
    before = copied(params)
    learner = ChunkLearner(params, 3, 3, pool, optimizer=optimizer)
    E = learner.learn(words, targets, 0)
    assert pytest.approx(loss(before, words, targets), rel=1e-12) == E
    assert equal(params, before)


def test_only_columns_that_were_read_change(pool):
    params, (words, targets) = network(), text(3)
    words %= 4
    before = copied(params)
    ChunkLearner(params, 3, 3, pool).learn(words, targets, 0.1)
    changed = (params.U != before.U).any(axis=0)
    assert changed.tolist() == [n in words for n in range(7)]


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
def test_learning_keeps_single_precision(pool, optimizer):
    params, (words, targets) = network(dtype=np.float32), text(3)
    dropout = Dropout(0.1, 0.1, 0.1)
    learner = ChunkLearner(params, 3, 3, pool, dropout=dropout, optimizer=optimizer)
    for seed in range(2):
        E, gradient = learner.gradient(words, targets, np.random.default_rng(seed))
        learner.learn(words, targets, 0.1, np.random.default_rng(seed))
    kept = [*params, *gradient[1:4], learner.state]
    if learner.moments:
        kept += [*learner.moments.mean, *learner.moments.square]
    kept += learner.sums or []
    assert {array.dtype for array in kept} == {np.dtype(np.float32)}
    assert type(E) is float


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
def test_how_many_workers_there_are_changes_no_bit(optimizer):
    ends = []
    for count in (1, 2, 3):
        params = network(H=33, N=50)
        with workers(count) as pool:
            learner = ChunkLearner(
                params,
                5,
                4,
                pool,
                dropout=Dropout(0.2, 0.2, 0.2),
                optimizer=optimizer,
                limit=0.5,
            )
            rng = np.random.default_rng(3)
            costs = [
                learner.learn(*text(4, 5, 50, seed), 0.01, rng) for seed in range(4)
            ]
        ends.append([costs, learner.state, *params])
    for other in ends[1:]:
        for found, expected in zip(other, ends[0], strict=True):
            np.testing.assert_array_equal(found, expected)


def test_two_learners_share_nothing_but_the_pool(pool):
    def learners():
        return [
            ChunkLearner(network(0), 3, 4, pool, tanh, optimizer="adam"),
            ChunkLearner(network(1), 2, 4, pool, dropout=Dropout(0.5)),
        ]

    def step(learner, seed):
        words, targets = text(4, len(learner.state), seed=seed)
        learner.learn(words, targets, 0.1, np.random.default_rng(seed))

    together, apart = learners(), learners()
    for seed in range(3):
        for learner in together:
            step(learner, seed)
    for learner in apart:
        for seed in range(3):
            step(learner, seed)
    for learner, alone in zip(together, apart, strict=True):
        assert equal(learner.params, alone.params)
        assert (learner.state == alone.state).all()
        assert learner.cost == alone.cost
    assert together[0].moments.steps == 3


def test_a_learner_goes_on_after_an_exception_in_a_task(pool):
    broken = []

    def slope(s):
        if broken:
            raise ArithmeticError("broken")
        return sigmoid.slope(s)

    params, (words, targets) = network(), text(3)
    activation = Activation(lambda z: sigmoid(z), slope)
    activation.__name__ = "sigmoid"
    learner = ChunkLearner(params, 3, 3, pool, activation)
    before, state = copied(params), learner.state
    broken.append(True)
    with pytest.raises(ArithmeticError, match=r"^broken$"):
        learner.learn(words, targets, 0.1)
    assert equal(params, before)
    assert learner.state is state
    broken.clear()
    learner.learn(words, targets, 0.1)
    ChunkLearner(before, 3, 3, pool).learn(words, targets, 0.1)
    assert equal(params, before)


def test_learning_lowers_the_cost_of_what_is_learnt(pool):
    params, (words, _) = network(), text(4)
    targets = (words + 1) % 7
    for optimizer, alpha in (("sgd", 0.5), ("adam", 0.05), ("adagrad", 0.5)):
        learner = ChunkLearner(copied(params), 3, 4, pool, optimizer=optimizer)
        costs = []
        for _ in range(30):
            learner.state = np.zeros((3, 4))
            costs.append(learner.learn(words, targets, alpha))
        assert costs[-1] < costs[0] / 2


# The watch on divergence


@pytest.mark.parametrize("size", [0.0, 10.0])
def test_the_ceiling_lies_a_nat_above_the_first_cost_and_above_log_n(pool, size):
    params, (words, targets) = network(), text(3)
    params.V[:] *= size
    learner = ChunkLearner(params, 3, 3, pool)
    assert learner.cost is None
    learner.learn(words, targets, 0)
    mean = loss(params, words, targets) / 9
    assert learner.cost == pytest.approx(mean, rel=1e-12)
    assert (mean > math.log(7)) == (size > 1)
    ceiling = max(mean, math.log(7)) + 1
    for excess in (-1e-6, 1e-6):
        learner.state = np.zeros((3, 4))
        learner.cost = (10 * (ceiling + excess) - mean) / 9  # moves on to the sum
        if excess < 0:
            learner.learn(words, targets, 0)
            assert learner.cost == pytest.approx(ceiling - 1e-6, rel=1e-12)
        else:
            with pytest.raises(DivergenceError):
                learner.learn(words, targets, 0)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
def test_a_rate_far_too_large_is_told_and_leaves_the_parameters(
    pool, activation, optimizer
):
    params, (words, targets) = network(), text(30)
    learner = ChunkLearner(params, 3, 3, pool, activation, optimizer=optimizer)
    message = (
        r"^alpha is 100: learning diverged, the running mean of a word's cost is "
        r"[0-9.e+]+ nats; take a smaller alpha$"
    )
    ends = []

    def learn_all():
        for start in range(0, 30, 3):
            ends.append(copied(params))
            learner.learn(words[start : start + 3], targets[start : start + 3], 100)

    with pytest.raises(DivergenceError, match=message):
        learn_all()
    assert len(ends) > 1
    assert equal(params, ends[-1])
    assert np.isfinite(np.concatenate([matrix.ravel() for matrix in params])).all()


@pytest.mark.parametrize("tau", [None, 0])
@pytest.mark.parametrize(("dtype", "alpha"), [(float, 1e200), (np.float32, 1e40)])
def test_a_gradient_that_overflows_is_told_without_a_warning(pool, tau, dtype, alpha):
    params, (words, targets) = network(dtype=dtype), text(3)
    before = copied(params)
    learner = ChunkLearner(params, 3, 3, pool, tau=tau)
    with pytest.raises(DivergenceError, match=r"^alpha is 1e\+.*: learning diverged"):
        learner.learn(words, targets, alpha)
    assert equal(params, before)


@pytest.mark.parametrize("tau", [None, 0, 1])
def test_one_lane_that_overflows_is_told(pool, tau):
    params, (words, targets) = network(), text(3)
    params.V[0] = 1e308
    before = copied(params)
    learner = ChunkLearner(params, 3, 3, pool, relu, tau)
    learner.state = np.zeros((3, 4))
    learner.state[1] = 1e10
    with pytest.raises(DivergenceError, match=r"^alpha is 0.1: learning diverged"):
        learner.learn(words, targets, 0.1)
    assert equal(params, before)


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": 0}, "lanes is 0: expected an integer, 1 or more"),
        ({"lanes": 1.5}, "lanes is 1.5: expected an integer, 1 or more"),
        ({"chunk": -1}, "chunk is -1: expected an integer, 1 or more"),
        ({"chunk": None}, "chunk is None: expected an integer, 1 or more"),
        ({"lanes": True}, "lanes is True: expected an integer, 1 or more"),
        ({"tau": -1}, "tau is -1: expected an integer, 0 or more"),
        ({"tau": 1.5}, "tau is 1.5: expected an integer, 0 or more"),
        ({"limit": 0}, "limit is 0: expected a number above 0"),
        ({"limit": math.nan}, "limit is nan: expected a number above 0"),
        (
            {"params": network()._replace(V=np.asfortranarray(network().V))},
            "params.V is not in C order: expected a copy that is",
        ),
        (
            {"params": network()._replace(W=np.zeros((4, 4), int))},
            "params.W can't be changed in place: expected a writable array of floats, "
            "such as a copy of it",
        ),
        (
            {"params": network()._replace(U=np.full((4, 7), np.inf))},
            "params.U holds inf: expected finite numbers",
        ),
        ({"params": network()[:2]}, "params is a tuple: expected three arrays"),
    ],
)
def test_what_a_learner_is_not_made_of(pool, change, message):
    arguments = {"params": network(), "lanes": 3, "chunk": 4, "pool": pool, **change}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        ChunkLearner(**arguments)


def test_one_lane_and_chunks_of_one_step_of_any_integer_type(pool):
    learner = ChunkLearner(network(), np.int64(1), np.int32(1), pool, limit=1e-300)
    assert learner.learn([[1]], [[2]], 0.1) > 0
    assert learner.limit == 1e-300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": -0.1}, "alpha is -0.1: expected a finite number, 0 or more"),
        ({"alpha": math.nan}, "alpha is nan: expected a finite number, 0 or more"),
        (
            {"words": np.zeros(3, int)},
            "words has shape (3,): expected (T, 3), T at most 4",
        ),
        (
            {"words": np.zeros((2, 2), int)},
            "words has shape (2, 2): expected (T, 3), T at most 4",
        ),
        (
            {"words": np.zeros((5, 3), int)},
            "words has shape (5, 3): expected (T, 3), T at most 4",
        ),
        (
            {"words": np.zeros((2, 3, 1), int)},
            "words has shape (2, 3, 1): expected (T, 3), T at most 4",
        ),
        (
            {"words": np.zeros((0, 3), int)},
            "words is empty: expected at least one word index",
        ),
        ({"words": [[0, 7, 0]]}, "words holds the index 7 at [0, 1]: expected 0 to 6"),
        (
            {"targets": np.zeros((3, 3), int)},
            "targets has shape (3, 3): expected (2, 3), one per prediction",
        ),
        (
            {"targets": [[0, 0, 0], [0, 0, -1]]},
            "targets holds the index -1 at [1, 2]: expected 0 to 6",
        ),
        ({"rng": None}, "rng is None: expected a generator, for the dropout"),
    ],
)
def test_what_is_not_learnt_from(pool, change, message):
    arguments = {
        "words": np.zeros((2, 3), int),
        "targets": np.zeros((2, 3), int),
        "alpha": 0.1,
        "rng": np.random.default_rng(1),
        **change,
    }
    params = network()
    learner = ChunkLearner(params, 3, 4, pool, dropout=Dropout(weights=0.5))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        learner.learn(**arguments)
    assert equal(params, network())
    if "alpha" not in change:
        del arguments["alpha"]
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            learner.gradient(**arguments)
    assert not learner.state.any()
    assert learner.cost is None


@pytest.mark.parametrize("share", [{"inputs": 1.0}, {"states": -0.5}, {"weights": 2}])
def test_dropout_out_of_range_is_refused(pool, share):
    ((name, p),) = share.items()
    message = rf"^dropout\.{name} is {p}: expected a number from 0 to below 1$"
    with pytest.raises(ValueError, match=message):
        ChunkLearner(network(), 3, 3, pool, dropout=Dropout(**share))


@pytest.mark.parametrize("kind", ["i1", "u1", "u2", "i8", "u8"])
def test_indices_of_any_integer_type(pool, kind):
    """Also where the index of a stripe's first word is no number of that type."""
    params, (words, targets) = network(N=280), text(3, N=20)
    low = words.astype(kind), targets.astype(kind)
    _, gradient = ChunkLearner(params, 3, 3, pool).gradient(*low)
    assert_same(dense(gradient, params), mean_gradient(params, words, targets)[1])
