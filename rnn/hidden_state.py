"""The hidden state.

Exported from book/02_hidden_state.ipynb. Edit that chapter, then run `make export`.
"""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .words import check_indices

__all__ = [
    "Activation",
    "Parameters",
    "check_array",
    "check_parameters",
    "hand_example",
    "hidden_states",
    "init_parameters",
    "recurrence",
    "relu",
    "sigmoid",
    "tanh",
    "with_slope",
]


class Parameters(NamedTuple):
    """The three matrices that serve at every step.

    Attributes:
        U: input weights, shape (H, N).
        W: recurrent weights, shape (H, H).
        V: output weights, shape (N, H).
    """

    U: NDArray[Any]
    W: NDArray[Any]
    V: NDArray[Any]


def hand_example() -> tuple[Parameters, NDArray[Any], NDArray[Any]]:
    """The example done by hand: 3 words, 2 hidden units, 3 steps.

    Returns:
        Parameters, words and targets of the text "dogs bark", a stream that begins
        with `</s>` (index 0; dogs is 1, bark is 2).
    """
    U = np.asfortranarray([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
    W = np.array([[0.5, -1.0], [1.0, 0.5]])
    V = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]])
    return Parameters(U, W, V), np.array([0, 1, 2]), np.array([1, 2, 0])


def _as_numbers(name: str, array: ArrayLike) -> NDArray[Any]:
    """The argument as an array of floats or complex numbers; integers: float64."""
    try:
        array = np.asarray(array)
    except ValueError as error:
        message = f"{name} has rows of different lengths: expected an array"
        raise ValueError(message) from error
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype.kind not in "fc":
        raise ValueError(f"{name} holds {array.dtype}: expected an array of numbers")
    return array


def check_array(
    name: str, array: ArrayLike, shape: tuple[int | None, ...]
) -> NDArray[Any]:
    """The argument as an array of finite numbers whose last axes have this shape.

    Args:
        name: what the caller knows the argument by; error messages begin with it.
        array: anything that NumPy turns into an array of numbers, of any float or
            complex type.
        shape: lengths of the last axes, None for any length; axes before them are
            batch axes.

    Returns:
        The array, not copied; integers become float64.

    Raises:
        ValueError: not numbers, the wrong shape, or a number that is not finite.
    """
    array = _as_numbers(name, array)
    given = array.shape[max(array.ndim - len(shape), 0) :]
    if len(given) != len(shape) or any(
        n not in (None, m) for n, m in zip(shape, given, strict=True)
    ):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} has shape {array.shape}: expected (..., {wanted})")
    finite = np.isfinite(array)
    if not finite.all():
        raise ValueError(f"{name} holds {array[~finite][0]}: expected finite numbers")
    return array


class Activation:
    """A function f of each element, and its slope f'(z) written with s = f(z).

    Args:
        function: f, from an array of floats or complex numbers to one of that shape.
        slope: f'(z) as a function of s = f(z), likewise.
    """

    __name__: str

    def __init__(
        self,
        function: Callable[[NDArray[Any]], NDArray[Any]],
        slope: Callable[[NDArray[Any]], NDArray[Any]],
    ) -> None:
        self._function, self._slope = function, slope
        update_wrapper(self, function)

    def __call__(self, z: ArrayLike) -> NDArray[Any]:
        """f(z), element by element; same shape and float type as z."""
        return self._function(_as_numbers("z", z))

    def slope(self, s: ArrayLike) -> NDArray[Any]:
        """f'(z) where s = f(z), element by element; same shape and type as s."""
        return self._slope(_as_numbers("s", s))

    def __repr__(self) -> str:
        return self.__name__


def with_slope(
    slope: Callable[[NDArray[Any]], NDArray[Any]],
) -> Callable[[Callable[[NDArray[Any]], NDArray[Any]]], Activation]:
    """Decorator: f becomes an :class:`Activation`; slope: f'(z), given f(z)."""
    return lambda function: Activation(function, slope)


@with_slope(lambda s: s * (1 - s))
def sigmoid(z: NDArray[Any]) -> NDArray[Any]:
    """f(z) = 1 / (1 + exp(-z)), :eq:`eq-sigmoid`; f' = s (1 - s),
    :eq:`eq-slope-sigmoid`.

    No exponent is positive, so nothing overflows and small values keep their digits.
    """
    e = np.exp(np.minimum(z, 0))
    s: NDArray[Any] = e / (e + np.exp(np.minimum(-z, 0)))
    return s


@with_slope(lambda s: 1 - s * s)
def tanh(z: NDArray[Any]) -> NDArray[Any]:
    """f(z) = tanh z, :eq:`eq-tanh`; f' = 1 - s^2, :eq:`eq-slope-tanh`."""
    s: NDArray[Any] = np.tanh(z)
    return s


@with_slope(lambda s: (s.real > 0).astype(s.dtype))
def relu(z: NDArray[Any]) -> NDArray[Any]:
    """f(z) = max(0, z), :eq:`eq-relu`; f' = [s > 0], :eq:`eq-slope-relu`.

    The slope at z = 0 is 0 by convention.
    A complex number is let through where its real part is positive.
    """
    s: NDArray[Any] = np.where(z.real <= 0, 0, z)[()]  # [()]: a number for a number
    return s


