"""Every result of the book against its formula, written out element by element.

Each test is marked with the labels it guards, and calls the functions as `rnn.name`:
the last tests put wrong ones in their place and see the guards fail.
"""

import math
import re
import sys
from collections import Counter
from itertools import pairwise

import equations
import mpmath
import numpy as np
import pytest

import rnn

GUARDED = equations.tests()


def problem(T=4, H=3, N=5):
    """A small model with weights of order one, a text, and a state to begin with."""
    rng = np.random.default_rng(1)
    params = rnn.Parameters(
        np.asfortranarray(rng.normal(size=(H, N))),
        rng.normal(size=(H, H)) / math.sqrt(H),
        rng.normal(size=(N, H)),
    )
    words, targets = rng.integers(0, N, (2, T))
    return params, words, targets, rng.random(H)


def mapped(function, params):
    """The function's values at each of the three matrices."""
    return rnn.Parameters(*map(function, params))


def close(given, expected):
    np.testing.assert_allclose(given, expected, rtol=1e-12, atol=1e-14)


def forward(params, words, s):
    """States and outputs by the formulas."""
    states, outputs = [], []
    for word in words:
        a = [
            params.U[j, word] + sum(params.W[j, k] * s[k] for k in range(len(s)))
            for j in range(len(s))
        ]
        s = [1 / (1 + math.exp(-x)) for x in a]
        z = [sum(row[j] * s[j] for j in range(len(s))) for row in params.V]
        total = sum(math.exp(x) for x in z)
        states.append(s)
        outputs.append([math.exp(x) / total for x in z])
    return np.array(states), np.array(outputs)


def backward(params, words, targets, s_init, tau):
    """The errors e[t, k] of step t sent back k steps, and the sums for U and W."""
    states, outputs = forward(params, words, s_init)
    slope = states * (1 - states)
    before = np.array([s_init, *states[:-1]])
    T, H = states.shape
    errors = np.zeros((T, T, H))
    dU, dW = np.zeros_like(params.U), np.zeros_like(params.W)
    for t in range(T):
        d = np.eye(len(params.V))[targets[t]]
        errors[t, 0] = params.V.T @ (d - outputs[t]) * slope[t]
        for k in range(1, min(tau, t) + 1):
            errors[t, k] = params.W.T @ errors[t, k - 1] * slope[t - k]
        for k in range(min(tau, t) + 1):
            dU[:, words[t - k]] -= errors[t, k]
            dW -= np.outer(errors[t, k], before[t - k])
    return errors, dU, dW


@pytest.mark.equation("eq-one-hot")
def test_a_word_is_one_at_its_index_and_zero_elsewhere():
    close(rnn.one_hot([2, 0], 3), [[0, 0, 1], [1, 0, 0]])


@pytest.mark.equation("eq-expected-uses", "eq-expected-words", "eq-expected-bigrams")
def test_a_sentence_holds_on_average_what_the_rules_expect():
    grammar = rnn.Grammar.from_text("S -> a X | b\nX -> a b | 3 b")
    close(rnn.rule_expectations(grammar)["S"], 1)
    close(rnn.rule_expectations(grammar)["X"], 1 / 2)
    expected = {"a": 1 / 2 + 1 / 8, "b": 1, "</s>": 1}
    assert rnn.word_expectations(grammar).keys() == expected.keys()
    for word, count in rnn.word_expectations(grammar).items():
        close(count, expected[word])
    pairs = rnn.bigram_expectations(grammar)
    expected = {
        ("</s>", "a"): 1 / 2,
        ("</s>", "b"): 1 / 2,
        ("a", "a"): 1 / 8,
        ("a", "b"): 1 / 2,
        ("b", "</s>"): 1,
    }
    assert {pair for pair, count in pairs.items() if count} == expected.keys()
    for pair, count in expected.items():
        close(pairs[pair], count)


@pytest.mark.equation("eq-hidden-state")
def test_states_follow_the_recurrence():
    params, words, _, s_init = problem()
    close(rnn.hidden_states(params, words, s_init), forward(params, words, s_init)[0])


@pytest.mark.equation("eq-sigmoid", "eq-tanh", "eq-relu")
def test_activations_are_what_their_formulas_say():
    for z in (-30.0, -1.5, 0.0, 0.3, 40.0):
        close(rnn.sigmoid(z), float(1 / (1 + mpmath.exp(-z))))
        close(rnn.tanh(z), float(mpmath.tanh(z)))
        close(rnn.relu(z), max(z, 0))


