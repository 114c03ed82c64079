"""Counting n-grams.

Exported from book/15_ngrams.ipynb. Edit that chapter, then run `make export`.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .hidden_state import check_array
from .minibatch import check_count
from .words import check_indices

__all__ = [
    "KneserNey",
    "NGramLevel",
    "discounts_from_counts",
    "kneser_ney",
    "kneser_ney_distribution",
    "kneser_ney_probabilities",
    "mixture_weights",
]


def discounts_from_counts(counts: ArrayLike) -> NDArray[Any]:
    """D_c = c - (c + 1) Y n_{c+1} / n_c, :eq:`eq-discounts`, from counts of counts.

    Args:
        counts: The counts a_k of the n-grams of one length k, any shape; n_c of them
            are c.

    Returns:
        D_1, D_2, and D_3 for all counts from 3 on, shape (3,); Y = n_1 / (n_1 + 2 n_2).
        If one of n_1 .. n_4 is 0, or a discount would not be positive, as in very
        small texts, they are 1/2, 1, 3/2.

    Raises:
        ValueError: If counts are not integers, or one is negative.
    """
    counts = check_array("counts", counts, ())  # makes floats of integers
    if np.iscomplexobj(counts) or (counts < 0).any() or (counts % 1 > 0).any():
        raise ValueError("counts has an element that is no integer from 0 on")
    c = np.array([1, 2, 3])
    at_most_5 = np.minimum(counts.ravel(), 5).astype(np.int64)
    n = np.bincount(at_most_5, minlength=6)[1:5]  # n_1 .. n_4
    if n.all():
        Y = n[0] / (n[0] + 2 * n[1])
        discounts: NDArray[Any] = c - (c + 1) * Y * n[1:] / n[:-1]
        if (discounts > 0).all():
            return discounts
    return c / 2


class NGramLevel(NamedTuple):
    """The n-grams of one length k, and the contexts of k - 1 words before them.

    An n-gram is a context and a word m. Its number is its place in `codes`; the number
    i of a context is its place in the `codes` of the level before. So `codes` are
    i N + m, ascending, `shares` are (a_k(h m) - D) / a_k(h .), one for each n-gram,
    and `rests` are gamma_k(h), one for each context. The last element of each stands
    for what was never seen: a code above all, a share of 0, a rest of 1. `discounts`
    (3,) are D_1, D_2, D_3.
    """

    codes: NDArray[Any]
    shares: NDArray[Any]
    rests: NDArray[Any]
    discounts: NDArray[Any]


class KneserNey(NamedTuple):
    """A counted model: N, and the levels of the n-grams of 1, 2, .. words."""

    vocab_size: int
    levels: tuple[NGramLevel, ...]


def _check_text(name: str, text: ArrayLike, vocab_size: int) -> NDArray[np.int64]:
    """The argument as one row of word indices."""
    array = check_indices(name, text, vocab_size)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}: expected one row, (T,)")
    return array.astype(np.int64)


def _find(codes: NDArray[Any], wanted: NDArray[Any]) -> NDArray[Any]:
    """The place of each wanted code among the codes, -1 where it is not there."""
    place = np.searchsorted(codes, wanted)
    return np.where(codes[place] == wanted, place, -1)


def _next_contexts(
    text: NDArray[Any], ngrams: NDArray[Any], k: int
) -> NDArray[np.int64]:
    """The numbers of the contexts of k words before each word, and after the last.

    They are those of the n-grams that end there. But after `</s>`, where a line begins,
    the only context is `</s>` itself, number 0, for k = 1; there is no longer one, -1.
    """
    begin = 0 if k == 1 else -1
    return np.concatenate([[begin], np.where(text == 0, begin, ngrams)])


def _number_ngrams(
    text: NDArray[np.int64], vocab_size: int, order: int
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """The codes of each level, and of each level the n-gram that ends at each word.

    A last row of n-grams is all -1: none is longer than `order`.
    """
    codes, ngrams = [], []
    contexts = np.zeros(len(text) + 1, np.int64)
    for k in range(1, order + 1):
        code = contexts[:-1] * vocab_size + text
        # Level 1 has all words, seen or not, so that their numbers are their indices.
        seen = np.arange(vocab_size) if k == 1 else np.unique(code[code >= 0])
        codes.append(np.append(seen, np.iinfo(np.int64).max))
        ngrams.append(_find(codes[-1], code))
        contexts = _next_contexts(text, ngrams[-1], k)
    return codes, [*ngrams, np.full(len(text), -1)]


def _continuation_counts(
    ngrams: NDArray[Any], longer: NDArray[Any], size: int
) -> NDArray[np.int64]:
    """a_k of each n-gram of a level, from the numbers (T,) of both levels' n-grams.

    One for each different longer n-gram that ends with it, and one for each time that
    none does, since a line begins with it or no longer ones are counted.
    """
    ends_with = np.zeros(longer.max() + 2, np.int64)
    ends_with[longer] = ngrams  # -1 is the last place, which is left out
    alone = ngrams[(longer < 0) & (ngrams >= 0)]
    return np.bincount(np.concatenate([ends_with[:-1], alone]), minlength=size)


def _level(
    codes: NDArray[Any],
    counts: NDArray[Any],
    discounts: NDArray[Any],
    vocab_size: int,
    size: int,
) -> NGramLevel:
    """The shares of n-grams and the rests of `size` contexts, from the counts."""
    h = codes[:-1] // vocab_size
    taken = np.append(0, discounts)[np.minimum(counts, 3)]
    totals = np.bincount(h, counts, size)
    # An n-gram that no word ever followed is a context too: there, all is rest.
    rests = np.where(totals > 0, np.bincount(h, taken, size) / np.maximum(totals, 1), 1)
    shares = (counts - taken) / totals[h]
    return NGramLevel(codes, np.append(shares, 0), np.append(rests, 1), discounts)


def kneser_ney(text: ArrayLike, vocab_size: int, order: int = 5) -> KneserNey:
    """a_k, D and gamma_k of :eq:`eq-kneser-ney`, counted in a text.

    A context does not reach back over the beginning of its line: the first word of a
    line has the context `</s>`, and so has that of the text.

    Args:
        text: The word indices of the training text, of which each line ends with
            `</s>`, index 0; shape (T,).
        vocab_size: N.
        order: n, the number of words of the longest n-grams.

    Returns:
        The model, for `kneser_ney_probabilities` and `kneser_ney_distribution`.

    Raises:
        ValueError: If text is not one row of word indices, or order not an integer
            from 1 on.
    """
    vocab_size = check_count("vocab_size", vocab_size, 1)
    order = check_count("order", order, 1)
    text = _check_text("text", text, vocab_size)
    codes, ngrams = _number_ngrams(text, vocab_size, order)
    sizes = [1, *(len(level) - 1 for level in codes)]
    levels = []
    for k in range(order):
        counts = _continuation_counts(ngrams[k], ngrams[k + 1], sizes[k + 1])
        D = discounts_from_counts(counts)
        levels.append(_level(codes[k], counts, D, vocab_size, sizes[k]))
    return KneserNey(vocab_size, tuple(levels))


def _contexts(model: KneserNey, text: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """For each level, the contexts before each word and after the last, (T + 1,)."""
    contexts = [np.zeros(len(text) + 1, np.int64)]
    for k, level in enumerate(model.levels[:-1], start=1):
        ngrams = _find(level.codes, contexts[-1][:-1] * model.vocab_size + text)
        contexts.append(_next_contexts(text, ngrams, k))
    return contexts


def _interpolate(
    model: KneserNey, contexts: list[NDArray[np.int64]], words: NDArray[np.int64]
) -> NDArray[Any]:
    """P_n(m | h) of words m behind the contexts h of each level, level by level."""
    p = np.full(len(words), 1 / model.vocab_size)
    for level, h in zip(model.levels, contexts, strict=True):
        ngrams = _find(level.codes, h * model.vocab_size + words)
        p = level.shares[ngrams] + level.rests[h] * p
    return p


def kneser_ney_probabilities(model: KneserNey, text: ArrayLike) -> NDArray[Any]:
    """P_n(m | h) of :eq:`eq-kneser-ney`, for each word of a text.

    Args:
        model: From `kneser_ney`.
        text: The word indices of a text, shape (T,); `</s>` stands before it.

    Returns:
        What the model gave to each word, shape (T,), for `mean_cross_entropy`.

    Raises:
        ValueError: If text is not one row of word indices.
    """
    text = _check_text("text", text, model.vocab_size)
    contexts = [h[:-1] for h in _contexts(model, text)]
    return _interpolate(model, contexts, text)


def kneser_ney_distribution(model: KneserNey, context: ArrayLike) -> NDArray[Any]:
    """P_n(m | h) of :eq:`eq-kneser-ney`, for all N words m after the same context.

    Args:
        model: From `kneser_ney`.
        context: The word indices of the text so far, shape (T,), T > 0; `</s>` stands
            before it.

    Returns:
        The distribution of the next word, shape (N,).

    Raises:
        ValueError: If context is not one row of word indices.
    """
    text = _check_text("context", context, model.vocab_size)
    contexts = [h[-1:] for h in _contexts(model, text)]
    return _interpolate(model, contexts, np.arange(model.vocab_size))


def mixture_weights(probabilities: ArrayLike) -> NDArray[Any]:
    """lambda_i <- lambda_i mean_t Q_i(t) / P(t), :eq:`eq-mixture-weights`.

    Args:
        probabilities: Q_i(t), what each of K models gave to each word of a held-out
            text, shape (K, T).

    Returns:
        The weights of the mixture P(t) = sum_i lambda_i Q_i(t), shape (K,); its cost
        on this text is less than 1e-5 nats per word above that of the best weights.

    Raises:
        ValueError: If probabilities has another shape, an element outside of 0 to 1,
            or a word that got 0 from every model.
    """
    Q = check_array("probabilities", probabilities, (None, None))
    if Q.ndim != 2 or Q.size == 0:
        raise ValueError(f"probabilities has shape {Q.shape}: expected (K, T)")
    if np.iscomplexobj(Q) or Q.min() < 0 or Q.max() > 1 + 1e-5:
        raise ValueError("probabilities has an element outside of 0 to 1")
    zero = np.flatnonzero(Q.max(axis=0) == 0)
    if zero.size:
        raise ValueError(
            f"probabilities is 0 from every model for word {zero[0]}: expected one "
            "model at least that gives it more"
        )
    weights = np.full(len(Q), 1 / len(Q))
    while True:
        gains = (Q / (weights @ Q)).mean(axis=1)
        if gains.max() < 1 + 1e-5:
            return weights
        weights *= gains
