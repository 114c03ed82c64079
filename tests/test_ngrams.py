"""Chapter 15: Kneser-Ney against its definition, mixtures, hostile input."""

import os
from pathlib import Path

import chapter
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn.cross_entropy import (
    bigram_probabilities,
    count_bigrams,
    mean_cross_entropy,
    perplexity,
    unigram_probabilities,
)
from rnn.ngrams import (
    discounts_from_counts,
    kneser_ney,
    kneser_ney_distribution,
    kneser_ney_probabilities,
    mixture_weights,
)
from rnn.words import SMALL_LANGUAGE, Vocabulary, sample_text, stream, tokenize

Plain = chapter.load("ngrams", "PlainKneserNey")
N = 5
texts = st.lists(st.integers(0, N - 1), min_size=1, max_size=60).map(np.array)
orders = st.integers(1, 6)

#: dogs bark (three times), dogs run, foxes run; by falling frequency.
END, DOGS, BARK, RUN, FOXES = range(N)
EXAMPLE = [DOGS, BARK, END] * 3 + [DOGS, RUN, END] + [FOXES, RUN, END]


def zipf(rng, vocab_size, length):
    """Words of which few are frequent and many rare, as in real text."""
    p = 1 / np.arange(1, vocab_size + 1)
    return rng.choice(vocab_size, length, p=p / p.sum())


def plain_probabilities(model, text):
    return [model.probability(text[:t], text[t]) for t in range(len(text))]


@given(texts, texts, orders)
def test_definition(text, other, order):
    """The arrays and the rows of words give the same."""
    model, slow = kneser_ney(text, N, order), Plain(text, N, order)
    np.testing.assert_allclose(
        kneser_ney_probabilities(model, other),
        plain_probabilities(slow, other),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("order", [2, 3, 4])
def test_definition_with_estimated_discounts(order):
    """A text that is large enough for the discounts from counts of counts."""
    rng = np.random.default_rng(0)
    text, other = zipf(rng, 30, 700), zipf(rng, 30, 60)
    model, slow = kneser_ney(text, 30, order), Plain(text, 30, order)
    assert any((level.discounts != [0.5, 1, 1.5]).all() for level in model.levels)
    np.testing.assert_allclose(
        kneser_ney_probabilities(model, other),
        plain_probabilities(slow, other),
        rtol=0,
        atol=1e-12,
    )


@given(texts, texts, orders)
def test_sums_to_one(text, context, order):
    """After any context, seen or unseen, over all words; and none gets nothing."""
    model = kneser_ney(text, N, order)
    p = kneser_ney_distribution(model, context)
    assert p.shape == (N,)
    assert p.min() > 0
    assert abs(p.sum() - 1) < 1e-12


@given(texts, texts, orders)
def test_distribution_and_probabilities_agree(text, other, order):
    model = kneser_ney(text, N, order)
    p = kneser_ney_probabilities(model, other)
    for t in range(1, len(other)):
        assert kneser_ney_distribution(model, other[:t])[other[t]] == p[t]
    begin = kneser_ney_distribution(model, [END])
    assert begin[other[0]] == p[0]


@given(texts, texts, texts, orders)
def test_contexts_end_at_the_line(text, before, line, order):
    """What stood on the lines before has no influence."""
    model = kneser_ney(text, N, order)
    alone = kneser_ney_probabilities(model, line)
    behind = kneser_ney_probabilities(model, [*before, END, *line])
    np.testing.assert_array_equal(behind[-len(line) :], alone)


def test_a_context_that_nothing_followed_is_like_one_unseen():
    model = kneser_ney([1, 2], 3, 3)  # ends with "1 2"
    np.testing.assert_array_equal(
        kneser_ney_distribution(model, [1, 2]), kneser_ney_distribution(model, [2])
    )


@given(texts, orders)
def test_order_of_lines_is_ignored(text, order):
    """Counting lines in another order gives the same model."""
    if text[-1] != END:
        text = np.append(text, END)
    lines = np.split(text, np.flatnonzero(text == END)[:-1] + 1)
    first = kneser_ney(np.concatenate(lines), N, order)
    second = kneser_ney(np.concatenate(lines[::-1]), N, order)
    for one, other in zip(first.levels, second.levels, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_example_by_hand():
    """The worked example of the page, every number from the page."""
    model = kneser_ney(EXAMPLE, N, 2)
    for level in model.levels:
        np.testing.assert_array_equal(level.discounts, [0.5, 1, 1.5])
    after_foxes = [0.5 / 7 + 0.05] * N
    after_foxes[END] = 1 / 14 + 0.05
    after_foxes[DOGS] = after_foxes[BARK] = after_foxes[FOXES] = 0.25 / 7 + 0.05
    after_foxes[RUN] = 0.5 + 1 / 14 + 0.05
    np.testing.assert_allclose(
        kneser_ney_distribution(model, [FOXES]), after_foxes, rtol=1e-12
    )
    lower = kneser_ney_distribution(kneser_ney(EXAMPLE, N, 1), [END])
    assert lower[BARK] > lower[RUN]  # by counts, which continuation counts turn round


def test_discounts_by_hand():
    """n_1 .. n_4 = 10, 4, 2, 1: Y = 10 / 18."""
    counts = [1] * 10 + [2] * 4 + [3] * 2 + [4] + [9] * 7 + [0] * 3
    expected = [1 - 2 * 4 / 18, 2 - 3 * (10 / 18) * 2 / 4, 3 - 4 * (10 / 18) / 2]
    np.testing.assert_allclose(discounts_from_counts(counts), expected, rtol=1e-12)
    assert expected[0] == pytest.approx(10 / 18)  # D_1 is the single discount


@pytest.mark.parametrize(
    "counts",
    [
        [],
        [0, 0],
        [1, 2, 3],
        [1, 1, 2, 3, 3, 3, 4],
        [2, 3, 4],
        [1, 1, 3, 4],
        [9] * 9,
        [1, 2, 3, 3, 4],  # Y = 1/3, and D_2 = 2 - 3 Y 2 = 0
    ],
)
def test_discounts_without_an_estimate(counts):
    """Nothing to divide by, or a discount of 0 or less."""
    np.testing.assert_array_equal(discounts_from_counts(counts), [0.5, 1, 1.5])


def test_discounts_make_the_left_out_text_likely():
    """The formula's D_c is where the likelihood with Y fixed has no slope."""
    n = np.array([700.0, 150, 60, 33])
    counts = np.repeat([1, 2, 3, 4], n.astype(int))
    D = discounts_from_counts(counts)
    Y = n[0] / (n[0] + 2 * n[1])
    c = np.array([1, 2, 3])
    np.testing.assert_allclose(n[:3] / Y, (c + 1) * n[1:] / (c - D), rtol=1e-12)


def test_longer_contexts_help():
    """In the small language, 3-grams know more than 2-grams, and those than 1-grams."""
    rng = np.random.default_rng(0)
    tokens = tokenize(sample_text(SMALL_LANGUAGE, rng, 2000))
    vocabulary = Vocabulary.from_tokens(tokens)
    text = vocabulary.encode(tokens)
    test = vocabulary.encode(tokenize(sample_text(SMALL_LANGUAGE, rng, 500)))
    costs = [
        mean_cross_entropy(
            kneser_ney_probabilities(kneser_ney(text, len(vocabulary), order), test)
        )
        for order in (1, 2, 3)
    ]
    assert costs[0] > costs[1] + 0.1 > costs[2] + 0.2


def test_order_longer_than_any_line():
    """Levels without an n-gram change nothing, from the level where n-grams end."""
    text = [1, 0, 2, 0, 1, 0]
    reached = kneser_ney_probabilities(kneser_ney(text, 3, 3), text)
    beyond = kneser_ney_probabilities(kneser_ney(text, 3, 9), text)
    np.testing.assert_array_equal(beyond, reached)
    assert len(kneser_ney(text, 3).levels) == 5  # unless told


def test_one_word():
    model = kneser_ney([0], 1)
    assert kneser_ney_distribution(model, [0, 0]) == pytest.approx([1], abs=1e-15)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int16])
