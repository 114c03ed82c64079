"""Chapter 4: loss, output error, perplexity, counting models, a grammar's limits."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn.cross_entropy import (
    BigramCounts,
    GrammarLimits,
    bigram_probabilities,
    bits,
    check_targets,
    count_bigrams,
    entropy,
    grammar_limits,
    loss,
    mean_cross_entropy,
    output_error,
    perplexity,
    unigram_probabilities,
)
from rnn.hidden_state import (
    Parameters,
    hand_example,
    hidden_states,
    init_parameters,
    relu,
    tanh,
)
from rnn.softmax import outputs, softmax
from rnn.words import END, SMALL_LANGUAGE, Grammar, Vocabulary, sample_sentence, stream

H, N = 3, 5


def network(rng, dtype=np.float64):
    """Parameters of order one."""
    shapes = (H, N), (H, H), (N, H)
    return Parameters(*(rng.normal(size=shape).astype(dtype) for shape in shapes))


def table(V):
    """A network whose logits under ReLU are the columns of V: z(t) = V[:, w(t)]."""
    return Parameters(np.eye(len(V)), np.zeros((len(V), len(V))), V)


def streams(max_size=60):
    """Inputs and targets of a text over four words."""
    pair = st.tuples(st.integers(0, 3), st.integers(0, 3))
    return st.lists(pair, min_size=1, max_size=max_size).map(
        lambda pairs: np.array(pairs).T
    )


distributions = st.lists(st.floats(0.01, 1), min_size=2, max_size=8).map(
    lambda p: np.array(p) / np.sum(p)
)


# The loss


def test_loss_of_the_hand_example():
    params, words, targets = hand_example()
    E = loss(params, words, targets)
    assert abs(E - 3.1595491401372) < 1e-12
    assert isinstance(E, np.float64)


@pytest.mark.parametrize("shape", [(6,), (6, 2), (6, 2, 3)])
@pytest.mark.parametrize("activation", [tanh, relu])
def test_loss_is_the_sum_of_minus_log_y(shape, activation):
    rng = np.random.default_rng(1)
    params, s_init = network(rng), rng.normal(size=(*shape[1:], H))
    words, targets = rng.integers(0, N, (2, *shape))
    y = outputs(params, hidden_states(params, words, s_init, activation))
    expected = -sum(
        math.log(y[(*place, targets[place])]) for place in np.ndindex(shape)
    )
    assert loss(params, words, targets, s_init, activation) == pytest.approx(
        expected, abs=1e-12
    )


def test_loss_defaults_to_the_sigmoid_and_a_zero_state():
    rng = np.random.default_rng(2)
    params = network(rng)
    words, targets = rng.integers(0, N, (2, 4))
    y = outputs(params, hidden_states(params, words, np.zeros(H)))
    expected = -np.log(y[range(4), targets]).sum()
    assert loss(params, words, targets) == pytest.approx(expected, abs=1e-12)
    assert loss(params, words, targets, activation=tanh) != pytest.approx(
        expected, abs=1e-3
    )
    assert loss(params, words, targets, np.ones(H)) != pytest.approx(expected, abs=1e-3)


def test_loss_adds_over_chunks_and_sequences():
    rng = np.random.default_rng(3)
    params = network(rng)
    words, targets = rng.integers(0, N, (2, 7, 3))
    whole = loss(params, words, targets)
    sequences = [loss(params, words[:, i], targets[:, i]) for i in range(3)]
    state = hidden_states(params, words[:4])[-1]
    parts = loss(params, words[:4], targets[:4]) + loss(
        params, words[4:], targets[4:], state
    )
    assert whole == pytest.approx(sum(sequences), abs=1e-12)
    assert whole == pytest.approx(parts, abs=1e-12)


def test_loss_without_output_weights_is_uniform():
    params = network(np.random.default_rng(4))._replace(V=np.zeros((N, H)))
    words = np.arange(N)
    assert loss(params, words, words[::-1]) == pytest.approx(N * math.log(N), abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_loss_follows_the_parameters_type(dtype):
    rng = np.random.default_rng(5)
    params, words, targets = network(rng, dtype), [0, 4, 2], [4, 2, 0]
    E = loss(params, words, targets)
    assert isinstance(E, np.generic)
    assert E.dtype == dtype
    exact = Parameters(*(np.asarray(array, complex) for array in params))
    assert abs(E - loss(exact, words, targets)) < (
        1e-5 if dtype == np.float32 else 1e-12
    )


def test_loss_survives_extreme_logits():
    V = np.array([[10_000.0, 0.0], [-10_000.0, 0.0]])
    with np.errstate(all="raise", under="ignore"):
        assert loss(table(V), [0], [0], activation=relu) == 0
        assert loss(table(V), [0], [1], activation=relu) == 20_000


def test_loss_keeps_the_digits_of_a_leading_logit():
    V = np.array([[40.0, 0.0], [0.0, 0.0]])
    assert loss(table(V), [0], [0], activation=relu) == pytest.approx(
        math.exp(-40), rel=1e-14
    )


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([1, 2], r"targets has shape \(2,\): expected \(3,\)"),
        ([[1, 2, 0]], r"targets has shape \(1, 3\): expected \(3,\)"),
        ([1, 2, 3], "targets .*3"),
        ([1, -1, 0], "targets .*-1"),
        ([1.0, 2.0, 0.0], "targets"),
        ([], "targets"),
    ],
)
def test_loss_refuses_targets(targets, message):
    params, words, _ = hand_example()
    with pytest.raises(ValueError, match=message):
        loss(params, words, targets)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"words": [0, 1, 3]}, "words"),
        ({"words": [0.5, 1, 2]}, "words"),
        ({"s_init": np.zeros(5)}, "s_init"),
        ({"s_init": [np.nan, 0.0]}, "s_init"),
    ],
)
def test_loss_refuses_other_arguments(change, name):
    params, words, targets = hand_example()
    with pytest.raises(ValueError, match=name):
        loss(**{"params": params, "words": words, "targets": targets, **change})


def test_check_targets_gives_the_indices():
    targets = check_targets([[0, 2], [1, 1]], (2, 2), 3)
    assert targets.tolist() == [[0, 2], [1, 1]]
    with pytest.raises(ValueError, match="targets"):
        check_targets([0, 2], (2,), 2)


# The output error


def test_output_error_of_the_hand_example():
    params, words, targets = hand_example()
    y = outputs(params, hidden_states(params, words))
    expected = [
        [-0.4596, 0.6352, -0.1756],
        [-0.2289, -0.4322, 0.6611],
        [0.6566, -0.3803, -0.2763],
    ]
    np.testing.assert_allclose(output_error(y, targets), expected, atol=5e-5)


@pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 2, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_output_error_is_d_minus_y(shape, dtype):
    rng = np.random.default_rng(6)
    y = softmax(rng.normal(size=(*shape, N))).astype(dtype)
    if dtype == np.complex128:
        y += 0.1j * rng.normal(size=y.shape)
    targets, before = rng.integers(0, N, shape), y.copy()
    error = output_error(y, targets)
    assert error.dtype == dtype
    np.testing.assert_array_equal(error, np.eye(N, dtype=dtype)[targets] - y)
    np.testing.assert_array_equal(y, before)


def test_output_error_takes_integers_and_lists():
    np.testing.assert_array_equal(output_error([[1, 0]], [1]), [[-1.0, 1.0]])
    unsigned = np.array([[1, 0]], np.uint8)
    np.testing.assert_array_equal(output_error(unsigned, [0]), [[0.0, 0.0]])


@given(st.integers(0, 2**32 - 1))
def test_output_error_is_minus_the_derivative_of_the_loss(seed):
    rng = np.random.default_rng(seed)
    V, words, targets = (
        rng.normal(0, 2, (N, N)),
        rng.permutation(N),
        rng.integers(0, N, N),
    )
    error = output_error(softmax(V.T[words]), targets)
    assert abs(error.sum(axis=-1)).max() < 1e-14
    for t, k in np.ndindex(error.shape):
        step = V.astype(complex)
        step[k, words[t]] += 1e-30j
        slope = loss(table(step), words, targets, activation=relu).imag / 1e-30
        assert abs(slope + error[t, k]) < 1e-13


@pytest.mark.parametrize(
    ("y", "targets", "message"),
    [
        ([[0.5, 0.5]], [0, 1], r"targets has shape \(2,\): expected \(1,\)"),
        ([[0.5, 0.5]], [2], "targets"),
        ([[0.5, np.nan]], [0], "y"),
        (0.5, [0], "y"),
        ([["a", "b"]], [0], "y"),
    ],
)
def test_output_error_refuses(y, targets, message):
    with pytest.raises(ValueError, match=message):
        output_error(y, targets)


# Nats, bits, perplexity, entropy


def test_perplexity_and_bits():
    assert perplexity(math.log(7)) == pytest.approx(7)
    assert perplexity(0) == 1
    assert bits(math.log(8)) == pytest.approx(3)
    assert bits(0) == 0
    np.testing.assert_allclose(perplexity([0.0, math.log(2)]), [1, 2])
    np.testing.assert_allclose(bits(np.log([[2.0, 4.0]])), [[1, 2]])
    assert isinstance(perplexity(1.0), np.float64)
    assert isinstance(bits(1), np.float64)


@pytest.mark.parametrize("function", [perplexity, bits])
def test_perplexity_and_bits_follow_the_type(function):
    assert function(np.float32(1.5)).dtype == np.float32
    assert function(np.ones(2, np.float32)).dtype == np.float32
    assert function(np.int8(1)).dtype == np.float64


def test_perplexity_may_be_infinite_without_a_warning():
    with np.errstate(all="raise"):
        assert perplexity(709.7) < np.inf
        assert perplexity(710.0) == np.inf
        assert perplexity(np.float32(88.7)) < np.inf
        assert perplexity(np.float32(89)) == np.inf
        assert perplexity(np.inf) == np.inf
        assert bits(np.inf) == np.inf


@pytest.mark.parametrize("function", [perplexity, bits])
@pytest.mark.parametrize(
    "mean",
    [-1e-9, np.nan, [1.0, -1.0], [1.0, np.nan], "1", None, 1 + 0j, True, -np.inf],
)
def test_perplexity_and_bits_refuse(function, mean):
    with pytest.raises(
        ValueError, match=r"mean_nats is .* expected nats per word, 0 or more"
    ):
        function(mean)


def test_entropy_of_known_distributions():
    assert entropy([0.5, 0.5]) == pytest.approx(math.log(2))
    assert entropy([0.5, 0.25, 0.25]) == pytest.approx(1.5 * math.log(2))
    assert entropy([0, 1, 0]) == 0
    np.testing.assert_allclose(entropy([[1.0, 0.0], [0.5, 0.5]]), [0, math.log(2)])
    assert isinstance(entropy([0.5, 0.5]), np.float64)
    assert entropy(np.array([0.5, 0.5], np.float32)).dtype == np.float32
    with np.errstate(all="raise", under="ignore"):
        assert entropy([1.0, 5e-324]) < 1e-300


@given(distributions, st.integers(0, 2**32 - 1))
def test_gibbs_inequality(p, seed):
    q = np.random.default_rng(seed).dirichlet(np.ones(len(p)))
    q = 0.999 * q + 0.001 * p
    assert -(p * np.log(q)).sum() >= entropy(p) - 1e-12
    assert 0 <= entropy(p) <= math.log(len(p)) + 1e-12


def test_entropy_allows_rounding_only():
    assert entropy([0.5, 0.5 + 9e-6]) == pytest.approx(math.log(2), abs=1e-5)
    assert entropy([1 + 9e-6, 0.0]) == 0
    for p in ([0.5, 0.5 + 2e-5], [0.5, 0.5 - 2e-5], [[1.0, 0.0], [0.5, 0.6]], [0.5]):
        with pytest.raises(
            ValueError, match=r"p sums to .*: expected 1 over the last axis"
        ):
            entropy(p)
    for p in ([1.5, -0.5], [1 + 0j, 0j]):
        with pytest.raises(ValueError, match="p has a negative or complex element"):
            entropy(p)
    for p in ([np.nan, 1.0], 1.0):
        with pytest.raises(ValueError, match=r"^p"):
            entropy(p)


# The counting models


def test_mean_cross_entropy():
    assert mean_cross_entropy([0.5, 0.125]) == pytest.approx(2 * math.log(2))
    assert mean_cross_entropy([[0.5], [0.125]]) == pytest.approx(2 * math.log(2))
    assert mean_cross_entropy([1, 1]) == 0
    assert mean_cross_entropy([1 + 1e-5]) == 0
    assert isinstance(mean_cross_entropy([0.5]), np.float64)
    with np.errstate(all="raise"):
        assert mean_cross_entropy([0.5, 0.0]) == np.inf


@pytest.mark.parametrize(
    "P", [[], [-0.1, 0.5], [0.5, 1 + 2e-5], [np.nan], [0.5j], 0.5, ["a"]]
)
def test_mean_cross_entropy_refuses(P):
    with pytest.raises(ValueError, match=r"^probabilities"):
        mean_cross_entropy(P)


def test_unigram_probabilities():
    targets = [0, 1, 1, 3]
    np.testing.assert_allclose(unigram_probabilities(targets, 4), [0.25, 0.5, 0, 0.25])
    expected = np.array([1.5, 2.5, 0.5, 1.5]) / 6
    np.testing.assert_allclose(unigram_probabilities(targets, 4, 2), expected)
    folded = np.reshape(np.array(targets, np.uint64), (2, 2))
    np.testing.assert_allclose(unigram_probabilities(folded, 4, 2.0), expected)


@given(streams(), st.floats(0, 100))
def test_unigram_is_a_distribution_and_the_best_at_zero(text, b):
    _, targets = text
    P = unigram_probabilities(targets, 4, b)
    best = unigram_probabilities(targets, 4)
    assert P.sum() == pytest.approx(1)
    assert mean_cross_entropy(best[targets]) == pytest.approx(entropy(best), abs=1e-12)
    assert mean_cross_entropy(best[targets]) <= mean_cross_entropy(P[targets]) + 1e-12


def test_count_bigrams():
    counts = count_bigrams([[0, 1], [0, 2]], [[1, 2], [1, 0]], 4)
    assert isinstance(counts, BigramCounts)
    assert counts.codes.tolist() == [1, 6, 8]
    assert counts.pairs.tolist() == [2, 1, 1]
    assert counts.words.tolist() == [2, 1, 1, 0]


def naive_bigram(words, targets, prior, v, m, b):
    """The formula by loops."""
    pairs, inputs = (
        Counter(zip(words.tolist(), targets.tolist(), strict=True)),
        Counter(words),
    )
    return (pairs[v, m] + b * prior[m]) / (inputs[v] + b) if inputs[v] + b else prior[m]


@given(streams(), st.sampled_from([0, 0.5, 1, 7.25]))
def test_bigram_probabilities_against_loops(text, b):
    words, targets = text
    prior = unigram_probabilities(targets, 4, 1)
    m, v = np.indices((4, 4))
    P = bigram_probabilities(count_bigrams(words, targets, 4), prior, v, m, b)
    expected = [
        [naive_bigram(words, targets, prior, i, j, b) for i in range(4)]
        for j in range(4)
    ]
    np.testing.assert_allclose(P, expected, rtol=1e-13)
    np.testing.assert_allclose(P.sum(axis=0), 1)


@given(streams())
def test_pure_bigram_is_no_worse_than_the_unigram_on_its_own_text(text):
    words, targets = text
    prior = unigram_probabilities(targets, 4)
    P = bigram_probabilities(count_bigrams(words, targets, 4), prior, words, targets)
    assert mean_cross_entropy(P) <= mean_cross_entropy(prior[targets]) + 1e-12


def test_bigram_of_an_unseen_pair_and_an_unseen_word():
    counts, prior = count_bigrams([0, 1], [1, 0], 3), [0.5, 0.25, 0.25]
    with np.errstate(all="raise"):
        P = bigram_probabilities(counts, prior, [0, 2, 2, 0], [2, 0, 2, 1])
    assert P.tolist() == [0, 0.5, 0.25, 1]
    P = bigram_probabilities(counts, prior, [0, 2, 2, 0], [2, 0, 2, 1], 1)
    np.testing.assert_allclose(P, [0.125, 0.5, 0.25, 0.625])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64])
def test_bigrams_of_small_index_types_do_not_wrap(dtype):
    words, targets = np.array([199, 5], dtype), np.array([7, 199], dtype)
    counts = count_bigrams(words, targets, 200)
    assert counts.codes.tolist() == [5 * 200 + 199, 199 * 200 + 7]
    P = bigram_probabilities(counts, np.full(200, 1 / 200), words, targets)
    assert P.tolist() == [1, 1]


def test_bigrams_of_a_large_vocabulary_need_no_table():
    rng, size = np.random.default_rng(9), 1_000_000  # a table would take 8 TB
    words, targets = rng.integers(0, size, (2, 1000))
    prior = unigram_probabilities(targets, size)
    P = bigram_probabilities(count_bigrams(words, targets, size), prior, words, targets)
    assert P.min() > 0.1


@pytest.mark.parametrize("b", [-1e-9, np.nan, np.inf])
def test_pseudo_counts_refused(b):
    counts = count_bigrams([0, 1], [1, 0], 2)
    with pytest.raises(
        ValueError, match=r"pseudo_count is .*: expected a number, 0 or more"
    ):
        unigram_probabilities([0], 2, b)
    with pytest.raises(
        ValueError, match=r"pseudo_count is .*: expected a number, 0 or more"
    ):
        bigram_probabilities(counts, [0.5, 0.5], [0], [1], b)


def test_counting_models_refuse_bad_arguments():
    counts = count_bigrams([0, 1], [1, 0], 2)
    with pytest.raises(ValueError, match="targets"):
        unigram_probabilities([2], 2)
    with pytest.raises(ValueError, match="words"):
        count_bigrams([2], [0], 2)
    with pytest.raises(ValueError, match=r"targets has shape \(1,\): expected \(2,\)"):
        count_bigrams([0, 1], [0], 2)
    with pytest.raises(ValueError, match="targets"):
        bigram_probabilities(counts, [0.5, 0.5], [0], [2])
    for prior in ([0.5, 0.6], [1.5, -0.5], [1.0], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="prior"):
            bigram_probabilities(counts, prior, [0], [1])


# The limits of a grammar


def test_limits_of_a_language_of_two_sentences():
    limits = grammar_limits(Grammar.from_text("SENTENCE -> a b | b a"))
    assert isinstance(limits, GrammarLimits)
    assert all(type(limit) is float for limit in limits)
    np.testing.assert_allclose(
        limits, [math.log(3), math.log(2), math.log(2) / 3], rtol=1e-13
    )


def test_limits_where_memory_buys_nothing():
    # a, again and again, with probability 3/4: a word depends on the last at most
    limits = grammar_limits(Grammar.from_text("S -> 3 a S | 1 a"))
    choice = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    share = 4 / 5  # four a to one </s>
    words = -(share * math.log(share) + (1 - share) * math.log(1 - share))
    np.testing.assert_allclose(
        limits, [words, share * choice, share * choice], rtol=1e-13
    )


def test_limits_of_the_small_language_by_sampling():
    limits = grammar_limits(SMALL_LANGUAGE)
    size = 1 + len(SMALL_LANGUAGE.words)
    assert 0 < limits.exact < limits.bigram < limits.unigram < math.log(size)
    rng, tokens, surprise = np.random.default_rng(10), [], 0.0
    for _ in range(4000):
        sentence, rules = sample_sentence(SMALL_LANGUAGE, rng)
        tokens += [*sentence, END]
        surprise -= sum(math.log(rule.probability) for rule in rules)
    words, targets = stream(Vocabulary((END, *SMALL_LANGUAGE.words)).encode(tokens))
    prior = unigram_probabilities(targets, size)
    P = bigram_probabilities(count_bigrams(words, targets, size), prior, words, targets)
    measured = (
        mean_cross_entropy(prior[targets]),
        mean_cross_entropy(P),
        surprise / len(tokens),
    )
    np.testing.assert_allclose(measured, limits, rtol=0.02)
    untrained = init_parameters(size, 10, rng)
    mean = loss(untrained, words, targets) / len(words)
    assert perplexity(mean) == pytest.approx(size, rel=0.1)