@pytest.mark.equation("eq-slope-sigmoid", "eq-slope-tanh", "eq-slope-relu")
def test_slopes_written_with_the_state_are_derivatives():
    for z in (-2.0, -0.1, 0.4, 3.0):
        s = 1 / (1 + math.exp(-z))
        close(rnn.sigmoid.slope(s), math.exp(-z) * s**2)
        close(rnn.tanh.slope(math.tanh(z)), 1 / math.cosh(z) ** 2)
        close(rnn.relu.slope(max(z, 0.0)), 1 if z > 0 else 0)


@pytest.mark.equation("eq-logits", "eq-softmax", "eq-outputs")
def test_outputs_are_shares_of_exponentials():
    params, words, _, s_init = problem()
    states, outputs = forward(params, words, s_init)
    close(rnn.logits(params, states), [params.V @ s for s in states])
    close(rnn.softmax([params.V @ s for s in states]), outputs)
    close(rnn.outputs(params, states), outputs)


@pytest.mark.equation("eq-log-softmax")
def test_the_logarithm_of_the_softmax_keeps_its_digits():
    z = [-3.0, 40.0, 2.0]
    total = sum(mpmath.exp(x) for x in z)
    close(rnn.log_softmax(z), [float(mpmath.log(mpmath.exp(x) / total)) for x in z])


@pytest.mark.equation("eq-temperature")
def test_a_temperature_divides_the_logits():
    z = np.array([0.5, -1.0, 2.0])
    weights = np.exp(z / 0.7)
    close(rnn.tempered_softmax(z, 0.7), weights / weights.sum())


@pytest.mark.equation("eq-draw")
def test_a_draw_inverts_the_cumulative_distribution():
    y = [0.1, 0.0, 0.6, 0.3]
    rng, twin = np.random.default_rng(3), np.random.default_rng(3)
    for _ in range(50):
        u, index, cumulative = twin.random(), 0, y[0]
        while cumulative <= u:
            index += 1
            cumulative += y[index]
        assert rnn.draw_index(y, rng) == index


@pytest.mark.equation("eq-generate")
def test_what_is_drawn_is_fed_back():
    params, _, _, _ = problem()
    rng, twin = np.random.default_rng(4), np.random.default_rng(4)
    words = [0]
    for _ in range(12):
        y = forward(params, words, np.zeros(3))[1][-1]
        words.append(int(np.searchsorted(np.cumsum(y), twin.random(), side="right")))
    assert list(rnn.generate(params, rng, 12)) == words[1:]


@pytest.mark.equation("eq-loss")
def test_the_loss_is_the_sum_of_the_costs_of_the_targets():
    params, words, targets, s_init = problem()
    outputs = forward(params, words, s_init)[1]
    costs = [-math.log(y[target]) for y, target in zip(outputs, targets, strict=True)]
    close(rnn.loss(params, words, targets, s_init), sum(costs))


@pytest.mark.equation("eq-output-error")
def test_the_output_error_is_target_less_output():
    y = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    close(rnn.output_error(y, [2, 0]), [[-0.2, -0.5, 0.7], [0.4, -0.3, -0.1]])


@pytest.mark.equation("eq-perplexity", "eq-bits", "eq-mean-cross-entropy", "eq-entropy")
def test_measures_of_uncertainty():
    close(rnn.perplexity(math.log(7)), 7)
    close(rnn.bits(math.log(8)), 3)
    close(rnn.mean_cross_entropy([0.5, 0.125]), 2 * math.log(2))
    close(rnn.entropy([0.5, 0.25, 0.25, 0.0]), 1.5 * math.log(2))


@pytest.mark.equation("eq-unigram", "eq-bigram")
def test_counts_make_the_baselines():
    words, targets = [0, 1, 2, 1, 2], [1, 2, 1, 2, 2]
    prior = rnn.unigram_probabilities(targets, 4, pseudo_count=2.0)
    counts = Counter(targets)
    close(prior, [(counts[m] + 0.5) / 7 for m in range(4)])
    prior = np.array([(counts[m] + 0.5) / 7 for m in range(4)])
    pairs = rnn.count_bigrams(words, targets, 4)
    given = rnn.bigram_probabilities(pairs, prior, [1, 2, 2], [2, 0, 1], 3.0)
    expected = [(2 + 3 * prior[2]) / 5, 3 * prior[0] / 5, (1 + 3 * prior[1]) / 5]
    close(given, expected)


