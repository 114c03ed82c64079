"""Stochastic gradient descent.

Exported from book/11_sgd.ipynb. Edit that chapter, then run `make export`.
"""

import math
from numbers import Integral
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bptt import send_back
from .cross_entropy import check_targets
from .hidden_state import (
    Activation,
    Parameters,
    check_array,
    check_parameters,
    sigmoid,
)
from .words import check_indices

__all__ = [
    "DivergenceError",
    "Memory",
    "Moments",
    "OnlineOutput",
    "PendingUpdates",
    "Schedule",
    "SoftmaxOutput",
    "adagrad_step",
    "adagrad_update",
    "adam_step",
    "adam_update",
    "check_alpha",
    "check_writable",
    "clip",
    "cost_and_error",
    "lanes",
    "learn_online",
    "next_schedule",
    "sgd_step",
    "zero_sums",
]


def sgd_step(params: Parameters, gradient: Parameters, alpha: float) -> None:
    """theta <- theta - alpha dE/dtheta, :eq:`eq-sgd`, for each matrix, in place.

    Args:
        params: the parameters, arrays of floats; they are changed.
        gradient: dE/dU, dE/dW, dE/dV, of the same shapes.
        alpha: the learning rate, 0 or more.

    Raises:
        ValueError: if params cannot be changed in place, a shape differs, or alpha is
            negative or not finite.
    """
    alpha = check_alpha(alpha)
    for matrix, slope in _pairs(params, gradient):
        matrix -= alpha * slope