def check_parameters(
    params: Parameters | tuple[ArrayLike, ArrayLike, ArrayLike],
) -> Parameters:
    """The parameters as arrays of numbers, of shapes (H, N), (H, H) and (N, H).

    Floats are not looked through: that they are finite is checked where they are
    used. Integers become float64.

    Args:
        params: `Parameters`, or any three arrays U, W, V.

    Raises:
        ValueError: not three arrays, not numbers, or shapes that do not fit.
    """
    try:
        U, W, V = params
    except (TypeError, ValueError) as error:
        message = (
            f"params is a {type(params).__name__}: expected three arrays (U, W, V)"
        )
        raise ValueError(message) from error
    matrices = (("U", U), ("W", W), ("V", V))
    U, W, V = (_as_numbers(f"params.{name}", matrix) for name, matrix in matrices)
    if U.ndim != 2 or U.size == 0:
        fit = "expected (hidden_size, vocab_size)"
        raise ValueError(f"params.U has shape {U.shape}: {fit}")
    H, N = U.shape
    for name, array, shape in (("W", W, (H, H)), ("V", V, (N, H))):
        if array.shape != shape:
            fit = f"expected {shape}, to fit params.U of shape {U.shape}"
            raise ValueError(f"params.{name} has shape {array.shape}: {fit}")
    return Parameters(U, W, V)


def init_parameters(
    vocab_size: int,
    hidden_size: int,
    rng: np.random.Generator,
    dtype: DTypeLike = np.float64,
) -> Parameters:
    """Random parameters: normal numbers with mean 0 and standard deviation 0.1.

    The same generator state gives the same numbers, rounded, in every float type.

    Args:
        vocab_size: N, the number of words.
        hidden_size: H, the number of hidden units.
        rng: where the randomness comes from, `np.random.default_rng(seed)`.
        dtype: float type of the matrices.

    Returns:
        `Parameters`, with U in Fortran order, so that a word picks a contiguous column.

    Raises:
        ValueError: a size that is not an integer of 1 or more, or a dtype that is not
            a float type.
        TypeError: rng is not a `numpy.random.Generator`.
    """
    for name, size in (("vocab_size", vocab_size), ("hidden_size", hidden_size)):
        if not isinstance(size, int | np.integer) or size < 1:
            raise ValueError(f"{name} is {size!r}: expected an integer, 1 or more")
    if not isinstance(rng, np.random.Generator):
        given = type(rng).__name__
        raise TypeError(f"rng is a {given}: expected np.random.default_rng(seed)")
    if np.dtype(dtype).kind != "f":
        raise ValueError(f"dtype is {np.dtype(dtype)}: expected a float type")
    N, H = vocab_size, hidden_size
    shapes = ((N, H), (H, H), (N, H))
    U, W, V = (rng.normal(0, 0.1, shape).astype(dtype) for shape in shapes)
    return Parameters(U.T, W, V)


def recurrence(
    inputs: NDArray[Any],
    W_T: Any,
    s: NDArray[Any],
    activation: Activation,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """s(t) = f(inputs(t) + W s(t-1)), the loop of `hidden_states`; inputs: U w(t).

    Args:
        inputs: U w(t), shape (T, ..., H), of the float type that the states shall have.
        W_T: the transpose of W, or anything else with a product `s @ W_T`.
        s: s(-1), shape (..., H).
        activation: the function f of the hidden layer.
        out: where the states are put, the shape of inputs; a new array unless given.

    Returns:
        The states, the shape of inputs.

    Raises:
        ValueError: the states overflow.
    """
    states = np.empty_like(inputs) if out is None else out
    with np.errstate(over="ignore", invalid="ignore"):  # looked for after the loop
        for t in range(len(inputs)):
            states[t] = s = activation(inputs[t] + s @ W_T)
    _check_overflow(states)
    return states


def hidden_states(
    params: Parameters,
    words: ArrayLike,
    s_init: ArrayLike | None = None,
    activation: Activation = sigmoid,
) -> NDArray[Any]:
    """s(t) = f(U w(t) + W s(t-1)), :eq:`eq-hidden-state`, for t = 0 .. T-1.

    Args:
        params: U, W and V of shapes (H, N), (H, H), (N, H); V is not used.
        words: indices of the words, shape (T, ...): time first, then any number of
            batch axes.
        s_init: s(-1), shape (..., H), one for each sequence or one for all; None for
            zeros.
        activation: the function f of the hidden layer.

    Returns:
        The states, shape (T, ..., H), s(-1) not among them; float type of params and
            s_init.

    Raises:
        ValueError: wrong shapes, indices out of range, numbers that are not finite in
            the columns of U that the words pick, in W or in s_init, or states that
            overflow.
    """
    U, W, _ = check_parameters(params)
    H, N = U.shape
    columns = U.T[check_indices("words", words, N)]
    inputs = check_array("params.U[:, words]", columns, (H,))
    W = check_array("params.W", W, (H, H))
    s = _check_state(s_init, inputs)
    inputs = inputs.astype(np.result_type(inputs, W, s), copy=False)
    return recurrence(inputs, W.T, s, activation)


def _check_state(s_init: ArrayLike | None, inputs: NDArray[Any]) -> NDArray[Any]:
    """s(-1), of the shape that U w(t) has at one step: (..., H)."""
    shape = inputs.shape[1:]
    if s_init is None:
        return np.zeros(shape, inputs.dtype)
    s = check_array("s_init", s_init, shape[-1:])
    try:
        return s if s.shape == shape else np.broadcast_to(s, shape)
    except ValueError:
        fit = f"expected {shape}, to fit words of shape {inputs.shape[:-1]}"
        raise ValueError(f"s_init has shape {s.shape}: {fit}") from None


def _check_overflow(states: NDArray[Any]) -> None:
    """Raise ValueError at the first step whose state is not finite."""
    finite = np.isfinite(states)
    if not finite.all():
        t = int(np.argmin(finite.reshape(len(states), -1).all(axis=1)))
        remedy = "scale params.W down, or take sigmoid or tanh"
        raise ValueError(f"states overflow at step {t}, by params.W: {remedy}")