@pytest.mark.equation("eq-grammar-limits")
def test_the_limits_of_a_language_of_three_sentences():
    grammar = rnn.Grammar.from_text("S -> a a | a b | 2 b")
    p = {("a", "a"): 1 / 4, ("a", "b"): 1 / 4, ("b",): 1 / 2}
    length = sum(share * (len(words) + 1) for words, share in p.items())
    words, pairs = Counter(), Counter()
    for sentence, share in p.items():
        text = ["</s>", *sentence, "</s>"]
        for before, after in pairwise(text):
            words[after] += share
            pairs[before, after] += share
    limits = rnn.grammar_limits(grammar)
    unigram = -sum(c * math.log(c / length) for c in words.values()) / length
    close(limits.unigram, unigram)
    bigram = -sum(c * math.log(c / words[v]) for (v, _), c in pairs.items()) / length
    close(limits.bigram, bigram)
    close(limits.exact, -sum(q * math.log(q) for q in p.values()) / length)


@pytest.mark.equation("eq-complex-step")
def test_the_complex_step_is_the_derivative():
    close(
        rnn.complex_step(lambda x: np.exp(x[0]) * x[1] ** 3, [0.5, 2.0]),
        [8 * math.exp(0.5), 12 * math.exp(0.5)],
    )


@pytest.mark.equation("eq-gradient-error")
def test_the_gradient_error_is_the_largest_difference_over_the_largest_element():
    close(rnn.gradient_error([1.0, -2.0, 0.5], [1.5, -4.0, 0.5]), 2 / 4)


@pytest.mark.equation("eq-fitted-factor")
def test_the_factor_makes_the_squares_of_the_differences_least():
    given, candidate = np.array([[2, -1], [0.5, 3]]), np.array([[1.0, 1], [2, 0]])
    products = sum(given[i, j] * candidate[i, j] for i in (0, 1) for j in (0, 1))
    squares = sum(candidate[i, j] ** 2 for i in (0, 1) for j in (0, 1))
    close(rnn.fitted_factor(given, candidate), products / squares)


@pytest.mark.equation("eq-gradient-v")
def test_dv_is_minus_the_sum_of_outer_products():
    params, words, targets, s_init = problem()
    states, outputs = forward(params, words, s_init)
    e_o = np.eye(len(params.V))[targets] - outputs
    expected = -sum(np.outer(e, s) for e, s in zip(e_o, states, strict=True))
    close(rnn.gradient_v(e_o, states), expected)


@pytest.mark.equation("eq-hidden-error", "eq-hidden-slope")
def test_the_hidden_error_is_the_output_error_through_v_times_the_slope():
    params, words, targets, s_init = problem()
    states, outputs = forward(params, words, s_init)
    e_o = np.eye(len(params.V))[targets] - outputs
    errors, _, _ = backward(params, words, targets, s_init, 0)
    close(rnn.hidden_error(params, e_o, states), errors[:, 0])


@pytest.mark.equation("eq-gradient-u", "eq-gradient-w")
def test_du_and_dw_with_one_step_of_memory():
    params, words, targets, s_init = problem()
    errors, dU, dW = backward(params, words, targets, s_init, 0)
    states, _ = forward(params, words, s_init)
    close(rnn.gradient_u(errors[:, 0], words, params.U.shape[1]), dU)
    close(rnn.gradient_w(errors[:, 0], [s_init, *states[:-1]]), dW)


@pytest.mark.equation("eq-bptt-recursion", "eq-delta", "eq-truncated-delta")
def test_errors_are_sent_back_a_step_at_a_time():
    params, words, targets, s_init = problem()
    states, _ = forward(params, words, s_init)
    slopes = states * (1 - states)
    for tau in range(len(words)):
        errors, _, _ = backward(params, words, targets, s_init, tau)
        delta = np.array(
            [
                sum(errors[t + k, k] for k in range(min(tau, len(words) - 1 - t) + 1))
                for t in range(len(words))
            ]
        )
        close(rnn.truncated_error(params, errors[:, 0], slopes, tau), delta)
        if tau > 0:
            close(
                rnn.send_back(params, errors[tau:, tau - 1], slopes[:-tau]),
                errors[tau:, tau],
            )
    close(rnn.total_error(params, errors[:, 0], slopes), delta)


@pytest.mark.equation("eq-bptt-u", "eq-bptt-w")
def test_gradients_through_time():
    params, words, targets, s_init = problem()
    for tau in range(len(words)):
        _, dU, dW = backward(params, words, targets, s_init, tau)
        _, gradient, _ = rnn.bptt(params, words, targets, s_init, tau)
        close(gradient.U, dU)
        close(gradient.W, dW)


@pytest.mark.equation("eq-sgd")
def test_a_step_goes_against_the_gradient():
    params = problem()[0]
    given, gradient = mapped(np.copy, params), mapped(np.cos, params)
    rnn.sgd_step(given, gradient, 0.2)
    for matrix, old, slope in zip(given, params, gradient, strict=True):
        for m, j in np.ndindex(old.shape):
            close(matrix[m, j], old[m, j] - 0.2 * slope[m, j])


