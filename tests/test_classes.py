"""Classes of words: the bins, the distribution, and how they learn."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn import (
    ChunkLearner,
    Classes,
    ClassLayer,
    ClassOutput,
    DivergenceError,
    Dropout,
    Parameters,
    adagrad_step,
    adagrad_update,
    bptt,
    check_classes,
    class_edges,
    class_log_outputs,
    class_loss,
    class_step_cost,
    clip_factor,
    complex_step,
    dropout_mask,
    gradient_u,
    gradient_v,
    gradient_w,
    hidden_states,
    init_classes,
    init_parameters,
    learn_online,
    loss,
    output_error,
    relu,
    sigmoid,
    softmax,
    step_cost,
    summed_cost,
    tanh,
    truncated_error,
    workers,
)

QUICKLY = settings(deadline=None, max_examples=25)


def case(N, C, T=4, B=3, H=5, seed=0, scale=1.0, dtype=np.float64):
    """A network and classes with weights of order one, a chunk, states before it."""
    rng = np.random.default_rng(seed)
    U, W, V = init_parameters(N, H, rng, dtype)
    params = Parameters(10 * U, W * dtype(5 / math.sqrt(H)), V * dtype(10 * scale))
    edges = class_edges(rng.integers(1, 50, N), C)
    classes = init_classes(edges, H, rng, dtype)
    classes = classes._replace(Q=classes.Q * dtype(10 * scale))
    words, targets = rng.integers(0, N, (2, T, B))
    return params, classes, words, targets, rng.random((B, H)).astype(dtype)


def length(slopes):
    return math.sqrt(sum(float((slope.astype(float) ** 2).sum()) for slope in slopes))


def copies(params, classes):
    return (
        Parameters(*(matrix.copy(order="K") for matrix in params)),
        classes._replace(Q=classes.Q.copy()),
    )


def plain_loss(params, classes, words, targets, state, activation=sigmoid):
    """E through all outputs, for complex weights, too."""
    states = hidden_states(params, words, state, activation)
    return summed_cost(class_log_outputs(params, states, classes), targets)


def learner(params, classes, words, state, pool=None, **options):
    """A learner with classes, and its output layer."""
    T, B = words.shape
    layers = []

    def output(*given):
        layers.append(ClassLayer(*given, classes=classes))
        return layers[0]

    found = ChunkLearner(params, B, T, pool, output=output, **options)
    found.state = state
    return found, layers[0]


def gradients(params, classes, words, targets, state, **options):
    """E and the gradients by U, W, V and Q, summed over lanes, by the learner."""
    found, layer = learner(params, classes, words, state, **options)
    E, slopes = found.gradient(words, targets)
    dU = np.zeros_like(params.U)
    dU[:, slopes.words] = slopes.columns.T
    B, dQ = words.shape[1], layer.class_gradient
    whole = dU, slopes.W, slopes.V, dQ
    unit = 1e-5 if params.V.dtype == np.float32 else 1e-12
    # where rows cancel, the rounding is that of the terms
    assert slopes.norm**2 == pytest.approx(length(whole) ** 2, rel=unit, abs=unit)
    return E, [B * slope for slope in whole]


def by_complex_step(params, classes, *rest, cost=plain_loss):
    """The same gradients by the judge."""
    slopes = [
        complex_step(
            lambda x, n=name: cost(params._replace(**{n: x}), classes, *rest), matrix
        )
        for name, matrix in params._asdict().items()
    ]
    of_q = complex_step(lambda x: cost(params, classes._replace(Q=x), *rest), classes.Q)
    return [*slopes, of_q]


def assert_close(given, expected, tolerance=1e-12):
    for a, b in zip(given, expected, strict=True):
        assert abs(a - b).max() <= tolerance * max(abs(b).max(), 0.1)


# The bins


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=60).filter(any),
    st.data(),
)
@QUICKLY
def test_every_class_has_a_word(counts, data):
    C = data.draw(st.integers(1, len(counts)))
    edges = class_edges(counts, C)
    assert (edges[0], edges[-1], len(edges)) == (0, len(counts), C + 1)
    assert (np.diff(edges) >= 1).all()
    assert edges.dtype == np.int64
    assert (class_edges(np.multiply(counts, 4), C) == edges).all()
    p = np.divide(counts, sum(counts))
    H, least = 3, np.sqrt(p).sum() ** 2 / C
    assert class_step_cost(counts, edges, H) >= 3 * H * (C + least + H) * (1 - 1e-12)


def test_a_word_costs_what_the_rows_of_its_class_cost():
    assert class_step_cost([6, 2, 1, 1], np.array([0, 1, 4]), 5) == pytest.approx(
        3 * 5 * (2 + (0.6 * 1 + 0.4 * 3) + 5)
    )


def test_bins_of_equal_counts_are_equal_and_reach_the_bound():
    edges = class_edges(np.full(60, 7), 12)
    assert (np.diff(edges) == 5).all()
    assert class_step_cost(np.full(60, 7), edges, 2) == pytest.approx(6 * (12 + 5 + 2))


@pytest.mark.parametrize(
    ("roots", "edges"),
    [
        ([3, 4, 2, 2], [0, 2, 4]),  # the middle 5 lies below the border 5.5
        ([1, 6, 3], [0, 2, 3]),  # 4 below 5
        ([5, 5, 1], [0, 1, 3]),  # 7.5 above 5.5
        ([1, 2, 1], [0, 1, 3]),  # 2 at the border
    ],
)
def test_a_word_is_where_its_middle_is(roots, edges):
    assert class_edges(np.square(roots), 2).tolist() == edges


def test_one_class_and_as_many_as_words():
    counts = [1000, 3, 2, 1, 0]
    assert class_edges(counts, 1).tolist() == [0, 5]
    assert class_edges(counts, 5).tolist() == [0, 1, 2, 3, 4, 5]
    assert class_edges(counts, 4).tolist() == [0, 1, 2, 3, 5]  # 1000 fills three bins
    assert class_edges([0, 0, 0, 9], 3).tolist() == [0, 2, 3, 4]
    assert class_step_cost(counts, class_edges(counts, 1), 10) == pytest.approx(
        step_cost(5, 10) + 3 * 10
    )


def test_of_tells_the_class_of_each_word():
    classes = Classes(np.zeros((3, 2)), np.array([0, 1, 4, 6]))
    assert classes.of(np.arange(6)).tolist() == [0, 1, 1, 1, 2, 2]
    assert classes.of(np.array([[5, 0], [3, 1]])).tolist() == [[2, 0], [1, 1]]


def test_the_first_weights_are_normal_numbers():
    edges = np.arange(0, 2001, 2)
    Q = init_classes(edges, 30, np.random.default_rng(0)).Q
    assert Q.shape == (1000, 30)
    assert abs(Q.mean()) < 0.005
    assert abs(Q.std() - 0.1) < 0.005
    single = init_classes(edges, 30, np.random.default_rng(0), np.float32).Q
    assert single.dtype == np.float32
    assert (single == Q.astype(np.float32)).all()


# The distribution


@given(st.integers(1, 40), st.data(), st.integers(1, 12), st.floats(0.1, 1e3))
@QUICKLY
def test_probabilities_sum_to_one_and_cost_what_they_cost(N, data, H, scale):
    C = data.draw(st.integers(1, N))
    params, classes, words, targets, state = case(N, C, H=H, scale=scale)
    states = hidden_states(params, words, state)
    log_y = class_log_outputs(params, states, classes)
    assert log_y.shape == (*words.shape, N)
    np.testing.assert_allclose(np.exp(log_y).sum(axis=-1), 1, rtol=1e-12)
    E = class_loss(params, words, targets, classes, state)
    assert pytest.approx(summed_cost(log_y, targets), rel=1e-12, abs=1e-12) == E
    E = class_loss(params, words, targets, classes, state, tanh)
    log_y = class_log_outputs(
        params, hidden_states(params, words, state, tanh), classes
    )
    assert pytest.approx(summed_cost(log_y, targets), rel=1e-12, abs=1e-12) == E


def test_any_number_of_batch_axes():
    params, classes, words, targets, _ = case(9, 3, T=6, B=4)
    E = class_loss(params, words, targets, classes)
    wide = class_loss(params, words.reshape(6, 2, 2), targets.reshape(6, 2, 2), classes)
    lanes = (class_loss(params, words[:, b], targets[:, b], classes) for b in range(4))
    assert wide == pytest.approx(E, rel=1e-12)
    assert sum(lanes) == pytest.approx(E, rel=1e-12)


def test_one_class_is_the_softmax_over_all_words():
    params, classes, words, targets, state = case(9, 1)
    E, slopes = gradients(params, classes, words, targets, state)
    cost, expected, _ = bptt(params, words, targets, state)
    assert pytest.approx(cost, rel=1e-12) == E
    assert_close(slopes[:3], expected)
    assert abs(slopes[3]).max() < 1e-12
    assert class_loss(params, words, targets, classes, state) == pytest.approx(
        loss(params, words, targets, state), rel=1e-12
    )


def test_as_many_classes_as_words_are_the_softmax_with_the_other_matrix():
    params, classes, words, targets, state = case(9, 9)
    E, slopes = gradients(params, classes, words, targets, state)
    cost, expected, _ = bptt(params._replace(V=classes.Q), words, targets, state)
    assert pytest.approx(cost, rel=1e-12) == E
    assert_close([*slopes[:2], slopes[3]], expected)
    assert not slopes[2].any()


def test_without_w_the_last_word_decides():
    params, classes, words, *_ = case(9, 3)
    params = params._replace(W=np.zeros_like(params.W))
    words[-1] = words[0]
    log_y = class_log_outputs(params, hidden_states(params, words), classes)
    np.testing.assert_allclose(log_y[-1], log_y[0], rtol=1e-12)


# Gradients


@given(
    st.integers(1, 15),
    st.data(),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 6),
    st.sampled_from([sigmoid, tanh, relu]),
)
@QUICKLY
def test_gradients_are_those_of_the_complex_step(N, data, T, B, H, activation):
    C, seed = data.draw(st.integers(1, N)), data.draw(st.integers(0, 99))
    found = case(N, C, T, B, H, seed)
    E, slopes = gradients(*found, activation=activation)
    assert pytest.approx(plain_loss(*found, activation), rel=1e-12, abs=1e-13) == E
    assert_close(slopes, by_complex_step(*found, activation))


@given(
    st.integers(1, 40),
    st.data(),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 20),
    st.sampled_from([sigmoid, tanh, relu]),
    st.sampled_from([1.0, 30.0, 1e3]),
)
@settings(max_examples=100)
def test_slopes_along_a_direction(N, data, T, B, H, activation, size):
    """Larger networks, the complex step taken in all elements at once."""
    C, seed = data.draw(st.integers(1, N)), data.draw(st.integers(0, 99))
    params, classes, *rest = case(N, C, T, B, H, seed, size / 10)
    _, slopes = gradients(params, classes, *rest, activation=activation)
    rng, largest = np.random.default_rng(seed), abs(rest[2]).max()
    largest += abs(hidden_states(params, rest[0], rest[2], activation)).max()
    for i, slope in enumerate(slopes):
        direction = rng.normal(size=slope.shape)
        moved = [*params, classes.Q]
        moved[i] = moved[i] + 1e-30j * direction
        changed = Parameters(*moved[:3]), classes._replace(Q=moved[3])
        true = plain_loss(*changed, *rest, activation).imag / 1e-30
        terms = T * B * size * largest * np.abs(direction).sum()
        assert abs(np.vdot(slope, direction) - true) <= 1e-12 * terms


@pytest.mark.parametrize("scale", [30.0, 1e3])
def test_large_logits_lose_nothing(scale):
    params, classes, *rest = case(12, 4, scale=scale)
    params.U[:] /= 10
    E, slopes = gradients(params, classes, *rest)
    assert pytest.approx(plain_loss(params, classes, *rest), rel=1e-12) == E
    assert_close(slopes, by_complex_step(params, classes, *rest), 1e-10)


def errors(params, classes, states, targets):
    """e_c and e_w, dense, by masks."""
    N, of = len(params.V), classes.of(np.arange(len(params.V)))
    together = classes.of(targets)[..., np.newaxis] == of
    within = together * np.exp(class_log_outputs(params, states, classes))
    within /= within.sum(axis=-1, keepdims=True)
    of_class = softmax(states @ classes.Q.T)
    return output_error(of_class, classes.of(targets)), np.eye(N)[targets] - within


@pytest.mark.parametrize("tau", [None, 0, 1, 2, 4, 9])
@pytest.mark.parametrize("activation", [sigmoid, tanh, relu], ids=str)
def test_errors_are_sent_back_so_many_steps(tau, activation):
    params, classes, words, targets, state = case(9, 3, T=5)
    states = hidden_states(params, words, state, activation)
    e_c, e_w = errors(params, classes, states, targets)
    slope = activation.slope(states)
    e_h = (e_c @ classes.Q + e_w @ params.V) * slope
    delta = truncated_error(params, e_h, slope, 4 if tau is None else tau)
    before = np.concatenate([state[np.newaxis], states[:-1]])
    expected = [
        gradient_u(delta, words, 9),
        gradient_w(delta, before),
        gradient_v(e_w, states),
        gradient_v(e_c, states),
    ]
    found = params, classes, words, targets, state
    _, slopes = gradients(*found, tau=tau, activation=activation)
    assert_close(slopes, expected)


def test_single_precision():
    doubles, singles = case(30, 6), case(30, 6, dtype=np.float32)
    E, slopes = gradients(*singles)
    expected_cost, expected = gradients(*doubles)
    assert all(slope.dtype == np.float32 for slope in slopes)
    assert pytest.approx(expected_cost, rel=1e-5) == E
    assert_close(slopes, expected, 1e-5)


@pytest.mark.parametrize(
    "dropout",
    [Dropout(inputs=0.4), Dropout(states=0.4), Dropout(weights=0.4), Dropout(0.3, 0.4)],
    ids=["inputs", "states", "weights", "two"],
)
def test_what_is_left_by_dropout_is_what_learns(dropout):
    params, classes, words, targets, state = case(8, 3)
    H, rng = 5, np.random.default_rng(3)
    shapes = (*words.shape, H), (*words.shape, H), (H, H)
    masks = [
        dropout_mask(rng, shape, p) if p else np.ones(shape)
        for shape, p in zip(shapes, dropout, strict=True)
    ]

    def dropped_loss(params, classes):
        s, E = state, 0
        for t, word in enumerate(words):
            inputs = params.U.T[word] * masks[0][t]
            s = sigmoid(inputs + s @ (params.W * masks[2]).T)
            log_y = class_log_outputs(params, s * masks[1][t], classes)
            E = E + summed_cost(log_y, targets[t])
        return E

    found, layer = learner(params, classes, words, state, dropout=dropout)
    E, slopes = found.gradient(words, targets, np.random.default_rng(3))
    assert pytest.approx(dropped_loss(params, classes), rel=1e-12) == E
    dU = np.zeros_like(params.U)
    dU[:, slopes.words] = slopes.columns.T
    whole = [3 * slope for slope in (dU, slopes.W, slopes.V, layer.class_gradient)]
    assert_close(whole, by_complex_step(params, classes, cost=dropped_loss))


# Learning


@pytest.mark.parametrize("limit", [0.05, math.inf])
def test_a_step_is_the_clipped_gradient(limit):
    start = case(20, 6)
    params, classes = copies(*start[:2])
    _, slopes = gradients(*start)
    norm = math.sqrt(sum(np.vdot(slope, slope) for slope in slopes)) / 3
    found, _ = learner(params, classes, start[2], start[4], limit=limit)
    found.learn(start[2], start[3], 0.3)
    c = clip_factor(norm, limit)
    assert (c < 1) == (limit < 1)
    before = (*start[0], start[1].Q)
    expected = [
        matrix - 0.3 * c * slope / 3
        for matrix, slope in zip(before, slopes, strict=True)
    ]
    assert_close((*params, classes.Q), expected)


def test_only_classes_with_a_target_change():
    params, classes, words, targets, state = case(30, 10)
    targets[:] = 3
    after, its = copies(params, classes)
    learner(after, its, words, state)[0].learn(words, targets, 0.1)
    of = classes.of(np.arange(30))
    changed = (after.V != params.V).any(axis=1)
    assert (changed == (of == of[3])).all()
    assert (its.Q != classes.Q).any(axis=1).all()
    read = np.isin(np.arange(30), words)
    assert ((after.U != params.U).any(axis=0) == read).all()


def test_word_by_word_is_a_chunk_of_one_word():
    params, classes, words, targets, _ = case(15, 4, T=30, B=1)
    first, second = copies(params, classes), copies(params, classes)
    found, _ = learner(*first, words[:1], np.zeros((1, 5)), limit=math.inf)
    chunks = zip(words[:, np.newaxis], targets[:, np.newaxis], strict=True)
    costs = [found.learn(*chunk, 0.2) for chunk in chunks]
    output = ClassOutput(second[0].V, second[1])
    text = words[:, 0], targets[:, 0]
    expected, _ = learn_online(second[0], *text, 0.2, tau=0, output=output)
    np.testing.assert_allclose(costs, expected, rtol=1e-11)
    assert_close((*first[0], first[1].Q), (*second[0], second[1].Q), 1e-11)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_word_by_word_one_class_or_all_are_the_softmax(dtype):
    for C in (1, 9):
        params, classes, words, targets, _ = case(9, C, T=30, B=1, dtype=dtype)
        plain, _ = copies(params, classes)
        if C == 9:
            plain = plain._replace(V=classes.Q.copy())
        still = (classes.Q if C == 1 else params.V).copy()
        text = words[:, 0], targets[:, 0]
        expected, _ = learn_online(plain, *text, 0.2, 3)
        output = ClassOutput(params.V, classes)
        costs, _ = learn_online(params, *text, 0.2, 3, output=output)
        unit = 1e-11 if dtype is np.float64 else 1e-4
        np.testing.assert_allclose(costs, expected, rtol=unit, atol=unit)
        learnt, kept = (params.V, classes.Q) if C == 1 else (classes.Q, params.V)
        assert_close((*params[:2], learnt), plain, unit)
        assert (kept == still).all()


def test_word_by_word_against_the_gradient_of_each_word():
    params, classes, words, targets, _ = case(15, 4, T=12, B=1)
    online, its = copies(params, classes)
    output = ClassOutput(online.V, its)
    text = words[:, 0], targets[:, 0]
    learn_online(online, *text, 0.2, tau=0, limit=math.inf, output=output)
    plain, its_own, s = *copies(params, classes), np.zeros((1, 5))
    for word, target in zip(words, targets, strict=True):
        chunk = word[np.newaxis], target[np.newaxis], s
        slopes = by_complex_step(plain, its_own, *chunk)
        s = hidden_states(plain, word[np.newaxis], s)[-1]
        for matrix, slope in zip((*plain, its_own.Q), slopes, strict=True):
            matrix -= 0.2 * slope
    assert_close((*online, its.Q), (*plain, its_own.Q), 1e-11)


def test_the_state_is_carried():
    params, classes, words, targets, state = case(15, 4, T=8)
    whole, _ = learner(params, classes, words, state)
    parts, _ = learner(params, classes, words, state)
    E, _ = whole.gradient(words, targets)
    halves = [parts.gradient(words[t : t + 4], targets[t : t + 4])[0] for t in (0, 4)]
    assert sum(halves) == pytest.approx(E, rel=1e-12)
    np.testing.assert_allclose(parts.state, whole.state, rtol=1e-12)


def test_the_threads_change_no_bit():
    found = []
    for count in (1, 2, 3):
        params, classes, words, targets, state = case(200, 30, T=9, dtype=np.float32)
        with workers(count) as pool:
            its, _ = learner(params, classes, words, state, pool, limit=0.5)
            for _ in range(3):
                its.learn(words, targets, 0.3)
        found.append((*params, classes.Q))
    for other in found[1:]:
        assert all((a == b).all() for a, b in zip(found[0], other, strict=True))


def test_gradients_of_many_rows_of_v_are_made_in_parts():
    N, H = 1500, 60  # a block of V that stays in the cache has 1,092 rows of 60
    params, classes, words, targets, state = case(N, 1, T=2, B=2, H=H)
    E, slopes = gradients(params, classes, words, targets, state)
    cost, expected, _ = bptt(params, words, targets, state)
    assert pytest.approx(cost, rel=1e-12) == E
    assert_close(slopes[:3], expected)


def test_two_learners_share_nothing():
    params, classes, words, targets, state = case(15, 4)
    one, layer = learner(params, classes, words, state)
    other, _ = learner(params, classes, words, state)
    one.gradient(words, targets)
    kept = layer.gradient.copy(), layer.class_gradient.copy()
    other.gradient(words[::-1].copy(), targets[::-1].copy())
    assert (layer.gradient == kept[0]).all()
    assert (layer.class_gradient == kept[1]).all()


def test_two_learners_in_turn_learn_what_each_learns_alone():
    ends = []
    for turns in ("ababab", "aaabbb"):
        cases = {name: case(15, 4, seed=i) for i, name in enumerate("ab")}
        learners = {
            name: learner(params, classes, words, state)[0]
            for name, (params, classes, words, _, state) in cases.items()
        }
        for name in turns:
            learners[name].learn(*cases[name][2:4], 0.3)
        ends.append([(*cases[name][0], cases[name][1].Q) for name in "ab"])
    for in_turn, alone in zip(*ends, strict=True):
        assert all((a == b).all() for a, b in zip(in_turn, alone, strict=True))


def test_learning_lowers_the_cost():
    params, classes, words, targets, state = case(15, 4)
    found, _ = learner(params, classes, words, state)
    costs = []
    for _ in range(50):
        found.state = state
        costs.append(found.learn(words, targets, 0.3))
    assert costs[-1] < 0.5 * costs[0]


@pytest.mark.parametrize("activation", [sigmoid, tanh, relu], ids=str)
def test_a_rate_far_too_large_leaves_what_was_before_its_chunk(activation):
    params, classes, words, targets, state = case(15, 4, T=3)
    found, _ = learner(params, classes, words, state, activation=activation)
    ends = []

    def learn_again_and_again():
        for _ in range(20):
            ends.append(copies(params, classes))
            found.learn(words, targets, 100)

    with pytest.raises(DivergenceError, match=r"^alpha is 100: learning diverged"):
        learn_again_and_again()
    assert len(ends) > 1
    before, its = ends[-1]
    for a, b in zip((*params, classes.Q), (*before, its.Q), strict=True):
        assert (a == b).all()


def test_what_diverges_changes_nothing():
    params, classes, words, targets, state = case(15, 4)
    classes.Q[0] = 1e200
    classes.Q[1] = -1e200
    before = copies(params, classes)
    found, _ = learner(params, classes, words, state)

    def learn_again_and_again():
        for _ in range(20):
            found.learn(words, targets, 0.5)

    with pytest.raises(DivergenceError, match=r"^alpha is 0.5: learning diverged"):
        learn_again_and_again()
    after = (*params, classes.Q)
    for a, b in zip(after, (*before[0], before[1].Q), strict=True):
        assert (a == b).all()


# What is refused


@pytest.mark.parametrize(
    ("counts", "count", "message"),
    [
        ([3, 1], 3, "count is 3: expected at most 2, one for each word"),
        ([3, 1], 0, "count is 0: expected an integer, 1 or more"),
        ([3, 1], 1.0, "count is 1.0: expected an integer, 1 or more"),
        ([3, -1], 1, r"counts has shape \(2,\): expected \(N,\), numbers of 0 or more"),
        ([0, 0], 1, r"counts has shape \(2,\): expected \(N,\), .* not all of them 0"),
        ([], 1, r"counts has shape \(0,\): expected \(N,\)"),
        ([[1, 2]], 1, r"counts has shape \(1, 2\): expected \(N,\)"),
        ([1, math.nan], 1, "counts holds nan: expected finite numbers"),
    ],
)
def test_counts_out_of_range_are_named(counts, count, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        class_edges(counts, count)
    if message.startswith("counts"):
        with pytest.raises(ValueError, match=f"^{message}"):
            class_step_cost(counts, np.array([0, 1]), 3)


@pytest.mark.parametrize(
    ("Q", "edges", "message"),
    [
        (np.zeros((2, 4)), [0, 1, 3], r"classes.Q has shape \(2, 4\): expected"),
        (np.zeros((1, 2, 5)), [0, 3], r"classes.Q has shape \(1, 2, 5\): expected \(C"),
        (np.full((2, 5), np.inf), [0, 1, 3], "classes.Q holds inf: expected finite"),
        (
            np.zeros((2, 5)),
            [0, 3],
            r"classes.edges has shape \(2,\) and type int64: expected \(3,\), of "
            "integers, for 2 classes$",
        ),
        (np.zeros((2, 5)), [0.0, 1.0, 3.0], "classes.edges has .* type float64: exp"),
        (np.zeros((2, 5)), [0, 3, 3], "classes.edges goes from 0 to 3: expected 0 to"),
        (np.zeros((2, 5)), [0, 1, 4], "classes.edges goes from 0 to 4: expected 0 to"),
        (np.zeros((2, 5)), [1, 2, 3], "classes.edges goes from 1 to 3: expected 0 to"),
        (np.zeros((2, 5)), [0, -1, 3], "classes.edges goes from 0 to 3: expected 0 t"),
    ],
)
def test_classes_that_do_not_fit_are_named(Q, edges, message):
    params = case(3, 1)[0]
    with pytest.raises(ValueError, match=f"^{message}"):
        check_classes(params, Classes(Q, np.array(edges)))
    with pytest.raises(ValueError, match=f"^{message}"):
        class_log_outputs(params, np.zeros(5), Classes(Q, np.array(edges)))
    with pytest.raises(ValueError, match=f"^{message}"):
        class_loss(params, [0], [1], Classes(Q, np.array(edges)))


def test_classes_that_fit_are_returned():
    params, classes, *_ = case(3, 2)
    Q, edges = check_classes(params, Classes(classes.Q, classes.edges.tolist()))
    assert Q is classes.Q
    assert (edges == classes.edges).all()


def test_arguments_out_of_range_are_named():
    params, classes, words, targets, _ = case(3, 2)
    with pytest.raises(ValueError, match=r"^targets has shape \(3,\): expected \(4, 3"):
        class_loss(params, words, targets[0], classes)
    with pytest.raises(ValueError, match=r"^words "):
        class_loss(params, words + 9, targets, classes)
    with pytest.raises(ValueError, match=r"^targets "):
        class_loss(params, words, targets + 9, classes)
    with pytest.raises(ValueError, match=r"^states has shape \(4,\): expected"):
        class_log_outputs(params, np.zeros(4), classes)
    output = partial(ClassLayer, classes=classes)
    with pytest.raises(ValueError, match=r"^optimizer is 'adam': expected sgd, ada"):
        ChunkLearner(params, 3, 4, None, optimizer="adam", output=output)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_that_cancel_make_a_norm_near_zero(dtype):
    """The sum of products of errors and states is rounded below 0 at times."""
    B, words = 20, np.zeros((1, 20), int)
    for k in range(1, B):  # y is (k, B - k) / B, and so are the targets
        params, classes, *_, state = case(2, 1, B=B, dtype=dtype)
        state[:] = 0
        s = hidden_states(params, words, state)[0, 0]
        params.V[:] = np.outer([math.log(k / (B - k)), 0], s / (s @ s))
        found, _ = learner(params, classes, words, state)
        slopes = found.gradient(words, np.array([[0] * k + [1] * (B - k)]))[1]
        assert 0 <= slopes.norm < (1e-7 if dtype is np.float64 else 1e-2)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("N", [3, 6, 7, 10])
def test_rows_that_cancel_in_a_class_of_as_many_words(N, dtype):
    params, classes, *_, state = case(N, 1, B=N, dtype=dtype)
    state[:], params.V[:] = 0, 0  # so that y is 1 / N, and each word follows once
    words, targets = np.zeros((1, N), int), np.arange(N)[np.newaxis]
    found, _ = learner(params, classes, words, state)
    norm = found.gradient(words, targets)[1].norm
    assert 0 <= norm < (1e-7 if dtype is np.float64 else 1e-2)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_rate_whose_square_overflows_is_told(dtype):
    params, classes, words, targets, state = case(15, 4, dtype=dtype)
    before, its = copies(params, classes)
    found, _ = learner(params, classes, words, state)
    with pytest.raises(DivergenceError, match=r"^alpha is 1e\+200: learning diverged"):
        found.learn(words, targets, 1e200)
    for a, b in zip((*params, classes.Q), (*before, its.Q), strict=True):
        assert (a == b).all()


@pytest.mark.parametrize("kind", ["i1", "u1", "u2", "i8", "u8"])
def test_words_and_edges_of_any_integer_type(kind):
    params, classes, words, targets, _ = case(9, 3)
    E = class_loss(params, words, targets, classes)
    low = classes._replace(edges=classes.edges.astype(kind))
    assert class_loss(params, words.astype(kind), targets.astype(kind), low) == E
    wrong = classes._replace(edges=np.array([0, 5, 2, 9], kind))
    with pytest.raises(ValueError, match=r"^classes.edges goes from 0 to 9: expected"):
        check_classes(params, wrong)


@pytest.mark.parametrize(("N", "C"), [(3, 2), (9, 3), (9, 1), (9, 9), (900, 2)])
@pytest.mark.parametrize("limit", [0.05, 1e6])
def test_adagrad_with_classes_takes_the_steps_of_the_dense_gradient(N, C, limit):
    H = 200 if N == 900 else 5  # so many that a class comes in several parts
    params, classes, words, targets, state = case(N, C, H=H)
    plain, same = copies(params, classes)
    sums, h_Q = None, np.zeros((C, 1))
    options = {"limit": limit, "optimizer": "adagrad"}
    found, layer = learner(params, classes, words, state, **options)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        words, targets = rng.integers(0, N, (2, *words.shape))
        twin, its = learner(*copies(plain, same), words, found.state)
        _, slopes = twin.gradient(words, targets)
        dU = np.zeros_like(plain.U)
        dU[:, slopes.words] = slopes.columns.T
        factor = min(1, limit / slopes.norm)
        assert (factor < 1) == (limit < 1)
        gradient = Parameters(*(factor * g for g in (dU, slopes.W, slopes.V)))
        dQ = factor * its.class_gradient
        sums = adagrad_step(plain, gradient, sums, alpha=0.01)
        adagrad_update(same.Q, dQ, h_Q, alpha=0.01)
        found.learn(words, targets, 0.01)
        pairs = zip((*params, classes.Q), (*plain, same.Q), strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)
        for a, b in zip(found.sums, (*sums, h_Q), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-16)
    assert found.sums[2:] == layer.sums