def _pairs(
    params: Parameters, gradient: Parameters
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Each matrix with its gradient, of the same shape."""
    params = check_writable(params)
    pairs = []
    for name, matrix, slope in zip("UWV", params, gradient, strict=True):
        slope = check_array(f"gradient.{name}", slope, matrix.shape)
        if slope.shape != matrix.shape or slope.dtype.kind != "f":
            raise ValueError(
                f"gradient.{name} has shape {slope.shape} and type {slope.dtype}: "
                f"expected {matrix.shape}, of floats, as params.{name}"
            )
        pairs.append((matrix, slope))
    return pairs


def check_alpha(alpha: float) -> float:
    """The learning rate, if it is a finite number, 0 or more; else ValueError."""
    if not 0 <= alpha < math.inf:
        raise ValueError(f"alpha is {alpha}: expected a finite number, 0 or more")
    return float(alpha)


def check_writable(params: Parameters) -> Parameters:
    """The very arrays of params: finite floats that can be changed in place."""
    checked = check_parameters(params)
    for name, given, array in zip("UWV", params, checked, strict=True):
        if given is not array or not array.flags.writeable or array.dtype.kind != "f":
            raise ValueError(
                f"params.{name} can't be changed in place: expected a writable array "
                "of floats, such as a copy of it"
            )
        check_array(f"params.{name}", array, array.shape)
    return checked


def clip(error: NDArray[Any], limit: float) -> NDArray[Any]:
    """min(max(e_j, -limit), limit), :eq:`eq-clip`, for each element; a new array."""
    clipped: NDArray[Any] = np.minimum(np.maximum(error, -limit), limit)
    return clipped


class PendingUpdates:
    """V + sum_j e_j s_j^T, :eq:`eq-pending`: a matrix and updates of it that wait.

    V itself is changed by `settle`, and so at the end of a with block, whatever has
    happened in it.

    Args:
        V: the matrix, shape (N, H); `settle` changes it in place.
        size: how many updates wait until all are added at once.

    Raises:
        ValueError: if size is less than 1.
    """

    def __init__(self, V: NDArray[Any], size: int = 32) -> None:
        N, H = V.shape
        if size < 1:
            raise ValueError(f"size is {size}: expected 1 or more")
        self.V, self.count = V, 0
        self._columns = np.empty((H + size, N), V.dtype)
        self._columns[:H] = V.T
        self._states = np.empty((size, H), V.dtype)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.settle()

    @property
    def next_error(self) -> NDArray[Any]:
        """The row in which the next error will wait, shape (N,)."""
        place: NDArray[Any] = self._columns[self.V.shape[1] + self.count]
        return place

    def times(self, s: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The whole matrix times s, shape (N,), written to out if it is given."""
        factors = np.concatenate([s, self._states[: self.count] @ s])
        product: NDArray[Any] = np.matmul(
            factors, self._columns[: len(factors)], out=out
        )
        return product

    def transposed_times(self, e: NDArray[Any]) -> NDArray[Any]:
        """The transpose of the whole matrix times e, shape (H,)."""
        H, n = self.V.shape[1], self.count
        products = self._columns[: H + n] @ e
        sent: NDArray[Any] = products[:H] + products[H:] @ self._states[:n]
        return sent

    def add(self, e: NDArray[Any], s: NDArray[Any]) -> None:
        """Let e s^T wait."""
        self.next_error[:], self._states[self.count] = e, s
        self.count += 1
        if self.count == len(self._states):
            self._gather()

    def _gather(self) -> None:
        """Add all that waits to the columns of V, and let nothing wait."""
        H, n = self.V.shape[1], self.count
        columns = self._columns[:H]
        columns += self._states[:n].T @ self._columns[H : H + n]
        self.count = 0

    def settle(self) -> None:
        """Bring V up to date: nothing waits any more."""
        self._gather()
        self.V[:] = self._columns[: self.V.shape[1]].T


class Memory(NamedTuple):
    """What learning word by word keeps of the text that it has read.

    Attributes:
        words: the last words, as many as an error may be sent back to, shape (k,).
        states: the state before each of them, and the present one, shape (k + 1, H).
        cost: the running mean of a word's cost, in nats.
    """

    words: NDArray[Any]
    states: NDArray[Any]
    cost: float


def cost_and_error(z: NDArray[Any], target: int) -> tuple[float, NDArray[Any]]:
    """- log y_d and e_o = d - y from the logits, which e_o overwrites."""
    z -= z.max()
    z_d = z[target]
    e_o = np.exp(z, out=z)
    total = e_o.sum()
    e_o *= -1 / total
    e_o[target] += 1
    return float(np.log(total) - z_d), e_o


class OnlineOutput(Protocol):
    """An output layer that learns word by word, in a with block."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def predict(self, s: NDArray[Any], target: int) -> tuple[float, NDArray[Any]]:
        """What a word costs after the state s, and the error sent back to s."""

    def learn(self, step: NDArray[Any]) -> None:
        """Add what the last word teaches; step is alpha s."""


class SoftmaxOutput(PendingUpdates):
    """The softmax over all words, as an `OnlineOutput`."""

    def predict(self, s: NDArray[Any], target: int) -> tuple[float, NDArray[Any]]:
        """- log y_d, and V^T e_o with the V of before the update."""
        z = self.times(s, out=self.next_error)
        cost, self._e_o = cost_and_error(z, target)
        return cost, self.transposed_times(self._e_o)

    def learn(self, step: NDArray[Any]) -> None:
        """V <- V + e_o step^T, with step = alpha s."""
        self.add(self._e_o, step)


def _sent_back(
    params: Parameters, e_h: NDArray[Any], slopes: NDArray[Any], limit: float
) -> NDArray[Any]:
    """The error of the last step wherever it arrives, clipped, in order of time."""
    errors = np.empty_like(slopes)
    errors[-1] = error = clip(e_h, limit)
    for r in range(len(slopes) - 2, -1, -1):
        errors[r] = error = clip(send_back(params, error, slopes[r]), limit)
    return errors


class DivergenceError(ValueError):
    """The running mean of the cost is too high: most often the rate is too large."""


#: Over how many words, roughly, the running mean of the cost is taken.
_WINDOW = 300


def _watch(mean: float, cost: float, ceiling: float, alpha: float, t: int) -> float:
    """The running mean cost with one word more; DivergenceError at the ceiling."""
    mean += (cost - mean) / _WINDOW
    if not mean < ceiling:
        raise DivergenceError(
            f"alpha is {alpha:.6g}: learning diverged at word {t}, the running mean of "
            f"a word's cost reached {mean:.4g} nats; take a smaller alpha"
        )
    return mean


def learn_online(
    params: Parameters,
    words: ArrayLike,
    targets: ArrayLike,
    alpha: float,
    tau: int,
    memory: Memory | None = None,
    limit: float = 15.0,
    ceiling: float | None = None,
    activation: Activation = sigmoid,
    output: OnlineOutput | None = None,
) -> tuple[NDArray[np.float64], Memory]:
    """After each word :eq:`eq-online-v`, :eq:`eq-online-w`, :eq:`eq-online-u`.

    Args:
        params: the parameters, arrays of floats; they are changed.
        words: the input words w(t) as indices, shape (T,).
        targets: the words d(t) that follow them, the same shape.
        alpha: the learning rate, 0 or more.
        tau: how many steps each error is sent back at most.
        memory: what an earlier call returned, if this text goes on from there.
        limit: errors are clipped to -limit .. limit.
        ceiling: the running mean cost at which learning is given up, in nats;
            log N + 1 unless given. At math.inf only a cost that is not finite ends it.
        activation: f of the hidden layer.
        output: an output layer that stands for `SoftmaxOutput(params.V)`.

    Returns:
        The cost of each word, predicted before it was learnt from, in nats, shape (T,);
        and the memory with which the next call goes on.

    Raises:
        DivergenceError: if the running mean of the cost reaches the ceiling; params
            are what they have become.
        ValueError: if an argument has the wrong shape, an index or a number is out of
            its range, params or alpha are not finite; the message names the argument.
    """
    U, W, V = params = check_writable(params)
    words, targets = _check_text(words, targets, len(V))
    ceiling = math.log(len(V)) + 1 if ceiling is None else ceiling
    alpha, tau = _check_rates(alpha, tau, limit, ceiling)
    memory = _check_memory(memory, params)
    known, mean = len(memory.words), memory.cost
    words = np.concatenate([memory.words, words])
    states = np.empty((len(words) + 1, len(W)), V.dtype)  # states[t + 1] is s(t)
    states[: known + 1] = memory.states
    costs = np.empty(len(targets))
    layer = SoftmaxOutput(V) if output is None else output
    quiet = np.errstate(over="ignore", invalid="ignore")  # _watch sees what overflows
    with quiet, layer:
        for t, target in enumerate(targets.tolist(), start=known):
            s = states[t + 1] = activation(U[:, words[t]] + W @ states[t])
            cost, sent = layer.predict(s, target)
            mean = _watch(mean, cost, ceiling, alpha, t - known)
            costs[t - known] = cost
            start = t - min(tau, t)  # the first step that the error is sent back to
            slopes = activation.slope(states[start + 1 : t + 2])
            errors = alpha * _sent_back(params, sent * slopes[-1], slopes, limit)
            layer.learn(alpha * s)
            W += errors.T @ states[start : t + 1]
            for word, error in zip(words[start : t + 1], errors, strict=True):
                U[:, word] += error
    keep = len(words) - min(tau, len(words))
    return costs, Memory(words[keep:].copy(), states[keep:].copy(), mean)


def _check_text(
    words: ArrayLike, targets: ArrayLike, vocab_size: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The words and targets of one text as index arrays of the same shape, (T,)."""
    words = check_indices("words", words, vocab_size)
    if words.ndim != 1:
        raise ValueError(f"words has shape {words.shape}: expected (T,), one text")
    return words.astype(np.int64), check_targets(targets, words.shape, vocab_size)


def _check_rates(
    alpha: float, tau: int, limit: float, ceiling: float
) -> tuple[float, int]:
    """The numbers that steer learning, each in its range; else ValueError."""
    for name, value in (("limit", limit), ("ceiling", ceiling)):
        if not value > 0:
            raise ValueError(f"{name} is {value}: expected a number above 0")
    if not isinstance(tau, Integral) or isinstance(tau, bool) or tau < 0:
        raise ValueError(f"tau is {tau!r}: expected an integer, 0 or more")
    return check_alpha(alpha), int(tau)


def _check_memory(memory: Memory | None, params: Parameters) -> Memory:
    """What is known of the text so far, nothing unless given; else ValueError."""
    N, H = params.V.shape
    if memory is None:
        nothing = np.array([], np.int64)
        return Memory(nothing, np.zeros((1, H), params.V.dtype), math.log(N))
    words, states, cost = memory
    known = check_indices("memory.words", words, N) if np.size(words) else words
    states = check_array("memory.states", states, (None, H))
    shapes = np.shape(known), states.shape
    if shapes != ((len(known),), (len(known) + 1, H)) or not cost >= 0:
        raise ValueError(
            f"memory has words and states of shapes {shapes[0]} and {shapes[1]}, and "
            f"the cost {cost}: expected (k,), (k + 1, {H}), and 0 or more"
        )
    return Memory(np.array(known, np.int64), states, cost)


class Schedule(NamedTuple):
    """The learning rate and what decides when it falls.

    Attributes:
        alpha: the learning rate of the next epoch; 0 when learning is over.
        best: the smallest cost of the validation text so far, in nats.
        halving: whether the rate falls after every epoch.
    """

    alpha: float = 0.1
    best: float = math.inf
    halving: bool = False


def next_schedule(schedule: Schedule, cost: float) -> Schedule:
    """alpha(n+1) from the cost of the validation text, :eq:`eq-schedule`.

    Args:
        schedule: that of the epoch that has ended.
        cost: what the validation text costs now, in nats, in all or per word.

    Returns:
        The schedule of the next epoch, with the rate halved after each epoch from the
        first one on that gains less than 0.3 %, and 0 after the second such epoch.

    Raises:
        ValueError: if the cost is negative or not a number.
    """
    if not cost >= 0:
        raise ValueError(f"cost is {cost}: expected nats, 0 or more")
    alpha, best, halving = schedule
    gained = best >= 1.003 * cost
    if not gained and halving:
        return Schedule(0.0, min(best, cost), True)
    halving = halving or not gained
    return Schedule(alpha / 2 if halving else alpha, min(best, cost), halving)


def adam_update(
    theta: NDArray[Any],
    g: NDArray[Any],
    m: NDArray[Any],
    v: NDArray[Any],
    n: int,
    alpha: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> None:
    """Step n of `adam_step` for one array and its moments, in place, unchecked."""
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * g * g
    scale = np.sqrt(v / (1 - beta2**n)) + epsilon
    theta -= alpha / (1 - beta1**n) * m / scale


class Moments(NamedTuple):
    """What Adam remembers: the number of steps, running means of g and of g^2."""

    steps: int
    mean: Parameters
    square: Parameters


def adam_step(
    params: Parameters,
    gradient: Parameters,
    moments: Moments | None = None,
    alpha: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> Moments:
    """theta <- theta - alpha m' / (sqrt(v') + epsilon), :eq:`eq-adam`, in place;
    m' and v' are the running means :eq:`eq-moments`, corrected for their beginning.

    Args:
        params: the parameters, arrays of floats; they are changed.
        gradient: dE/dU, dE/dW, dE/dV, of the same shapes.
        moments: what the step before returned, None for the first; its arrays are
            changed.
        alpha: the learning rate.
        beta1: how much of the mean of g is kept, from 0 to below 1.
        beta2: the same for the mean of g^2.
        epsilon: keeps the denominator above 0.

    Returns:
        The moments for the next step.

    Raises:
        ValueError: if params cannot be changed in place, a shape differs, or a number
            is out of its range.
    """
    alpha = check_alpha(alpha)
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1 and epsilon > 0):
        raise ValueError(
            f"beta1, beta2, epsilon are {beta1}, {beta2}, {epsilon}: "
            "expected 0 <= beta < 1, and epsilon above 0"
        )
    pairs = _pairs(params, gradient)
    if moments is None:
        zeros = [Parameters(*map(np.zeros_like, params)) for _ in range(2)]
        moments = Moments(0, *zeros)
    if moments.mean.U.shape != params.U.shape:
        raise ValueError(
            f"moments has mean.U of shape {moments.mean.U.shape}: expected "
            f"{params.U.shape}, the moments of these params"
        )
    n = moments.steps + 1
    for (matrix, g), m, v in zip(pairs, moments.mean, moments.square, strict=True):
        adam_update(matrix, g, m, v, n, alpha, beta1, beta2, epsilon)
    return moments._replace(steps=n)


def adagrad_update(
    theta: NDArray[Any], g: NDArray[Any], h: NDArray[Any], alpha: float
) -> None:
    """A step of `adagrad_step` for one array and its sums, in place, unchecked.

    With h of shape (R, 1) each row has one sum; of the shape of theta, each element.
    """
    if h.shape == g.shape:
        h += g * g
    else:  # one sum for each row
        h += np.vecdot(g, g)[:, np.newaxis]
    theta -= g * (alpha / np.sqrt(h + np.finfo(h.dtype).tiny))


def zero_sums(params: Parameters) -> Parameters:
    """h_0 = 0 of `adagrad_step`: for each element of U, each row of W and of V."""
    U, W, V = params
    return Parameters(
        np.zeros_like(U), np.zeros_like(W[:, :1]), np.zeros_like(V[:, :1])
    )


def adagrad_step(
    params: Parameters,
    gradient: Parameters,
    sums: Parameters | None = None,
    alpha: float = 1.0,
) -> Parameters:
    """theta <- theta - alpha g / sqrt(h), :eq:`eq-adagrad`, in place.

    An element of U is a block by itself; of W and V each row is one.

    Args:
        params: the parameters, arrays of floats; they are changed.
        gradient: dE/dU, dE/dW, dE/dV, of the same shapes.
        sums: what the step before returned, None for the first; its arrays are changed.
        alpha: the length of a block's first step; no later one is longer.

    Returns:
        The sums of squares h, of shapes (H, N), (H, 1) and (N, 1).

    Raises:
        ValueError: if params cannot be changed in place, a shape differs, or alpha is
            out of its range.
    """
    alpha = check_alpha(alpha)
    pairs = _pairs(params, gradient)
    U, W, V = params
    shapes = [U.shape, (len(W), 1), (len(V), 1)]
    sums = zero_sums(params) if sums is None else sums
    if [h.shape for h in sums] != shapes:
        raise ValueError(
            f"sums have shapes {[h.shape for h in sums]}: expected {shapes}, the sums "
            "of these params"
        )
    for (matrix, g), h in zip(pairs, sums, strict=True):
        adagrad_update(matrix, g, h, alpha)
    return sums


def lanes(indices: ArrayLike, count: int) -> NDArray[Any]:
    """i_b(t) = i(b L + t), :eq:`eq-lanes`: a text cut into lanes side by side.

    Args:
        indices: the word indices of a text, shape (T,).
        count: B, the number of lanes, from 1 to T.

    Returns:
        The indices, shape (L, B) with L = T // B; the words of the remainder are left
        out.

    Raises:
        ValueError: if indices are not of one text, or count is out of its range.
    """
    array = check_indices("indices", indices, np.iinfo(np.int64).max)
    if array.ndim != 1:
        raise ValueError(f"indices has shape {array.shape}: expected (T,), one text")
    whole = isinstance(count, Integral) and not isinstance(count, bool)
    if not (whole and 1 <= count <= len(array)):
        raise ValueError(f"count is {count!r}: expected an integer, 1 to {len(array)}")
    length = len(array) // count
    return array[: length * count].reshape(count, length).T