@pytest.mark.equation("eq-clip")
def test_each_element_is_clipped_by_itself():
    close(rnn.clip(np.array([-9.0, -2.5, 0.3, 2.6]), 2.5), [-2.5, -2.5, 0.3, 2.5])


@pytest.mark.equation("eq-pending")
def test_updates_that_wait_count_as_if_they_were_added():
    rng = np.random.default_rng(5)
    V, errors, states = rng.normal(size=(5, 3)), *rng.normal(size=(2, 4, 5))
    states = states[:, :3]
    pending, whole = rnn.PendingUpdates(V.copy(), size=3), V.copy()
    for e, s in zip(errors, states, strict=True):  # three are added, one waits
        pending.add(e, s)
        whole += [[e[m] * s[j] for j in range(3)] for m in range(5)]
        close(pending.times(states[1]), whole @ states[1])
        close(pending.transposed_times(errors[2]), whole.T @ errors[2])
    pending.settle()
    close(pending.V, whole)


@pytest.mark.equation("eq-online-v", "eq-online-w", "eq-online-u")
def test_after_each_word_all_matrices_are_updated():
    start, words, targets, s_init = problem(T=6)
    for tau in (0, 2, 6):
        given = mapped(np.copy, start)
        memory = rnn.Memory(words[:0], s_init[np.newaxis], 0.0)
        costs, _ = rnn.learn_online(given, words, targets, 0.3, tau, memory)
        (U, W, V), s = mapped(np.copy, start), {-1: s_init}
        for t, (word, target) in enumerate(zip(words, targets, strict=True)):
            (s[t],), (y,) = forward(rnn.Parameters(U, W, V), [word], s[t - 1])
            close(costs[t], -math.log(y[target]))
            e_o = np.eye(len(V))[target] - y
            e_h = [V.T @ e_o * s[t] * (1 - s[t])]
            for k in range(min(tau, t)):
                slope = s[t - k - 1] * (1 - s[t - k - 1])
                e_h.append(W.T @ e_h[k] * slope)
            V += 0.3 * np.outer(e_o, s[t])
            W += sum(0.3 * np.outer(e, s[t - k - 1]) for k, e in enumerate(e_h))
            for k, e in enumerate(e_h):
                U[:, words[t - k]] += 0.3 * e
        for matrix, expected in zip(given, (U, W, V), strict=True):
            close(matrix, expected)


@pytest.mark.equation("eq-schedule")
def test_the_rate_follows_the_number_of_failed_epochs():
    for costs in ([9, 8, 7.99, 7, 6.99], [9, 9.1, 8, 8.5], [5, 4, 4.5, 3.99, 3.98]):
        schedule, alpha = rnn.Schedule(0.1), 0.1
        for n in range(1, len(costs) + 1):
            schedule = rnn.next_schedule(schedule, costs[n - 1])
            failed = sum(1.003 * costs[m] > min(costs[:m]) for m in range(1, n))
            alpha = (alpha, alpha / 2, 0)[min(failed, 2)]
            close(schedule.alpha, alpha)
        assert alpha == 0


@pytest.mark.equation("eq-moments", "eq-adam")
def test_adam_divides_the_mean_by_the_root_of_the_mean_square():
    start = problem()[0]
    gradients, moments = [mapped(np.cos, start), mapped(np.exp, start)], None
    given = mapped(np.copy, start)
    theta = list(start)
    for n in (1, 2):
        moments = rnn.adam_step(given, gradients[n - 1], moments, 0.1, 0.7, 0.8, 0.05)
        assert moments.steps == n
        for i in range(3):
            g = [gradient[i] for gradient in gradients]
            m = sum(0.3 * 0.7 ** (n - j) * g[j - 1] for j in range(1, n + 1))
            v = sum(0.2 * 0.8 ** (n - j) * g[j - 1] ** 2 for j in range(1, n + 1))
            close(moments.mean[i], m)
            close(moments.square[i], v)
            root = np.sqrt(v / (1 - 0.8**n))
            theta[i] = theta[i] - 0.1 * m / (1 - 0.7**n) / (root + 0.05)
            close(given[i], theta[i])


@pytest.mark.equation("eq-adagrad")
def test_adagrad_divides_by_the_root_of_the_sum_of_squares():
    start = problem()[0]
    gradients, sums = [mapped(np.cos, start), mapped(np.exp, start)], None
    given = mapped(np.copy, start)
    theta = list(start)
    for n in (1, 2):
        sums = rnn.adagrad_step(given, gradients[n - 1], sums, 0.1)
        for i in range(3):
            squares = sum(gradient[i] ** 2 for gradient in gradients[:n])
            h = squares if i == 0 else squares.sum(axis=1, keepdims=True)
            close(sums[i], h)
            theta[i] = theta[i] - 0.1 * gradients[n - 1][i] / np.sqrt(h)
            close(given[i], theta[i])