def test_integer_types(dtype):
    """Codes beyond the type's range do not overflow."""
    text = np.arange(200) % 100
    expected = kneser_ney_probabilities(kneser_ney(text, 100, 3), text)
    typed = text.astype(dtype)
    given = kneser_ney_probabilities(kneser_ney(typed, 100, 3), typed)
    np.testing.assert_array_equal(given, expected)
    assert (typed == text).all()


# Weights of mixtures.


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 30))
def test_weights_are_the_best(seed, K, T):
    """No other weights cost less by 1e-5 nats: not random ones, nor one model alone."""
    rng = np.random.default_rng(seed)
    P = rng.random((K, T)) ** 3
    weights = mixture_weights(P)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    cost = mean_cross_entropy(weights @ P)
    for other in [*np.eye(K), *rng.dirichlet(np.ones(K), 50)]:
        assert cost <= mean_cross_entropy(other @ P) + 1e-5


def test_weights_by_hand():
    """Models that each know one of two words: the weights are the words' shares."""
    P = np.array([[1, 1, 1, 0], [0, 0, 0, 1.0]])
    np.testing.assert_allclose(mixture_weights(P), [0.75, 0.25], atol=1e-4)
    np.testing.assert_array_equal(mixture_weights(P[:1, :3]), [1])
    np.testing.assert_array_equal(mixture_weights(np.full((2, 3), 0.2)), [0.5, 0.5])


# Hostile input.

