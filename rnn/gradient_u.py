"""The gradient for U.

Exported from book/07_gradient_u.ipynb. Edit that chapter, then run `make export`.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .hidden_state import (
    Activation,
    Parameters,
    check_array,
    check_parameters,
    sigmoid,
)
from .words import check_indices

__all__ = ["gradient_u", "hidden_error"]


def hidden_error(
    params: Parameters,
    e_o: ArrayLike,
    states: ArrayLike,
    activation: Activation = sigmoid,
) -> NDArray[Any]:
    """e_h(t) = d_h(V^T e_o(t), t), :eq:`eq-hidden-error`; d_h is :eq:`eq-hidden-slope`.

    Args:
        params: the parameters; V (N, H) as it was when e_o was computed.
        e_o: the output errors e_o(t), shape (T, ..., N), or (N,) for a single step.
        states: the states s(t), shape (T, ..., H), or (H,).
        activation: f of the hidden layer, whose slope d_h takes.

    Returns:
        e_h, of the shape of states; minus the derivative of each step's own loss by
        the pre-activations.

    Raises:
        ValueError: if a shape does not fit the others, or numbers are not finite; the
            message names the argument.
    """
    V = check_parameters(params).V
    N, H = V.shape
    V, e_o = check_array("params.V", V, (N, H)), check_array("e_o", e_o, (N,))
    states = check_array("states", states, (H,))
    expected = (*e_o.shape[:-1], H)
    if states.shape != expected:
        raise ValueError(
            f"states has shape {states.shape}: expected {expected}, to fit e_o"
        )
    through_v = (e_o.reshape(-1, N) @ V).reshape(expected)
    error: NDArray[Any] = through_v * activation.slope(states)
    return error


def gradient_u(error: ArrayLike, words: ArrayLike, vocab_size: int) -> NDArray[Any]:
    """dE/dU = - sum_t error(t) w(t)^T, :eq:`eq-gradient-u`: a column for each word.

    Args:
        error: e_h(t), or the whole error that reaches step t, shape (T, ..., H); left
            unchanged.
        words: the input words w(t) as indices, shape (T, ...).
        vocab_size: N, the number of columns.

    Returns:
        The gradient, shape (H, N), in Fortran order like U; exactly zero in the columns
        of words that do not occur. Its type is that of error.

    Raises:
        ValueError: if error holds other things than finite numbers, or words has
            another shape or holds no word indices.
    """
    error = check_array("error", error, (None,))
    words, H = check_indices("words", words, vocab_size), error.shape[-1]
    expected = error.shape[:-1]
    if words.shape != expected:
        raise ValueError(
            f"words has shape {words.shape}: expected {expected}, to fit error"
        )
    gradient = np.zeros((vocab_size, H), error.dtype)
    np.subtract.at(gradient, words.ravel(), error.reshape(-1, H))
    return gradient.T