@pytest.mark.equation("eq-lanes")
def test_lanes_are_equal_parts_of_the_text():
    text = [3, 1, 4, 1, 0, 2, 2, 3]
    close(rnn.lanes(text, 3), [[text[b * 2 + t] for b in range(3)] for t in range(2)])


@pytest.mark.equation("eq-step-cost")
def test_a_word_costs_three_products_by_each_matrix():
    _, W, V = problem()[0]  # U w(t) is a column, picked at no cost
    assert rnn.step_cost(*V.shape) == 3 * (W.size + V.size)


@pytest.mark.equation("eq-columns")
def test_a_column_is_the_sum_of_the_errors_of_its_word():
    words = np.array([3, 0, 3, 4, 0, 3])
    errors = np.random.default_rng(6).normal(size=(6, 2))
    found, sums = rnn.column_sums(words, errors)
    assert found.tolist() == [0, 3, 4]
    for n, total in zip(found, sums, strict=True):
        close(total, [sum(errors[words == n, j]) for j in range(2)])


@pytest.mark.equation("eq-clip-norm")
def test_a_gradient_is_shortened_to_the_limit():
    for norm, limit in ((8.0, 5.0), (3.0, 5.0), (5.0, 5.0)):
        close(rnn.clip_factor(norm, limit), min(1, limit / norm))


@pytest.mark.equation("eq-dropout")
def test_what_is_dropped_is_zero_and_the_rest_is_enlarged():
    rng, twin = np.random.default_rng(7), np.random.default_rng(7)
    mask, drawn = rnn.dropout_mask(rng, (4, 5), 0.3), twin.random((4, 5), np.float32)
    for place in np.ndindex(4, 5):
        close(mask[place], 0 if drawn[place] < 0.3 else 1 / 0.7)
    assert 0 < np.count_nonzero(mask) < 20


@pytest.mark.equation("eq-tiles")
def test_tiles_make_the_same_product():
    rng = np.random.default_rng(8)
    W, states = rng.normal(size=(6, 6)), rng.normal(size=(3, 6))
    expected = [
        [sum(W[j, k] * s[k] for k in range(6)) for j in range(6)] for s in states
    ]
    for rows in (3, 50_000, 100_000):  # 1, 2 and 6 tiles
        close(states @ rnn.Tiles(W, rows), expected)


@pytest.mark.equation("eq-small-error", "eq-small-gradient")
def test_the_output_layer_of_many_rows():
    params, words, targets, s_init = problem(T=6)
    states, outputs = forward(params, words, s_init)
    e_o = np.eye(len(params.V))[targets] - outputs
    with rnn.workers(1) as pool:
        layer = rnn.OutputLayer(params.V, 6, pool)
        costs, sent = layer.forward(states, targets)
        squares = [task() for task in layer.backward(states, 0.7)]
    close(
        costs,
        [-math.log(y[target]) for y, target in zip(outputs, targets, strict=True)],
    )
    close(sent, [[sum(params.V[:, j] * e) for j in range(3)] for e in e_o])
    expected = -0.7 * sum(np.outer(e, s) for e, s in zip(e_o, states, strict=True))
    close(layer.gradient, expected)
    close(sum(squares), (expected**2).sum())


def class_problem():
    """A small model with three classes of 1, 2 and 2 words, states, and targets."""
    params, words, targets, s_init = problem(T=6)
    Q = np.random.default_rng(9).normal(size=(3, 3))
    classes = rnn.Classes(Q, np.array([0, 1, 3, 5]))
    return params, classes, words, targets, s_init


def class_errors(params, classes, s, target):
    """y, e_c and e_w after a state, by the formulas."""
    of = [0, 1, 1, 2, 2]
    q = [math.exp(sum(row * s)) for row in classes.Q]
    x = [math.exp(sum(row * s)) for row in params.V]
    within = [x[m] / sum(x[k] for k in range(5) if of[k] == of[m]) for m in range(5)]
    y = [q[of[m]] / sum(q) * within[m] for m in range(5)]
    e_c = [(c == of[target]) - q[c] / sum(q) for c in range(3)]
    e_w = [(m == target) - within[m] if of[m] == of[target] else 0 for m in range(5)]
    return y, np.array(e_c), np.array(e_w)