MODEL = kneser_ney([1, 2, 0], 3, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kneser_ney([], N), "text is empty"),
        (lambda: kneser_ney([1, N], N), r"text holds the index 5 at \[1\]"),
        (lambda: kneser_ney([1, -1], N), r"text holds the index -1 at \[1\]"),
        (lambda: kneser_ney([[1, 2]], N), r"text has shape \(1, 2\)"),
        (lambda: kneser_ney([1.0, 2.0], N), "text has shape"),
        (lambda: kneser_ney([[1], [1, 2]], N), "text has rows of different lengths"),
        (lambda: kneser_ney("dogs bark", N), "text has shape"),
        (lambda: kneser_ney([0], 0), "vocab_size is 0"),
        (lambda: kneser_ney([0], 2.0), r"vocab_size is 2\.0"),
        (lambda: kneser_ney([0], N, 0), "order is 0"),
        (lambda: kneser_ney([0], N, 2.5), r"order is 2\.5"),
        (lambda: kneser_ney([0], N, True), "order is True"),
        (lambda: kneser_ney_probabilities(MODEL, []), "text is empty"),
        (lambda: kneser_ney_probabilities(MODEL, [3]), "text holds the index 3"),
        (lambda: kneser_ney_probabilities(MODEL, [[0]]), r"text has shape \(1, 1\)"),
        (lambda: kneser_ney_distribution(MODEL, []), "context is empty"),
        (lambda: kneser_ney_distribution(MODEL, [3]), "context holds the index 3"),
        (lambda: kneser_ney_distribution(MODEL, 1), r"context has shape \(\)"),
        (lambda: discounts_from_counts([1, -1]), "counts has an element"),
        (lambda: discounts_from_counts([1.5]), "counts has an element"),
        (lambda: discounts_from_counts([1 + 0j]), "counts has an element"),
        (lambda: discounts_from_counts([[1], [1, 2]]), "counts"),
        (lambda: mixture_weights([0.5, 0.5]), r"probabilities has shape \(2,\)"),
        (lambda: mixture_weights(np.ones((1, 2, 3))), "probabilities has shape"),
        (lambda: mixture_weights(np.ones((2, 0))), r"probabilities has shape \(2, 0\)"),
        (lambda: mixture_weights([[0.5, 1.5]]), "probabilities has an element"),
        (lambda: mixture_weights([[0.5, -0.5]]), "probabilities has an element"),
        (lambda: mixture_weights([[0.5 + 0j]]), "probabilities has an element"),
        (lambda: mixture_weights([[0.5, np.nan]]), "probabilities holds nan"),
        (
            lambda: mixture_weights([[1, 0, 0], [1, 0, 0]]),
            "probabilities is 0 .* word 1:",
        ),
    ],
)
def test_hostile(call, message):
    with pytest.raises(ValueError, match="^" + message) as caught:
        call()
    assert "\n" not in str(caught.value)


# The treebank: run with RNN_DATA_DIR naming its folder.

FOLDER = Path(os.environ.get("RNN_DATA_DIR", "")) / "ptb"
PARTS = [FOLDER / f"ptb.{part}.txt" for part in ("train", "valid", "test")]


@pytest.fixture(scope="module")
def treebank():
    if "RNN_DATA_DIR" not in os.environ or not PARTS[0].exists():
        pytest.skip("RNN_DATA_DIR names no folder with ptb/ptb.train.txt")
    tokens = [tokenize(path.read_text()) for path in PARTS]
    vocabulary = Vocabulary.from_tokens(tokens[0])
    return len(vocabulary), *(vocabulary.encode(part) for part in tokens)


# Published: 148.3 and 141.2 on the test file, of 3-grams and 5-grams.
@pytest.mark.parametrize(
    ("order", "valid", "test"),
    [
        (1, 685.22, 639.19),
        (2, 199.02, 185.70),
        (3, 157.77, 148.28),
        (5, 148.01, 141.19),
    ],
)
def test_treebank(treebank, order, valid, test):
    vocab_size, train, *others = treebank
    model = kneser_ney(train, vocab_size, order)
    reached = [
        perplexity(mean_cross_entropy(kneser_ney_probabilities(model, text)))
        for text in others
    ]
    assert reached == pytest.approx([valid, test], abs=0.01)
    for length in (1, 7, 30, 100):
        p = kneser_ney_distribution(model, others[1][:length])
        assert abs(p.sum() - 1) < 1e-12


def test_treebank_bigram_mixture(treebank):
    """The bigrams of maximum likelihood mixed with the unigrams, by the valid file."""
    vocab_size, train, valid, test = treebank
    prior = unigram_probabilities(train, vocab_size)
    counts = count_bigrams(*stream(train), vocab_size)

    def models(text):
        return np.array(
            [bigram_probabilities(counts, prior, *stream(text)), prior[text]]
        )

    weights = mixture_weights(models(valid))
    assert weights[0] == pytest.approx(0.687, abs=0.005)
    assert perplexity(mean_cross_entropy(weights @ models(test))) == pytest.approx(
        208.7, abs=0.1
    )
