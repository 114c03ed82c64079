"""The softmax.

Exported from book/03_softmax.ipynb. Edit that chapter, then run `make export`.
"""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .hidden_state import (
    Activation,
    Parameters,
    check_array,
    check_parameters,
    hidden_states,
    sigmoid,
)
from .words import check_indices

__all__ = [
    "check_logits",
    "check_temperature",
    "draw_index",
    "generate",
    "log_softmax",
    "logits",
    "outputs",
    "softmax",
    "tempered_softmax",
]


def check_logits(z: ArrayLike) -> NDArray[Any]:
    """The logits as an array of finite numbers, at least one in the last axis.

    Args:
        z: logits, shape (..., N), real or complex; integers become float64.

    Raises:
        ValueError: not numbers, not finite, or N = 0.
    """
    z = check_array("z", z, (None,))
    if z.shape[-1] == 0:
        raise ValueError(
            f"z has shape {z.shape}: expected at least one logit in the last axis"
        )
    return z


def softmax(z: ArrayLike) -> NDArray[Any]:
    """g(z)_m = e^{z_m} / sum_k e^{z_k}, :eq:`eq-softmax`, over the last axis.

    All exponents are shifted by the largest logit, so that nothing overflows.

    Args:
        z: logits, shape (..., N), any number of axes before the last.

    Returns:
        Probabilities, same shape and float type as z; complex numbers pass through.

    Raises:
        ValueError: z is not an array of finite numbers, or N = 0.
    """
    z = check_logits(z)
    with np.errstate(over="ignore"):  # -inf for a difference beyond the float range
        y: NDArray[Any] = z - z.max(axis=-1, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(axis=-1, keepdims=True)
    return y


def log_softmax(z: ArrayLike) -> NDArray[Any]:
    """log g(z)_m = z_m-z_l - log1p(sum_{k!=l} e^{z_k-z_l}), :eq:`eq-log-softmax`.

    Index l is the leader, a largest logit of the last axis. Every value keeps its
    digits: the relative error in float64 is below 1e-13, unless the leader leads all
    others by more than 708, where exponentials are no normal floats.

    Args:
        z: logits, shape (..., N), any number of axes before the last.

    Returns:
        Logarithms of probabilities, same shape and float type as z; -inf where the
        exact value is beyond the float range. Complex numbers pass through; the
        imaginary part keeps its digits, the real part is good to an absolute error of
        one rounding.

    Raises:
        ValueError: z is not an array of finite numbers, or N = 0.
    """
    z = check_logits(z)
    leader = z.argmax(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):  # -inf for a difference beyond the float range
        log_y: NDArray[Any] = z - np.take_along_axis(z, leader, axis=-1)
    others = np.exp(log_y)
    np.put_along_axis(others, leader, 0, axis=-1)
    log_y -= np.log1p(others.sum(axis=-1, keepdims=True))
    return log_y


def logits(params: Parameters, states: ArrayLike) -> NDArray[Any]:
    """z(t) = V s(t), :eq:`eq-logits`.

    Args:
        params: U, W and V of shapes (H, N), (H, H), (N, H); V alone is used.
        states: s(t), shape (..., H); time and batch axes stand first, if any.

    Returns:
        Logits, shape (..., N).

    Raises:
        ValueError: wrong shapes, numbers in V or states that are not finite, or
            logits that overflow.
    """
    V = check_parameters(params).V
    N, H = V.shape
    V = check_array("params.V", V, (N, H))
    states = check_array("states", states, (H,))
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow is found below
        z = (states.reshape(-1, H) @ V.T).reshape(*states.shape[:-1], N)
    return check_array("params.V times states", z, (N,))


def outputs(params: Parameters, states: ArrayLike) -> NDArray[Any]:
    """y(t) = g(V s(t)), :eq:`eq-outputs`: the distribution over the next word.

    Args:
        params: U, W and V of shapes (H, N), (H, H), (N, H); V alone is used.
        states: s(t), shape (..., H); time and batch axes stand first, if any.

    Returns:
        Probabilities, shape (..., N), each row with the sum 1.

    Raises:
        ValueError: as :func:`logits`.
    """
    return softmax(logits(params, states))


def check_temperature(temperature: float) -> float:
    """The temperature, if it is a finite number, 0 or above; else ValueError."""
    if not isinstance(temperature, Real) or not 0 <= temperature < np.inf:
        raise ValueError(
            f"temperature is {temperature!r}: expected a finite number, 0 or above"
        )
    return float(temperature)


def tempered_softmax(z: ArrayLike, temperature: float) -> NDArray[Any]:
    """g(z / temperature), :eq:`eq-temperature`, over the last axis.

    Args:
        z: logits, shape (..., N).
        temperature: 0 or above; 1 changes nothing; 0 is the limit, equal shares
            for the leaders.

    Returns:
        Probabilities, same shape and float type as z.

    Raises:
        ValueError: z as in :func:`softmax`; temperature negative or not finite.
    """
    temperature = check_temperature(temperature)
    z = check_logits(z)
    with np.errstate(over="ignore"):
        shifted: NDArray[Any] = z - z.max(axis=-1, keepdims=True)
        shifted /= max(temperature, np.finfo(z.dtype).tiny)
    return softmax(np.maximum(shifted, np.finfo(z.dtype).min))


def draw_index(y: ArrayLike, rng: np.random.Generator) -> int:
    """min {k : F_k > u}, F_k = y_0 + .. + y_k, u uniform on [0, 1), :eq:`eq-draw`.

    Args:
        y: one distribution, shape (N,); it is divided by its sum.
        rng: where the randomness comes from; one number u is taken.

    Returns:
        An index from 0 to N - 1, never one of probability 0.

    Raises:
        ValueError: y is not one row of real numbers, 0 or above, with a positive sum.
    """
    y = check_array("y", y, (None,))
    if y.ndim != 1 or y.dtype.kind == "c":
        raise ValueError(
            f"y is {y.dtype} of shape {y.shape}: expected real numbers, shape (N,)"
        )
    cumulative = np.cumsum(y, dtype=np.float64)
    if not (y >= 0).all() or not y.any():
        raise ValueError(
            "y has a negative probability or none above 0: expected a distribution"
        )
    cumulative /= cumulative[-1]
    return int(np.searchsorted(cumulative, rng.random(), side="right"))


def generate(
    params: Parameters,
    rng: np.random.Generator,
    count: int,
    prompt: ArrayLike = (0,),
    temperature: float = 1.0,
    s_init: ArrayLike | None = None,
    activation: Activation = sigmoid,
    scores: Callable[[Parameters, NDArray[Any]], NDArray[Any]] = logits,
) -> NDArray[np.int64]:
    """w(t+1) drawn from g(V s(t) / temperature) and fed back, :eq:`eq-generate`.

    Args:
        params: U, W and V of shapes (H, N), (H, H), (N, H).
        rng: where the randomness comes from; a generator seeded alike gives the
            same words.
        count: how many words to draw.
        prompt: indices of the words read first, shape (T,), at least one.
        temperature: 0 or above; 0 takes the most probable word, the first if there
            are several.
        s_init: s(-1), shape (H,), the state before the prompt; None for zeros.
        activation: the function f of the hidden layer.
        scores: gives the logits of a state, or the logarithms of its distribution.

    Returns:
        Indices of the words drawn, shape (count,); the prompt is not among them.

    Raises:
        ValueError: a count that is not an integer of 0 or more, a wrong temperature,
            prompt or s_init, parameters of wrong shapes or not finite.
    """
    words = check_indices("prompt", prompt, len(check_parameters(params).V))
    if words.ndim != 1:
        raise ValueError(
            f"prompt has shape {words.shape}: expected (T,), one word after another"
        )
    if not isinstance(count, Integral) or count < 0:
        raise ValueError(f"count is {count!r}: expected an integer, 0 or more")
    temperature, s = check_temperature(temperature), s_init
    generated = np.empty(count, np.int64)
    for i in range(count):
        s = hidden_states(params, words, s, activation)[-1]
        z = scores(params, s)
        if temperature == 0:
            generated[i] = z.argmax()
        else:
            generated[i] = draw_index(tempered_softmax(z, temperature), rng)
        words = generated[i : i + 1]
    return generated