@pytest.mark.equation("eq-class-output", "eq-class-loss")
def test_a_word_is_as_probable_as_its_class_and_it_in_its_class():
    params, classes, words, targets, s_init = class_problem()
    states, _ = forward(params, words, s_init)
    y = [class_errors(params, classes, s, 0)[0] for s in states]
    close(np.exp(rnn.class_log_outputs(params, states, classes)), y)
    E = -sum(math.log(row[target]) for row, target in zip(y, targets, strict=True))
    close(rnn.class_loss(params, words, targets, classes, s_init), E)


@pytest.mark.equation("eq-class-sent", "eq-class-gradient")
def test_the_output_layer_with_classes():
    params, classes, words, targets, s_init = class_problem()
    states, _ = forward(params, words, s_init)
    pairs = list(zip(states, targets, strict=True))
    errors = [class_errors(params, classes, *pair)[1:] for pair in pairs]
    sent = [
        [sum(classes.Q[:, j] * e_c) + sum(params.V[:, j] * e_w) for j in range(3)]
        for e_c, e_w in errors
    ]
    layer = rnn.ClassLayer(params.V, 6, None, classes)
    close(layer.forward(states, targets)[1], sent)
    squares = sum(task() for task in layer.backward(states, 0.7))
    dQ, dV = (
        -0.7 * sum(np.outer(e[i], s) for e, s in zip(errors, states, strict=True))
        for i in range(2)
    )
    close(layer.class_gradient, dQ)
    close(layer.gradient, dV)
    close(squares, (dQ**2).sum() + (dV**2).sum())
    online = rnn.ClassOutput(params.V, classes)
    for (s, target), expected in zip(pairs, sent, strict=True):
        close(online.predict(s, int(target))[1], expected)


@pytest.mark.equation("eq-class-bins")
def test_classes_have_equal_sums_of_square_roots():
    counts = [100, 64, 49, 25, 16, 9, 4, 1]  # roots 10 8 7 5 4 3 2 1, in all 40
    for C in (1, 2, 3, 4):
        middles = [sum(map(math.sqrt, counts[:m])) + math.sqrt(counts[m]) / 2
                   for m in range(8)]  # fmt: skip
        expected = [sum(c * 40 / C > R for R in middles) for c in range(C)]
        close(rnn.class_edges(counts, C), [*expected, 8])


@pytest.mark.equation("eq-class-step-cost")
def test_a_word_costs_three_products_by_each_class_and_each_word_of_its_class():
    counts, edges = [5, 3, 1, 1], np.array([0, 1, 4])
    expected = 0.5 * 1 + 0.5 * 3
    close(rnn.class_step_cost(counts, edges, 7), 3 * 7 * (2 + expected + 7))


@pytest.mark.equation("eq-chunk-step")
def test_a_chunk_is_a_step_along_the_shortened_mean_over_its_lanes():
    start, words, targets, s_init = problem(T=8)
    words, targets, s_init = words.reshape(4, 2), targets.reshape(4, 2), [s_init] * 2
    gradient, cost = mapped(np.zeros_like, start), 0
    for b in range(2):
        states, outputs = forward(start, words[:, b], s_init[b])
        _, dU, dW = backward(start, words[:, b], targets[:, b], s_init[b], 4)
        e_o = np.eye(5)[targets[:, b]] - outputs
        for total, part in zip(gradient, (dU, dW, -e_o.T @ states), strict=True):
            total += part
        cost -= sum(math.log(outputs[t, targets[t, b]]) for t in range(4))
    norm = math.sqrt(sum((matrix**2).sum() for matrix in gradient)) / 2
    for limit in (norm / 3, 2 * norm):
        given, c = mapped(np.copy, start), min(1, limit / norm)
        with rnn.workers(1) as pool:
            learner = rnn.ChunkLearner(given, 2, 4, pool, limit=limit)
            learner.state = np.array(s_init)
            close(learner.learn(words, targets, 0.3), cost)
        for matrix, old, slope in zip(given, start, gradient, strict=True):
            close(matrix, old - 0.3 * c / 2 * slope)


@pytest.mark.equation("eq-text-loss")
def test_a_text_costs_what_its_words_cost():
    params, _, text, _ = problem(T=7)
    outputs = forward(params, [0, *text[:-1]], np.zeros(3))[1]
    costs = [-math.log(y[target]) for y, target in zip(outputs, text, strict=True)]
    close(rnn.text_loss(params, text), sum(costs))


