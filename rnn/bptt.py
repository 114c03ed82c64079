"""Backpropagation through time.

Exported from book/09_bptt.ipynb. Edit that chapter, then run `make export`.
"""

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .cross_entropy import output_error, summed_cost
from .gradient_u import gradient_u, hidden_error
from .gradient_v import gradient_v
from .gradient_w import gradient_w
from .hidden_state import (
    Activation,
    Parameters,
    check_array,
    check_parameters,
    hidden_states,
    sigmoid,
)
from .softmax import log_softmax, logits

__all__ = ["bptt", "send_back", "total_error", "truncated_error"]


def send_back(
    params: Parameters, error: NDArray[Any], slopes: NDArray[Any]
) -> NDArray[Any]:
    """e_h(t-k-1) = d_h(W^T e_h(t-k), t-k-1), :eq:`eq-bptt-recursion`: one step back.

    Args:
        params: the parameters; only W (H, H) is used, as it was in the forward pass.
        error: errors at some steps t-k, shape (..., H): of one step or of many at once.
        slopes: f' at the states of the steps t-k-1, the same shape.

    Returns:
        The errors where they arrive, at the steps t-k-1, the same shape.
    """
    sent: NDArray[Any] = (error @ params.W) * slopes
    return sent


def total_error(params: Parameters, e_h: ArrayLike, slopes: ArrayLike) -> NDArray[Any]:
    """delta(t) = d_h(V^T e_o(t) + W^T delta(t+1), t), :eq:`eq-delta`, in one pass.

    Args:
        params: the parameters; only W (H, H) is used.
        e_h: the hidden errors d_h(V^T e_o(t), t), shape (T, ..., H); left unchanged.
        slopes: f' at the states s(t), the same shape.

    Returns:
        delta, the same shape; minus the derivative of E by the pre-activations.

    Raises:
        ValueError: if the shapes do not fit, or numbers are not finite.
    """
    params, e_h, slopes = _check_errors(params, e_h, slopes)
    delta = e_h.copy()
    for t in range(len(delta) - 2, -1, -1):
        delta[t] += send_back(params, delta[t + 1], slopes[t])
    return delta


def truncated_error(
    params: Parameters, e_h: ArrayLike, slopes: ArrayLike, tau: int
) -> NDArray[Any]:
    """delta(t) = sum_k e_h^(t+k)(t), k <= min(tau, T-1-t), :eq:`eq-truncated-delta`.

    One product by W for each k, from 1 on, sends the errors of all steps back at once.

    Args:
        params: the parameters; only W (H, H) is used.
        e_h: the hidden errors d_h(V^T e_o(t), t), shape (T, ..., H); left unchanged.
        slopes: f' at the states s(t), the same shape.
        tau: how many steps each error is sent back at most, 0 or more.

    Returns:
        delta, truncated to tau steps, the same shape.

    Raises:
        ValueError: if the shapes do not fit, numbers are not finite, or tau is no
            integer of 0 or more.
    """
    params, e_h, slopes = _check_errors(params, e_h, slopes)
    delta, sent = e_h.copy(), e_h
    for k in range(1, min(_check_tau(tau), len(e_h) - 1) + 1):
        sent = send_back(params, sent[1:], slopes[:-k])
        delta[:-k] += sent
    return delta


def _check_errors(
    params: Parameters, e_h: ArrayLike, slopes: ArrayLike
) -> tuple[Parameters, NDArray[Any], NDArray[Any]]:
    """The arguments of the two functions above, as arrays that fit one another."""
    params = check_parameters(params)
    H = len(params.W)
    check_array("params.W", params.W, (H, H))
    e_h = check_array("e_h", e_h, (None, H))
    slopes = check_array("slopes", slopes, (H,))
    if slopes.shape != e_h.shape:
        given = f"slopes has shape {slopes.shape}"
        raise ValueError(f"{given}: expected {e_h.shape}, to fit e_h")
    return params, e_h, slopes


def _check_tau(tau: int) -> int:
    """Raise ValueError unless tau is an integer of 0 or more."""
    if not isinstance(tau, Integral) or isinstance(tau, bool) or tau < 0:
        raise ValueError(
            f"tau is {tau!r}: expected an integer, 0 or more, or None for all"
        )
    return int(tau)


def bptt(
    params: Parameters,
    words: ArrayLike,
    targets: ArrayLike,
    s_init: ArrayLike | None = None,
    tau: int | None = None,
    activation: Activation = sigmoid,
) -> tuple[Any, Parameters, NDArray[Any]]:
    """dE/dU, :eq:`eq-bptt-u`, and dE/dW, :eq:`eq-bptt-w`, through time; dE/dV and E.

    Args:
        params: the parameters U (H, N), W (H, H), V (N, H).
        words: the input words w(t) as indices, shape (T, ...).
        targets: the words d(t) that follow them, the same shape.
        s_init: s(-1), shape (H,) or (..., H); zeros unless given.
        tau: how many steps each error is sent back at most; None, T-1 or more for all.
        activation: f of the hidden layer.

    Returns:
        The loss E in nats, its gradient as `Parameters`, both summed over the time axis
        and all batch axes, and the last state s(T-1), shape (..., H). The gradient is
        exact unless truncated. Time and memory grow linearly with T.

    Raises:
        ValueError: if an argument has the wrong shape, an index is out of range, a
            number is not finite, or tau is no integer of 0 or more; the message names
            the argument.
    """
    params = check_parameters(params)
    states = hidden_states(params, words, s_init, activation)
    N, last = len(params.V), len(states) - 1
    tau = last if tau is None else _check_tau(tau)
    log_y = log_softmax(logits(params, states))
    loss = summed_cost(log_y, targets)
    e_o = output_error(np.exp(log_y, out=log_y), targets)
    e_h = hidden_error(params, e_o, states, activation)
    slopes = activation.slope(states)
    if tau >= last:
        delta = total_error(params, e_h, slopes)
    else:
        delta = truncated_error(params, e_h, slopes, tau)
    dU, dW = gradient_u(delta, words, N), gradient_w(delta, _previous(states, s_init))
    return loss, Parameters(dU, dW, gradient_v(e_o, states)), states[last]


def _previous(states: NDArray[Any], s_init: ArrayLike | None) -> NDArray[Any]:
    """s(t-1) for t = 0 .. T-1: s(-1) first, and the last state left out."""
    previous = np.empty_like(states)
    previous[0] = 0 if s_init is None else s_init
    previous[1:] = states[:-1]
    return previous
