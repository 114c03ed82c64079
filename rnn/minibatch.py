"""Many sequences at once.

Exported from book/12_minibatch.ipynb. Edit that chapter, then run `make export`.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import pairwise
from numbers import Integral
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from threadpoolctl import threadpool_limits

from .bptt import send_back, truncated_error
from .cross_entropy import check_targets
from .hidden_state import (
    Activation,
    Parameters,
    recurrence,
    sigmoid,
)
from .sgd import (
    DivergenceError,
    Moments,
    adagrad_update,
    adam_update,
    check_alpha,
    check_writable,
    zero_sums,
)
from .words import check_indices

__all__ = [
    "ChunkGradient",
    "ChunkLearner",
    "Dropout",
    "Output",
    "OutputLayer",
    "Pool",
    "Stripe",
    "Tiles",
    "check_count",
    "clip_factor",
    "column_sums",
    "dropout_mask",
    "step_cost",
    "workers",
]


def step_cost(vocab_size: int, hidden_size: int) -> int:
    """3 H (N + H) multiplications a word, :eq:`eq-step-cost`, for forward and back.

    Args:
        vocab_size: N.
        hidden_size: H.
    """
    return 3 * hidden_size * (vocab_size + hidden_size)


def check_count(name: str, count: Any, lowest: int = 0) -> int:
    """A number of things, if it is an integer and large enough; else ValueError."""
    if not isinstance(count, Integral) or isinstance(count, bool) or count < lowest:
        raise ValueError(f"{name} is {count!r}: expected an integer, {lowest} or more")
    return int(count)


#: The threads that share the work; None for this one alone.
Pool = ThreadPoolExecutor | None


@contextmanager
def workers(count: int | None = None) -> Iterator[Pool]:
    """Threads that share the work, while each makes its products by itself.

    What they compute does not depend on how many they are, to the last bit.

    Args:
        count: how many; None for as many as there are processors. With 1 the work
            stays in the thread that has it, since handing over takes time.

    Raises:
        ValueError: if count is less than 1.
    """
    count = (os.cpu_count() or 1) if count is None else check_count("count", count, 1)
    threads = ThreadPoolExecutor(count) if count > 1 else nullcontext()
    with threadpool_limits(1, "blas"), threads as pool:
        yield pool


def _quietly(task: Callable[[], Any]) -> Any:
    """What a task returns; of what overflows, sums and norms will tell."""
    with np.errstate(over="ignore", invalid="ignore"):
        return task()


def _all(pool: Pool, tasks: Iterable[Callable[[], Any]]) -> list[Any]:
    """What the tasks return, in their order."""
    if pool is None:
        return [_quietly(task) for task in tasks]
    futures = [pool.submit(_quietly, task) for task in tasks]
    wait(futures)  # so that none still writes when the error of another is raised
    return [future.result() for future in futures]


class Tiles:
    """W^T for few rows, :eq:`eq-tiles`: `s @ Tiles(W, rows)` is `s @ W.T`.

    Args:
        W: a square matrix, shape (H, H); not copied.
        rows: how many rows the left factors have, at most.
    """

    __array_ufunc__ = None  # NumPy leaves the product to __rmatmul__

    def __init__(self, W: NDArray[Any], rows: int) -> None:
        H = len(W)
        fitting = (k for k in range(1, 33) if H % k == 0 and rows * H * H <= k * 10**6)
        bands = next(fitting, 1)
        self._tiles = W.reshape(bands, H // bands, H).transpose(0, 2, 1)

    def __rmatmul__(self, s: NDArray[Any]) -> NDArray[Any]:
        products: NDArray[Any] = s @ self._tiles  # (bands, rows, H // bands)
        return products.swapaxes(0, 1).reshape(s.shape)


def _edges(length: int, pieces: int) -> list[int]:
    """Where to cut into pieces of nearly equal length, each a multiple of 16.

    The last has what is left. Of less than 16 a piece the cuts are anywhere.
    """
    unit = 16 if length >= 16 * pieces else 1
    units = -(-length // unit)
    cuts = np.linspace(0, units, min(pieces, units) + 1).astype(int) * unit
    edges: list[int] = np.minimum(cuts, length).tolist()
    return edges


class Stripe:
    """The exponentials of some columns of the logits, and what is made from them.

    Args:
        V: the rows of V of some neighbouring words, which make these columns.
        gradient: where their gradient is put, the same shape.
        first: the index of the first of these words.
        rows: the most rows that states will have.
    """

    def __init__(
        self, V: NDArray[Any], gradient: NDArray[Any], first: int, rows: int
    ) -> None:
        self.V, self.gradient, self.first = V, gradient, first
        self._exponentials = np.empty((rows, len(V)), V.dtype)
        self._product = np.empty((rows, V.shape[1]), V.dtype)
        self._ones = np.ones(len(V), V.dtype)
        self.halves = [slice(a, b) for a, b in pairwise(_edges(len(V), 2))]

    def leaders(self, states: NDArray[Any]) -> NDArray[Any]:
        """The largest logit of each row, among these columns."""
        z = np.matmul(states, self.V.T, out=self._exponentials[: len(states)])
        largest: NDArray[Any] = z.max(axis=1)
        return largest

    def forward(
        self, states: NDArray[Any], shift: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """The sums of each row of X = exp(S V^T - shift), and the product X V."""
        rows = slice(len(states))
        X = np.matmul(states, self.V.T, out=self._exponentials[rows])
        if shift is not None:
            X -= shift[:, np.newaxis]
        np.exp(X, out=X)
        return X @ self._ones, np.matmul(X, self.V, out=self._product[rows])

    def subtract(self, targets: NDArray[Any], n: NDArray[Any]) -> None:
        """X - diag(n) D: the row's sum taken off where its target stands."""
        columns = targets - self.first
        (rows,) = np.nonzero((columns >= 0) & (columns < len(self.V)))
        self._exponentials[rows, columns[rows]] -= n[rows]

    def backward(self, half: slice, small: NDArray[Any]) -> float:
        """(X - diag(n) D)^T small for half of the words; the sum of its squares."""
        X = self._exponentials[: len(small), half]
        part = np.matmul(X.T, small, out=self.gradient[half]).reshape(-1)
        return float(part @ part)