@pytest.mark.equation("eq-cosine")
def test_words_are_as_near_as_the_angle_of_their_columns_says():
    U, expected = problem()[0].U, {}
    for n in (0, 1, 3, 4):
        product = sum(U[j, 2] * U[j, n] for j in range(3))
        lengths = [math.sqrt(sum(U[j, m] ** 2 for j in range(3))) for m in (2, n)]
        expected[n] = product / math.prod(lengths)
    nearest = rnn.nearest_words(problem()[0], 2, 4)
    assert [n for n, _ in nearest] == sorted(expected, key=lambda n: -expected[n])
    for n, cosine in nearest:
        close(cosine, expected[n])


@pytest.mark.equation("eq-kneser-ney")
def test_each_length_gives_the_next_shorter_what_it_takes():
    text, D = [1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 3, 0, 4, 3, 0], [0, 1 / 2, 1, 3 / 2]
    pairs = list(pairwise([0, *text]))
    a = [len({v for v, word in pairs if word == m}) for m in range(5)]
    taken = sum(D[count] for count in a)
    P_1 = [(count - D[count] + taken / 5) / sum(a) for count in a]
    model = rnn.kneser_ney(text, 5, 2)
    for v in range(5):
        a = [pairs.count((v, m)) for m in range(5)]
        less = [D[min(count, 3)] for count in a]
        P_2 = [(a[m] - less[m] + sum(less) * P_1[m]) / sum(a) for m in range(5)]
        close(rnn.kneser_ney_distribution(model, [v]), P_2)
        close(rnn.kneser_ney_probabilities(model, [v, 3])[1], P_2[3])


@pytest.mark.equation("eq-discounts")
def test_discounts_follow_from_counts_of_counts():
    n, Y = {1: 10, 2: 4, 3: 2, 4: 1}, 10 / 18
    expected = [c - (c + 1) * Y * n[c + 1] / n[c] for c in (1, 2, 3)]
    counts = [c for c in n for _ in range(n[c])] + [7, 0, 9]
    close(rnn.discounts_from_counts(counts), expected)


@pytest.mark.equation("eq-mixture-weights")
def test_a_weight_becomes_the_share_that_its_model_has_in_the_text():
    P = np.array([[0.5, 0.1, 0.2, 0.3], [0.1, 0.3, 0.2, 0.2], [0.2, 0.2, 0.4, 0.1]])
    weights = [1 / 3] * 3
    while True:
        mixed = [sum(weights[k] * P[k, t] for k in range(3)) for t in range(4)]
        gains = [sum(P[k, t] / mixed[t] for t in range(4)) / 4 for k in range(3)]
        if max(gains) < 1 + 1e-5:
            break
        weights = [weights[k] * gains[k] for k in range(3)]
    assert max(weights) > 0.5
    close(rnn.mixture_weights(P), weights)


@pytest.mark.equation("eq-paired-error")
def test_the_error_of_a_difference_comes_from_the_spread_of_the_blocks():
    first, second = [4.0, 5.0, 4.4, 5.4], [3.9, 4.8, 4.3, 5.0]
    D = [a - b for a, b in zip(first, second, strict=True)]
    mean = sum(D) / 4
    S = (sum((d - mean) ** 2 for d in D) / (4 * 3)) ** 0.5
    close(rnn.paired_difference(first, second), (mean, S))


@pytest.mark.equation("eq-unfolded")
def test_the_rows_without_classes_come_from_the_normal_equations():
    rng = np.random.default_rng(3)
    U, W, V = params = rnn.init_parameters(7, 3, rng)
    classes, text = rnn.init_classes([0, 2, 7], 3, rng), rng.integers(0, 7, 60)
    S = rnn.hidden_states(params, text)
    rows = []
    for c, words in enumerate([(0, 1), (2, 3, 4, 5, 6)]):
        L = [np.log(sum(np.exp(V[k] @ s) for k in words)) for s in S]
        a = np.linalg.solve(S.T @ S, S.T @ L)
        rows += [V[m] + classes.Q[c] - a for m in words]
    found = rnn.without_classes(params, classes, text)
    np.testing.assert_allclose(found.V, rows, atol=1e-9)
    close(found.U, U)
    close(found.W, W)


def test_every_equation_has_code_that_names_it():
    assert equations.functions().keys() == equations.equations().keys()


def test_no_docstring_names_an_equation_that_is_gone():
    for path in sorted((equations.ROOT / "rnn").glob("*.py")):
        named = set(re.findall(r":eq:`([^`]+)`", path.read_text()))
        assert named <= equations.equations().keys(), path.name


def test_every_equation_is_guarded():
    assert GUARDED.keys() == equations.equations().keys()


def test_the_index_is_up_to_date():
    assert equations.PAGE.read_text() == equations.page(), "run `make export`"


