"""The cross-entropy.

Exported from book/04_cross_entropy.ipynb. Edit that chapter, then run `make export`.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .hidden_state import Activation, Parameters, check_array, hidden_states, sigmoid
from .softmax import log_softmax, logits
from .words import (
    Grammar,
    bigram_expectations,
    check_indices,
    rule_expectations,
    word_expectations,
)

__all__ = [
    "BigramCounts",
    "GrammarLimits",
    "bigram_probabilities",
    "bits",
    "check_targets",
    "count_bigrams",
    "entropy",
    "grammar_limits",
    "loss",
    "mean_cross_entropy",
    "output_error",
    "perplexity",
    "summed_cost",
    "unigram_probabilities",
]


def check_targets(
    targets: ArrayLike, shape: tuple[int, ...], vocab_size: int
) -> NDArray[Any]:
    """The targets as an array of word indices of this shape, one per prediction.

    Raises:
        ValueError: If they have another shape, or are no indices from 0 to
            `vocab_size` - 1.
    """
    array = check_indices("targets", targets, vocab_size)
    if array.shape != shape:
        raise ValueError(
            f"targets has shape {array.shape}: expected {shape}, one per prediction"
        )
    return array


def summed_cost(log_y: NDArray[Any], targets: ArrayLike) -> Any:
    """The costs of the targets, - log y_d(t)(t), summed over all axes, in nats.

    Args:
        log_y: Logarithms of the outputs, from `log_softmax`, shape (T, ..., N).
        targets: The words d(t) as indices, shape (T, ...).

    Returns:
        The sum, a NumPy scalar of the type of log_y.

    Raises:
        ValueError: If targets has another shape or an index out of range.
    """
    picked = check_targets(targets, log_y.shape[:-1], log_y.shape[-1])
    return -np.take_along_axis(log_y, picked[..., np.newaxis], axis=-1).sum()


def loss(
    params: Parameters,
    words: ArrayLike,
    targets: ArrayLike,
    s_init: ArrayLike | None = None,
    activation: Activation = sigmoid,
) -> Any:
    """E = - sum_t log y_d(t)(t), :eq:`eq-loss`: the cross-entropy of a text, in nats.

    Args:
        params: The parameters U (H, N), W (H, H), V (N, H).
        words: The input words w(t) as indices, shape (T, ...).
        targets: The words d(t) that follow them, the same shape.
        s_init: s(-1), shape (..., H); zeros unless given.
        activation: f of the hidden layer.

    Returns:
        E, a NumPy scalar of the parameters' type (float32, float64, complex128),
        summed over the time axis and all batch axes.

    Raises:
        ValueError: If an argument has the wrong shape, a word index is out of range
            or a number is not finite; the message names the argument.
    """
    states = hidden_states(params, words, s_init, activation)
    return summed_cost(log_softmax(logits(params, states)), targets)


def output_error(y: ArrayLike, targets: ArrayLike) -> NDArray[Any]:
    """e_o(t) = d(t) - y(t), :eq:`eq-output-error`: minus the derivative by the logits.

    Args:
        y: The distributions y(t), shape (T, ..., N); left unchanged.
        targets: The words d(t) as indices, shape (T, ...).

    Returns:
        e_o, a new array of the shape and the type of y.

    Raises:
        ValueError: If y is not finite, or targets has another shape or an index out
            of range.
    """
    y = check_array("y", y, (None,))
    picked = check_targets(targets, y.shape[:-1], y.shape[-1])[..., np.newaxis]
    error = -1.0 * y
    np.put_along_axis(
        error, picked, 1 + np.take_along_axis(error, picked, axis=-1), axis=-1
    )
    return error


def _check_nats(mean_nats: ArrayLike) -> Any:
    """The argument as an array of floats, none of them negative or NaN."""
    array = np.asarray(mean_nats)
    if array.dtype.kind not in "iuf" or not (array >= 0).all():
        raise ValueError(f"mean_nats is {array}: expected nats per word, 0 or more")
    return 1.0 * array


def perplexity(mean_nats: ArrayLike) -> Any:
    """PPL = exp(E / T), :eq:`eq-perplexity`.

    Args:
        mean_nats: Cross-entropy per word in nats, E / T; a number or an array, none
            negative.

    Returns:
        The perplexity, a NumPy scalar or an array of the same shape. It is infinite,
        without a warning, where exp overflows, above 709.78 nats in float64, above
        88.7 in float32.

    Raises:
        ValueError: If a mean is negative or not a number.
    """
    with np.errstate(over="ignore"):
        return np.exp(_check_nats(mean_nats))


def bits(mean_nats: ArrayLike) -> Any:
    """Nats / log 2, :eq:`eq-bits`: the same cross-entropy in bits per word.

    Args:
        mean_nats: Cross-entropy per word in nats; a number or an array, none negative.

    Returns:
        A NumPy scalar or an array of the same shape.

    Raises:
        ValueError: If a mean is negative or not a number.
    """
    return _check_nats(mean_nats) / math.log(2)


def _check_distribution(name: str, p: ArrayLike) -> NDArray[Any]:
    """The argument as an array of floats from 0 to 1, with sum 1 over the last axis."""
    array = 1.0 * check_array(name, p, (None,))
    if array.dtype.kind != "f" or (array < 0).any():
        raise ValueError(
            f"{name} has a negative or complex element: expected probabilities"
        )
    sums = array.sum(axis=-1)
    if (abs(sums - 1) > 1e-5).any():
        raise ValueError(f"{name} sums to {sums}: expected 1 over the last axis")
    return np.minimum(array, 1)


def entropy(p: ArrayLike) -> Any:
    """H(p) = - sum_m p_m log p_m, :eq:`eq-entropy`, in nats, with 0 log 0 = 0.

    Args:
        p: One or more distributions, shape (..., N); each sums to 1 (to 1e-5) over
            the last axis.

    Returns:
        The entropies, shape (...); a NumPy scalar for a single distribution.

    Raises:
        ValueError: If p has a negative element, or does not sum to 1.
    """
    p = _check_distribution("p", p)
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1)


def mean_cross_entropy(probabilities: ArrayLike) -> Any:
    """E / T = - (1 / T) sum_t log P_t, :eq:`eq-mean-cross-entropy`, in nats per word.

    Args:
        probabilities: What a model gave to each target of a text, shape (T, ...).

    Returns:
        The mean cost of a word, a NumPy scalar; infinite, without a warning, if any
        probability is 0.

    Raises:
        ValueError: If there are none, or one is no number from 0 to 1 (up to
            rounding, 1e-5).
    """
    given = 1.0 * check_array("probabilities", probabilities, (None,))
    if given.size == 0:
        raise ValueError("probabilities is empty: expected one for each target")
    if given.dtype.kind != "f" or given.min() < 0 or given.max() > 1 + 1e-5:
        raise ValueError(
            "probabilities has an element outside of 0 to 1: expected probabilities"
        )
    with np.errstate(divide="ignore"):
        return -np.log(np.minimum(given, 1)).mean()


def _check_pseudo_count(pseudo_count: float) -> float:
    """The pseudo-count b as a float: finite, and not negative."""
    if not 0 <= pseudo_count < math.inf:
        raise ValueError(
            f"pseudo_count is {pseudo_count}: expected a number, 0 or more"
        )
    return float(pseudo_count)


def unigram_probabilities(
    targets: ArrayLike, vocab_size: int, pseudo_count: float = 0.0
) -> NDArray[Any]:
    """P(m) = (c(m) + b / N) / (T + b), :eq:`eq-unigram`, the unigram model of a text.

    Args:
        targets: The text's words as indices, any shape.
        vocab_size: N.
        pseudo_count: b, shared equally by all words; with 0, words not in targets
            get 0.

    Returns:
        P(m) of every word, shape (N,).

    Raises:
        ValueError: If targets has an index out of range, or pseudo_count is negative.
    """
    b = _check_pseudo_count(pseudo_count)
    targets = check_indices("targets", targets, vocab_size).astype(np.int64)
    counts = np.bincount(targets.ravel(), minlength=vocab_size)
    return (counts + b / vocab_size) / (targets.size + b)


class BigramCounts(NamedTuple):
    """What `count_bigrams` counted: the pairs of neighbours that occur, and the inputs.

    `codes` (K,) are the K different pairs as v N + m, ascending; `pairs` (K,) says how
    often each occurs, c(v, m); `words` (N,) how often each word is an input, c_w(v).
    """

    codes: NDArray[Any]
    pairs: NDArray[Any]
    words: NDArray[Any]


def _pair_codes(words: ArrayLike, targets: ArrayLike, vocab_size: int) -> NDArray[Any]:
    """The number v N + m for each input word v and its target m."""
    words = check_indices("words", words, vocab_size).astype(np.int64)
    return words * vocab_size + check_targets(targets, words.shape, vocab_size).astype(
        np.int64
    )


def count_bigrams(
    words: ArrayLike, targets: ArrayLike, vocab_size: int
) -> BigramCounts:
    """c(v, m) and c_w(v): how often the word m followed v, how often v was the input.

    Args:
        words: The text's input words as indices, any shape; time and memory grow with
            their number, not with the square of the vocabulary.
        targets: The words that follow them, the same shape.
        vocab_size: N.

    Returns:
        The counts, for `bigram_probabilities`.

    Raises:
        ValueError: If an index is out of range, or targets has another shape than
            words.
    """
    codes = _pair_codes(words, targets, vocab_size)
    inputs = np.bincount(codes.ravel() // vocab_size, minlength=vocab_size)
    return BigramCounts(*np.unique(codes, return_counts=True), inputs)


def bigram_probabilities(
    counts: BigramCounts,
    prior: ArrayLike,
    words: ArrayLike,
    targets: ArrayLike,
    pseudo_count: float = 0.0,
) -> NDArray[Any]:
    """P(m | v) = (c(v, m) + b P(m)) / (c_w(v) + b), :eq:`eq-bigram`, for each step.

    Args:
        counts: Those of the training text, from `count_bigrams`.
        prior: P(m), shape (N,), such as `unigram_probabilities` of the training text.
        words: The input words v of the text to be predicted, as indices, any shape.
        targets: The words m that follow them, the same shape.
        pseudo_count: b; with 0, unseen pairs get 0.

    Returns:
        P(m | v) of each target, the shape of words. After a word that the training
        text never had as input it is the prior, whatever b.

    Raises:
        ValueError: If an index is out of range, targets has another shape than words,
            prior is no distribution over N words, or pseudo_count is negative.
    """
    b = _check_pseudo_count(pseudo_count)
    N = len(counts.words)
    codes = _pair_codes(words, targets, N)
    checked = _check_distribution("prior", check_array("prior", prior, (N,)))
    coarse: NDArray[Any] = checked[codes % N]
    # The place of each code among those counted; past the last, compare with the last.
    place = np.minimum(np.searchsorted(counts.codes, codes), len(counts.codes) - 1)
    pairs = np.where(counts.codes[place] == codes, counts.pairs[place], 0)
    seen = counts.words[codes // N]
    # Where v was seen, seen + b >= 1; the maximum avoids 0 / 0 where it was not.
    return np.where(seen > 0, (pairs + b * coarse) / np.maximum(seen + b, 1), coarse)


class GrammarLimits(NamedTuple):
    """The smallest cross-entropies of models of a language, in nats per word."""

    unigram: float
    bigram: float
    exact: float


def grammar_limits(grammar: Grammar) -> GrammarLimits:
    """H_1, H_2 and H_infinity, :eq:`eq-grammar-limits`, computed from the grammar.

    Args:
        grammar: A grammar in which each sentence has one derivation; if one has
            several, `exact` is too large: it counts choices that leave no trace.

    Returns:
        Nats per word (`</s>` counted as one) of the best `unigram` model, of the
        best `bigram` model, and of the best model of all, `exact`.
    """
    words, pairs = word_expectations(grammar), bigram_expectations(grammar)
    length = sum(words.values())
    unigram = entropy([count / length for count in words.values()])
    bigram = (
        -sum(count * math.log(count / words[v]) for (v, _), count in pairs.items())
        / length
    )
    uses = rule_expectations(grammar)
    sentence = sum(
        uses[left] * entropy([rule.probability for rule in rules])
        for left, rules in grammar.choices.items()
    )
    return GrammarLimits(float(unigram), bigram, float(sentence / length))
