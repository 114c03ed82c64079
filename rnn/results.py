"""The published table.

Exported from book/16_results.ipynb. Edit that chapter, then run `make export`.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .classes import Classes, check_classes
from .hidden_state import (
    Activation,
    Parameters,
    check_array,
    check_parameters,
    hidden_states,
    sigmoid,
)
from .minibatch import check_count
from .softmax import log_softmax

__all__ = ["block_means", "paired_difference", "without_classes"]


def block_means(costs: ArrayLike, length: int) -> NDArray[np.float64]:
    """The means of consecutive blocks of words; what fills none is left out.

    Args:
        costs: what each word of a text costs, shape (T,).
        length: how many words a block has.

    Returns:
        The means, shape (K,) with K = T // length.

    Raises:
        ValueError: if costs is not one row of finite numbers, or length is less than 1
            or more than T.
    """
    row = check_array("costs", costs, (None,))
    if row.ndim != 1:
        raise ValueError(f"costs has shape {row.shape}: expected (T,), one text")
    check_count("length", length, 1)
    if length > len(row):
        raise ValueError(f"length is {length}: expected at most {len(row)}, the words")
    count = len(row) // length
    means: NDArray[np.float64] = row[: count * length].reshape(count, length).mean(1)
    return means


def paired_difference(costs: ArrayLike, others: ArrayLike) -> tuple[float, float]:
    """The mean of D and its standard error S, :eq:`eq-paired-error`, with D = costs -
    others.

    Args:
        costs: what the blocks of a text cost one model, shape (K,), in nats a word.
        others: what the same blocks cost another one, the same shape.

    Returns:
        How much more the first model costs, in nats a word; and the standard error.

    Raises:
        ValueError: if a shape differs, there are fewer than two blocks, or a number is
            not finite.
    """
    first = check_array("costs", costs, (None,))
    if first.ndim != 1 or len(first) < 2:
        raise ValueError(
            f"costs has shape {first.shape}: expected (K,), two blocks at least"
        )
    D: NDArray[Any] = first - check_array("others", others, first.shape)
    # ddof=1: divided by K - 1
    return float(D.mean()), float(D.std(ddof=1) / np.sqrt(len(D)))


def without_classes(
    params: Parameters,
    classes: Classes,
    words: ArrayLike,
    activation: Activation = sigmoid,
) -> Parameters:
    """V with the rows v_m + q_c - a_c, :eq:`eq-unfolded`: a softmax over all words.

    Args:
        params: the parameters U (H, N), W (H, H), V (N, H) of a model with classes.
        classes: the classes and their weights.
        words: the words w(t) of a text, as indices, shape (T,), to whose states the
            a_c are fitted; T should be many times H.
        activation: f of the hidden layer.

    Returns:
        The parameters, with the same U and W, of a model without classes that gives
        nearly the same probabilities.

    Raises:
        ValueError: if an argument has the wrong shape, an index is out of range, or a
            number is not finite; the message names the argument.
    """
    params, classes = check_parameters(params), check_classes(params, classes)
    states = hidden_states(params, words, None, activation)
    if states.ndim != 2:
        raise ValueError(f"words has shape {np.shape(words)}: expected (T,), one text")
    sums = np.empty((len(states), len(classes.Q)), states.dtype)
    for c, (first, end) in enumerate(pairwise(classes.edges.tolist())):
        z = states @ params.V[first:end].T
        sums[:, c] = z[:, 0] - log_softmax(z)[:, 0]  # log of the sum of exponentials
    A = np.linalg.lstsq(states, sums, rcond=None)[0].T
    change = (classes.Q - A)[classes.of(np.arange(len(params.V)))]
    return params._replace(V=params.V + change)