def wrong(value):
    """A value a little off, of the same form."""
    match value:
        case rnn.Activation():
            return Off(value)
        case dict():
            return {key: wrong(part) for key, part in value.items()}
        case tuple() if hasattr(value, "_fields"):
            return type(value)(*map(wrong, value))
        case tuple() | list():
            return type(value)(map(wrong, value))
        case np.ndarray() if value.dtype.kind in "iu":
            return (value + 1) % 5
        case int():
            return value + 1
        case _:
            return 1.01 * value + 0.001


class Off:
    """An activation whose values and slopes are off."""

    def __init__(self, activation):
        self.activation = activation

    def __call__(self, z):
        return wrong(self.activation(z))

    def slope(self, s):
        return wrong(self.activation.slope(s))


class TooMuch(rnn.PendingUpdates):
    """Updates that wait, each a little too large."""

    def add(self, e, s):
        super().add(1.01 * e, s)


class OffTiles(rnn.Tiles):
    """Tiles whose product is off."""

    def __rmatmul__(self, s):
        return wrong(super().__rmatmul__(s))


class OffBackward(rnn.OutputLayer):
    """An output layer whose gradient is off."""

    def backward(self, states, scale):
        return super().backward(states, wrong(scale))


class OffClassBackward(rnn.ClassLayer):
    """An output layer with classes whose gradients are off."""

    def backward(self, states, scale):
        return super().backward(states, wrong(scale))


class OffClassForward(rnn.ClassLayer):
    """An output layer with classes whose errors are off."""

    def forward(self, states, targets):
        costs, sent = super().forward(states, targets)
        return costs, wrong(sent)


class OffPrediction(rnn.ClassOutput):
    """An output layer with classes, word by word, whose errors are off."""

    def predict(self, s, target):
        cost, sent = super().predict(s, target)
        return cost, wrong(sent)


class OffCost(rnn.ChunkLearner):
    """A learner that returns a cost that is off."""

    def learn(self, *given, **named):
        return wrong(super().learn(*given, **named))


def off_forward(i):
    """An output layer whose costs (i = 0) or errors (i = 1) are off."""

    class OffForward(rnn.OutputLayer):
        def forward(self, states, targets):
            given = list(super().forward(states, targets))
            given[i] = wrong(given[i])
            return given

    return OffForward


def off_levels(part):
    """A count of n-grams after which the shares, or the rests, are off."""
    count = rnn.kneser_ney

    def call(*given):
        model = count(*given)
        levels = [
            level._replace(**{part: wrong(getattr(level, part))})
            for level in model.levels
        ]
        return model._replace(levels=levels)

    return call


def overdoing(i):
    """A learner that does too much to the i-th matrix."""

    class Overdoing(rnn.ChunkLearner):
        def learn(self, *given, **named):
            learn = super().learn
            return overdone(lambda _: learn(*given, **named), i)(self.params)

    return Overdoing


def overdone(function, i):
    """The function, with what it does to the i-th matrix a little too large."""

    def call(params, *given, **named):
        before = params[i].copy()
        value = function(params, *given, **named)
        params[i][:] += 0.01 * (params[i] - before)
        return value

    return call


def wrong_ones(name):
    """Functions to stand in for rnn.name, each wrong in one respect."""
    right = getattr(rnn, name)
    if isinstance(right, rnn.Activation):
        return [Off(right)]
    if name in OFF:
        return OFF[name]
    changes = [overdone(right, i) for i in range(3)] if name in IN_PLACE else []
    if name == "sgd_step":  # returns nothing
        return changes
    return [*changes, lambda *given, **named: wrong(right(*given, **named))]


# these change params
IN_PLACE = {"sgd_step", "learn_online", "adam_step", "adagrad_step"}
OFF = {  # what stands in place of classes, and of a function that returns no numbers
    "PendingUpdates": [TooMuch],
    "Tiles": [OffTiles],
    "OutputLayer": [off_forward(0), off_forward(1), OffBackward],
    "ClassLayer": [OffClassForward, OffClassBackward],
    "ClassOutput": [OffPrediction],
    "kneser_ney": [off_levels("shares"), off_levels("rests")],
    "ChunkLearner": [OffCost, *map(overdoing, range(3))],
}
CASES = [
    (label, name.split(".")[1], test.split("::")[1])
    for label, names in sorted(equations.functions().items())
    for name in names
    for test in GUARDED[label]
    if test.startswith("test_equations::")
]


@pytest.mark.parametrize(("label", "name", "guard"), CASES)
def test_a_guard_fails_when_the_function_is_wrong(label, name, guard, monkeypatch):
    for function in wrong_ones(name):
        monkeypatch.setattr(rnn, name, function)
        with pytest.raises(AssertionError):
            getattr(sys.modules[__name__], guard)()
        monkeypatch.undo()