class OutputLayer:
    """Costs, V^T e_o and dE/dV of many rows at once, y never stored:
    :eq:`eq-small-error` and :eq:`eq-small-gradient`, stripe by stripe.

    Args:
        V: output weights, shape (N, H), C order.
        rows: the most rows that states will have.
        pool: the threads that share the work, see `workers`.
        stripes: into how many stripes the words are cut, at most; several for each of
            a few processors.

    Attributes:
        gradient: where scale times dE/dV is left, shape (N, H).
        sums: what AdaGrad remembers of each row, in a list of one array, shape (N, 1).
    """

    def __init__(
        self,
        V: NDArray[Any],
        rows: int,
        pool: Pool,
        stripes: int = 8,
    ) -> None:
        self.V, self.gradient, self._pool = V, np.empty_like(V), pool
        self.sums = [np.zeros_like(V[:, :1])]
        self.stripes = [
            Stripe(V[a:b], self.gradient[a:b], a, rows)
            for a, b in pairwise(_edges(len(V), stripes))
        ]
        self._n = self._targets = np.empty(0)
        self._sent = np.empty((rows, V.shape[1]), V.dtype)
        self._small = np.empty_like(self._sent)

    def forward(
        self, states: NDArray[Any], targets: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """What each row costs, in nats, and V^T e_o for each.

        A cost has an error of about one rounding of its logit, however small the cost.

        Args:
            states: shape (R, H), R at most rows.
            targets: indices of the words that follow, shape (R,).

        Returns:
            The costs, shape (R,), and the errors sent back, shape (R, H); these are
            valid until the next call.
        """
        n, products = self._sums(states, None)
        if not self._is_safe(n):
            tasks = (partial(part.leaders, states) for part in self.stripes)
            leaders = np.max(_all(self._pool, tasks), axis=0)
            n, products = self._sums(states, leaders)
        else:
            leaders = 0
        self._n, self._targets = n, targets
        sent, z_d = self._sent[: len(states)], np.empty_like(n)

        def send_back(rows: slice) -> None:
            mean_rows = products[0][rows]
            for other in products[1:]:
                mean_rows += other[rows]
            mean_rows /= n[rows, np.newaxis]
            # no target is out of range; "clip" spares a copy that an error would need
            V_d = np.take(self.V, targets[rows], axis=0, out=sent[rows], mode="clip")
            np.einsum("rj,rj->r", V_d, states[rows], out=z_d[rows])
            V_d -= mean_rows

        half = len(states) // 2
        halves = slice(half), slice(half, None)
        _all(self._pool, (partial(send_back, rows) for rows in halves))
        return leaders - z_d + np.log(n), sent

    def _sums(
        self, states: NDArray[Any], shift: NDArray[Any] | None
    ) -> tuple[NDArray[Any], list[NDArray[Any]]]:
        """n, the sums of the exponentials of each row; the products of each stripe."""
        tasks = (partial(part.forward, states, shift) for part in self.stripes)
        sums, products = zip(*_all(self._pool, tasks), strict=True)
        return np.sum(sums, axis=0), list(products)

    def _is_safe(self, n: NDArray[Any]) -> bool:
        """Whether nothing overflowed, and what underflowed does not count."""
        range_ = np.finfo(n.dtype)
        return bool(((n > range_.tiny**0.5) & (n < range_.max**0.5)).all())

    def backward(self, states: NDArray[Any], scale: float) -> list[Callable[[], float]]:
        """Tasks that make scale times dE/dV; each returns the sum of its squares.

        To be called once after each `forward`, whose exponentials it changes.

        Args:
            states: those that `forward` was given.
            scale: what the gradient is multiplied by.
        """
        for part in self.stripes:
            part.subtract(self._targets, self._n)
        small = self._small[: len(states)]
        np.multiply(states, (scale / self._n)[:, np.newaxis], out=small)
        return [
            partial(part.backward, half, small)
            for part in self.stripes
            for half in part.halves
        ]

    def descend(
        self, factor: float, alpha: float | None = None
    ) -> list[Callable[[], None]]:
        """Tasks that subtract factor times the gradient from V.

        With alpha they make a step of AdaGrad with factor times the gradient.
        """

        def rows(part: Stripe) -> None:
            if factor != 1:
                part.gradient *= factor
            if alpha is None:
                part.V -= part.gradient
            else:
                (h,) = self.sums
                part_h = h[part.first : part.first + len(part.V)]
                adagrad_update(part.V, part.gradient, part_h, alpha)

        return [partial(rows, part) for part in self.stripes]


class Output(Protocol):
    """An output layer that learns from chunks, as `OutputLayer` does."""

    sums: list[NDArray[Any]]

    @property
    def gradient(self) -> NDArray[Any]:
        """Scale times dE/dV, after `backward`."""

    def forward(
        self, states: NDArray[Any], targets: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """What each row costs, and the errors sent back."""

    def backward(self, states: NDArray[Any], scale: float) -> list[Callable[[], float]]:
        """Tasks that make scale times the gradient; sums of squares."""

    def descend(
        self, factor: float, alpha: float | None = None
    ) -> list[Callable[[], None]]:
        """Tasks that subtract factor times the gradient; with alpha, by AdaGrad."""


def column_sums(
    words: NDArray[Any], errors: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """sum of errors(r) over the rows r with w(r) = m; :eq:`eq-columns` for -delta.

    Args:
        words: a word index for each row, shape (R,).
        errors: shape (R, H).

    Returns:
        The words that occur, ascending, shape (K,); the sum for each, shape (K, H).
    """
    found, first, place = np.unique(words, return_index=True, return_inverse=True)
    sums: NDArray[Any] = errors[first]
    for r in np.delete(np.arange(len(words)), first).tolist():
        sums[place[r]] += errors[r]
    return found, sums


def clip_factor(norm: float, limit: float) -> float:
    """min(1, limit / norm), :eq:`eq-clip-norm`: what a gradient is multiplied by."""
    return limit / norm if norm > limit else 1.0


def _check_probability(name: str, p: float) -> None:
    """Raise ValueError unless p can be the probability of dropping."""
    if not 0 <= p < 1:
        raise ValueError(f"{name} is {p}: expected a number from 0 to below 1")


def dropout_mask(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    p: float,
    dtype: DTypeLike = np.float64,
) -> NDArray[Any]:
    """0 with probability p, else 1 / (1 - p), :eq:`eq-dropout`, for each element.

    Args:
        rng: where the randomness comes from.
        shape: shape of the mask.
        p: the probability that an element is dropped, from 0 to below 1.
        dtype: float type of the mask.

    Raises:
        ValueError: if p is out of its range.
    """
    _check_probability("p", p)
    kept = rng.random(shape, np.float32) >= p
    mask: NDArray[Any] = kept * np.asarray(1 / (1 - p), dtype)
    return mask


class ChunkGradient(NamedTuple):
    """The gradient of E / B for a chunk; for U only the columns that were read.

    Attributes:
        words: the words that were read, ascending, shape (K,).
        columns: their columns of (dE/dU) / B, as rows, shape (K, H).
        W: (dE/dW) / B, shape (H, H); like V valid until the next chunk.
        V: (dE/dV) / B, shape (N, H).
        norm: the root of the sum of all squares.
    """

    words: NDArray[Any]
    columns: NDArray[Any]
    W: NDArray[Any]
    V: NDArray[Any]
    norm: float


class _Slopes(NamedTuple):
    """A `ChunkGradient` but for dE/dV, which stays with the output layer."""

    words: NDArray[Any]
    columns: NDArray[Any]
    W: NDArray[Any]
    norm: float


class Dropout(NamedTuple):
    """How much is dropped, each a probability from 0 to below 1.

    Attributes:
        inputs: of the elements of U w(t).
        states: of the elements of s(t) on their way to V.
        weights: of the elements of W, the same for a whole chunk.
    """

    inputs: float = 0.0
    states: float = 0.0
    weights: float = 0.0


class _Masks(NamedTuple):
    """What the three are multiplied by; None where nothing is dropped."""

    inputs: NDArray[Any] | None
    states: NDArray[Any] | None
    weights: NDArray[Any] | None


def _kept(array: NDArray[Any], mask: NDArray[Any] | None) -> NDArray[Any]:
    """What a mask leaves of an array, all of it without one."""
    return array if mask is None else array * mask


class ChunkLearner:
    """theta <- theta - (alpha c / B) dE/dtheta, :eq:`eq-chunk-step`, for each chunk.

    Args:
        params: the parameters, arrays of floats, V in C order; they are changed.
        lanes: B, how many sequences are read side by side.
        chunk: the most steps of a chunk.
        pool: the threads that share the work, see `workers`.
        activation: f of the hidden layer.
        tau: how many steps each error is sent back at most, within its chunk; None for
            all.
        limit: the norm at which a gradient is clipped.
        dropout: how much is dropped.
        optimizer: "sgd" for plain steps; "adam" or "adagrad" for those of `adam_step`
            or `adagrad_step` with the clipped gradient.
        output: makes the output layer from V, the most rows, and the pool;
            `OutputLayer` unless given. One that is given excludes Adam.

    Attributes:
        state: the last state of each lane, shape (B, H); zeros in the beginning.
        cost: the running mean of a word's cost, in nats, over about ten chunks; None
            in the beginning.
        moments: what Adam remembers; None without it.
        sums: what AdaGrad remembers, of U, of W, and of what the output layer has;
            None without it.

    Raises:
        ValueError: if an argument is out of its range; the message names it.
    """

    def __init__(
        self,
        params: Parameters,
        lanes: int,
        chunk: int,
        pool: Pool,
        activation: Activation = sigmoid,
        tau: int | None = None,
        limit: float = 5.0,
        dropout: Dropout | None = None,
        optimizer: str = "sgd",
        output: Callable[[NDArray[Any], int, Pool], Output] | None = None,
    ) -> None:
        self.params = check_writable(params)
        lanes, chunk = check_count("lanes", lanes, 1), check_count("chunk", chunk, 1)
        if not self.params.V.flags.c_contiguous:
            raise ValueError("params.V is not in C order: expected a copy that is")
        if not limit > 0:
            raise ValueError(f"limit is {limit}: expected a number above 0")
        known = ("sgd", "adagrad") if output else ("sgd", "adagrad", "adam")
        if optimizer not in known:
            raise ValueError(
                f"optimizer is {optimizer!r}: expected sgd, adagrad, or, without an "
                "output of its own, adam"
            )
        self.chunk, self.activation, self.limit = chunk, activation, limit
        self.tau = None if tau is None else check_count("tau", tau)
        self.dropout = Dropout(*(dropout or ()))
        for name, p in self.dropout._asdict().items():
            _check_probability(f"dropout.{name}", p)
        self.state = np.zeros((lanes, len(self.params.W)), self.params.V.dtype)
        self.cost: float | None = None
        self._ceiling: float | None = None
        self._pool = pool
        self._states = np.empty((chunk + 1, *self.state.shape), self.state.dtype)
        self._dW = np.empty_like(self.params.W)
        self._output = (output or OutputLayer)(self.params.V, lanes * chunk, pool)
        self.moments: Moments | None = None
        self.sums: list[NDArray[Any]] | None = None
        if optimizer == "adam":
            means = (Parameters(*map(np.zeros_like, self.params)) for _ in range(2))
            self.moments = Moments(0, *means)
        elif optimizer == "adagrad":
            self.sums = [*zero_sums(self.params)[:2], *self._output.sums]

    def learn(
        self,
        words: ArrayLike,
        targets: ArrayLike,
        alpha: float,
        rng: np.random.Generator | None = None,
    ) -> float:
        """Learn from a chunk, and go on from its last states.

        Args:
            words: the words that are read, shape (T, B), T at most `chunk`.
            targets: the words that follow them, the same shape.
            alpha: the learning rate.
            rng: decides what is dropped.

        Returns:
            What the words cost before they were learnt from, in nats.

        Raises:
            DivergenceError: if the running mean of the cost is a nat above log N and
                above the cost of the first chunk, or the gradient is not finite; the
                parameters stay as they are.
            ValueError: if an argument is out of its range; the message names it. Or if
                the states overflow.
        """
        alpha = check_alpha(alpha)
        plain = self.moments is None and self.sums is None
        scale = alpha if plain else 1.0
        with np.errstate(over="ignore", invalid="ignore"):  # the norm will tell
            loss, slopes = self._gradient(words, targets, rng, scale)
        mean = loss / np.size(words)
        self.cost = mean if self.cost is None else self.cost + (mean - self.cost) / 10
        if self._ceiling is None:
            self._ceiling = max(self.cost, math.log(len(self.params.V))) + 1
        if not (self.cost < self._ceiling and slopes.norm < math.inf):
            raise DivergenceError(
                f"alpha is {alpha:.6g}: learning diverged, the running mean of a "
                f"word's cost is {self.cost:.4g} nats; take a smaller alpha"
            )
        # both have the factor scale: so has the gradient
        factor = clip_factor(slopes.norm, scale * self.limit)
        if self.moments:
            self._adam_step(slopes, alpha, factor)
        else:
            self._descend(slopes, factor, None if plain else alpha)
        return loss

    def gradient(
        self,
        words: ArrayLike,
        targets: ArrayLike,
        rng: np.random.Generator | None = None,
    ) -> tuple[float, ChunkGradient]:
        """E in nats and the gradient of E / B for a chunk; the state goes on.

        Arguments are those of `learn` without alpha, and so is its ValueError.
        """
        loss, (found, columns, dW, norm) = self._gradient(words, targets, rng, 1.0)
        return loss, ChunkGradient(found, columns, dW, self._output.gradient, norm)

    def _gradient(
        self,
        words: ArrayLike,
        targets: ArrayLike,
        rng: np.random.Generator | None,
        scale: float,
    ) -> tuple[float, _Slopes]:
        """E, and scale times the gradient of E / B; the state goes on."""
        words, targets = self._check_chunk(words, targets)
        B, H = self.state.shape
        masks = self._masks(len(words), rng)
        W = _kept(self.params.W, masks.weights)
        before, states = self._run(words, W, masks.inputs)
        read = _kept(states, masks.states).reshape(-1, H)
        costs, sent = self._output.forward(read, targets.reshape(-1))

        def through_time() -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
            slopes = self.activation.slope(states)
            e_h = sent.reshape(states.shape)
            e_h *= -scale / B  # minus: what follows are gradients
            e_h = _kept(e_h, masks.states)
            e_h *= slopes
            delta = self._total_error(e_h, slopes, W)
            picked = _kept(delta, masks.inputs).reshape(-1, H)
            found, columns = column_sums(words.reshape(-1), picked)
            rows, rows_before = delta.reshape(-1, H), before.reshape(-1, H)
            dW = np.matmul(rows.T, rows_before, out=self._dW)
            return found, columns, _kept(dW, masks.weights)

        tasks = self._output.backward(read, scale / B)
        (found, columns, dW), *squares = _all(self._pool, [through_time, *tasks])
        square = sum(squares) + float(np.vdot(columns, columns) + np.vdot(dW, dW))
        self.state = states[-1].copy()
        slopes = _Slopes(found, columns, dW, math.sqrt(square))
        return float(costs.sum(dtype=np.float64)), slopes

    def _check_chunk(
        self, words: ArrayLike, targets: ArrayLike
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Words and targets as arrays of indices, shape (T, B)."""
        N, B = len(self.params.V), len(self.state)
        words = check_indices("words", words, N)
        if words.ndim != 2 or words.shape[1] != B or len(words) > self.chunk:
            raise ValueError(
                f"words has shape {words.shape}: expected (T, {B}), "
                f"T at most {self.chunk}"
            )
        targets = check_targets(targets, words.shape, N)
        return words.astype(np.intp), targets.astype(np.intp)

    def _masks(self, steps: int, rng: np.random.Generator | None) -> _Masks:
        """What is dropped from a chunk."""
        (B, H), dtype = self.state.shape, self.state.dtype
        shapes = (steps, B, H), (steps, B, H), (H, H)
        if rng is None and any(self.dropout):
            raise ValueError("rng is None: expected a generator, for the dropout")
        return _Masks(
            *(
                dropout_mask(rng, shape, p, dtype) if rng and p else None
                for shape, p in zip(shapes, self.dropout, strict=True)
            )
        )

    def _run(
        self, words: NDArray[Any], W: NDArray[Any], mask: NDArray[Any] | None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """The states before the steps of a chunk, and those after them.

        Of a large network half of the lanes are run in each task.
        """
        B, H = self.state.shape
        # below, Python's part of a step is the larger one, and threads wait for it
        share = (B + 1) // 2 if B * H * H > 4 * 10**6 else B
        W_T = Tiles(W, share)
        states = self._states[: len(words) + 1]
        states[0] = self.state

        def run(part: slice) -> None:
            inputs = self.params.U.T[words[:, part]]
            if mask is not None:
                inputs *= mask[:, part]
            s, out = states[0, part], states[1:, part]
            recurrence(inputs, W_T, s, self.activation, out)

        _all(
            self._pool, (partial(run, slice(b, b + share)) for b in range(0, B, share))
        )
        return states[:-1], states[1:]

    def _total_error(
        self, e_h: NDArray[Any], slopes: NDArray[Any], W: NDArray[Any]
    ) -> NDArray[Any]:
        """delta, as `total_error` gives it, by tiles of W; or as `truncated_error`.

        What e_h holds afterwards is of no use.
        """
        tau = len(e_h) - 1 if self.tau is None else self.tau
        if tau < len(e_h) - 1 and np.isfinite(e_h).all():  # if not, the norm will tell
            return truncated_error(self.params._replace(W=W), e_h, slopes, tau)
        delta = e_h
        tiled = self.params._replace(W=Tiles(W.T, delta.shape[1]))  # type: ignore[arg-type]
        for t in range(len(delta) - 2, -1, -1):
            delta[t] += send_back(tiled, delta[t + 1], slopes[t])
        return delta

    def _descend(self, slopes: _Slopes, factor: float, alpha: float | None) -> None:
        """theta <- theta - factor times the gradient; with alpha, by AdaGrad."""
        U, W, _ = self.params
        words, columns, dW = slopes.words, slopes.columns, slopes.W

        def others() -> None:
            for g in (columns, dW):
                g *= factor
            if alpha is None:
                U.T[words] -= columns
                W[:] -= dW
            else:
                assert self.sums
                h_U, h_W, *_ = self.sums
                theta, h = U.T[words], h_U.T[words]
                adagrad_update(theta, columns, h, alpha)
                U.T[words], h_U.T[words] = theta, h
                adagrad_update(W, dW, h_W, alpha)

        _all(self._pool, [others, *self._output.descend(factor, alpha)])

    def _adam_step(self, slopes: _Slopes, alpha: float, factor: float) -> None:
        """A step of `adam_step` with factor times the gradient, some rows at a time."""
        assert self.moments
        self.moments = self.moments._replace(steps=self.moments.steps + 1)
        n, mean, square = self.moments
        U, W, V = self.params
        dU = np.zeros_like(U.T)
        dU[slopes.words] = slopes.columns

        def rows(
            theta: NDArray[Any], g: NDArray[Any], m: NDArray[Any], v: NDArray[Any]
        ) -> None:
            adam_update(theta, factor * g, m, v, n, alpha)

        matrices = (
            (U.T, dU, mean.U.T, square.U.T),
            (W, slopes.W, mean.W, square.W),
            (V, self._output.gradient, mean.V, square.V),
        )
        few = max(1, 2**16 // len(W))  # rows that stay in the cache
        tasks = [
            partial(rows, *(array[i : i + few] for array in arrays))
            for arrays in matrices
            for i in range(0, len(arrays[0]), few)
        ]
        _all(self._pool, tasks)
