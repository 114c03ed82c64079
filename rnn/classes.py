"""Classes of words.

Exported from book/13_classes.ipynb. Edit that chapter, then run `make export`.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .cross_entropy import check_targets, summed_cost
from .hidden_state import (
    Activation,
    Parameters,
    check_array,
    check_parameters,
    hidden_states,
    sigmoid,
)
from .minibatch import OutputLayer, Pool, check_count
from .sgd import adagrad_update, cost_and_error
from .softmax import log_softmax

__all__ = [
    "ClassLayer",
    "ClassOutput",
    "Classes",
    "check_classes",
    "class_edges",
    "class_log_outputs",
    "class_loss",
    "class_size",
    "class_step_cost",
    "init_classes",
]


def class_edges(counts: ArrayLike, count: int) -> NDArray[np.int64]:
    """b_0 .. b_C of :eq:`eq-class-bins`: classes with equal sums of square roots.

    Class c holds the words b_c .. b_{c+1} - 1, at least one.

    Args:
        counts: how often each word occurs, in the order of their indices, shape (N,).
        count: C, how many classes, from 1 to N.

    Returns:
        The first word of each class, and N, shape (C + 1,).

    Raises:
        ValueError: if an argument is out of its range.
    """
    roots = np.sqrt(_check_counts(counts))
    N, count = len(roots), check_count("count", count, 1)
    if count > N:
        raise ValueError(f"count is {count}: expected at most {N}, one for each word")
    c, middles = np.arange(count + 1), np.cumsum(roots) - roots / 2
    # b_c: how many middles are below c rho / C
    edges: NDArray[np.int64] = np.searchsorted(middles, c * (roots.sum() / count))
    edges[-1] = N  # the last words may have the count 0
    edges = np.maximum.accumulate(edges - c) + c  # at least one word in each class
    edges = np.minimum(edges, N - count + c)  # and one left for each that follows
    return edges


def _check_counts(counts: ArrayLike) -> NDArray[Any]:
    """How often each word occurs, if these can be such numbers; else ValueError."""
    array = check_array("counts", counts, (None,))
    if array.ndim != 1 or not len(array) or array.min() < 0 or not array.any():
        raise ValueError(
            f"counts has shape {array.shape}: expected (N,), numbers of 0 or more, "
            "not all of them 0"
        )
    return array


def class_size(counts: ArrayLike, edges: NDArray[Any]) -> float:
    """sum_c p_c n_c: how many words the class of a target has on average.

    Args:
        counts: how often each word occurs, shape (N,).
        edges: the classes, from `class_edges`.
    """
    counts = _check_counts(counts)
    p = np.add.reduceat(counts, edges[:-1]) / counts.sum()
    return float(p @ np.diff(edges))


def class_step_cost(counts: ArrayLike, edges: NDArray[Any], hidden_size: int) -> float:
    """3 H (C + sum_c p_c n_c + H) multiplications a word, :eq:`eq-class-step-cost`.

    Args:
        counts: how often each word occurs, shape (N,).
        edges: the classes, from `class_edges`.
        hidden_size: H.
    """
    rows = len(edges) - 1 + class_size(counts, edges)
    return 3 * hidden_size * (rows + hidden_size)


class Classes(NamedTuple):
    """Classes of words, and the weights that choose among them.

    Attributes:
        Q: the weights, shape (C, H).
        edges: class c holds the words edges[c] .. edges[c + 1] - 1, shape (C + 1,).
    """

    Q: NDArray[Any]
    edges: NDArray[Any]

    def of(self, words: NDArray[Any]) -> NDArray[Any]:
        """c(m), the class of each word."""
        return np.searchsorted(self.edges, words, side="right") - 1


def init_classes(
    edges: NDArray[Any],
    hidden_size: int,
    rng: np.random.Generator,
    dtype: DTypeLike = np.float64,
) -> Classes:
    """Classes with random weights: normal, mean 0, standard deviation 0.1.

    Args:
        edges: the classes, from `class_edges`.
        hidden_size: H, the number of hidden units.
        rng: where the randomness comes from.
        dtype: float type of Q.
    """
    Q = 0.1 * rng.standard_normal((len(edges) - 1, hidden_size))
    return Classes(Q.astype(dtype), edges)


def check_classes(params: Parameters, classes: Classes) -> Classes:
    """The classes, if they fit the parameters; else ValueError."""
    N, H = params.V.shape
    Q, edges = check_array("classes.Q", classes.Q, (None, H)), np.asarray(classes.edges)
    if Q.ndim != 2:
        raise ValueError(f"classes.Q has shape {Q.shape}: expected (C, {H})")
    if edges.dtype.kind not in "iu" or edges.shape != (len(Q) + 1,):
        raise ValueError(
            f"classes.edges has shape {edges.shape} and type {edges.dtype}: expected "
            f"({len(Q) + 1},), of integers, for {len(Q)} classes"
        )
    edges = edges.astype(np.int64)  # of unsigned integers no difference is negative
    if (edges[0], edges[-1]) != (0, N) or (np.diff(edges) < 1).any():
        raise ValueError(
            f"classes.edges goes from {edges[0]} to {edges[-1]}: expected 0 to {N}, "
            "each above the one before"
        )
    return Classes(Q, edges)


def class_log_outputs(
    params: Parameters, states: ArrayLike, classes: Classes
) -> NDArray[Any]:
    """log y_m = log P(c(m) | s) + log P(m | c(m), s), :eq:`eq-class-output`.

    Args:
        params: the parameters; V (N, H) alone is used.
        states: s(t), shape (..., H).
        classes: the classes and their weights.

    Returns:
        The logarithms of the distribution over all words, shape (..., N).

    Raises:
        ValueError: if an argument has the wrong shape or is not finite.
    """
    V = check_parameters(params).V
    Q, edges = check_classes(params, classes)
    states = check_array("states", states, V.shape[1:])
    of_class = log_softmax(states @ Q.T)
    parts = [
        of_class[..., c : c + 1] + log_softmax(states @ V[a:b].T)
        for c, (a, b) in enumerate(pairwise(edges.tolist()))
    ]
    return np.concatenate(parts, axis=-1)


class ClassOutput:
    """Q^T e_c + V^T e_w, :eq:`eq-class-sent`, word by word: an `OnlineOutput`.

    Args:
        V: output weights, shape (N, H), which are changed; best in C order.
        classes: the classes; their Q is changed.
    """

    def __init__(self, V: NDArray[Any], classes: Classes) -> None:
        self.V, (self.Q, edges) = V, classes
        self._class = classes.of(np.arange(len(V))).tolist()
        self._runs = [slice(a, b) for a, b in pairwise(edges.tolist())]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing waits."""

    def predict(self, s: NDArray[Any], target: int) -> tuple[float, NDArray[Any]]:
        """- log y_d, and Q^T e_c + V^T e_w with the weights of before the update."""
        c = self._class[target]
        run = self._runs[c]
        V_c = self._V_c = self.V[run]  # a view: to change it is to change V
        of_class, self._e_c = cost_and_error(self.Q @ s, c)
        of_word, self._e_w = cost_and_error(V_c @ s, target - run.start)
        return of_class + of_word, self._e_c @ self.Q + self._e_w @ V_c

    def learn(self, step: NDArray[Any]) -> None:
        """Q <- Q + e_c step^T and V <- V + e_w step^T, with step = alpha s."""
        self.Q += np.outer(self._e_c, step)
        self._V_c += np.outer(self._e_w, step)


class _Block(NamedTuple):
    """The rows whose targets are in one class: which, its words, their elements."""

    rows: slice
    words: slice
    e: NDArray[Any]


class _WordErrors:
    """Costs and errors e_w of many rows, sorted by the classes of their targets.

    Args:
        V: output weights, shape (N, H).
        classes: the classes.
        states: shape (R, H).
        targets: indices of the words that follow, shape (R,).
    """

    def __init__(
        self,
        V: NDArray[Any],
        classes: Classes,
        states: NDArray[Any],
        targets: NDArray[Any],
    ) -> None:
        c = classes.of(targets)
        self._order = order = np.argsort(c, kind="stable")
        self.V, self.states, c = V, states[order], c[order]
        sizes = np.diff(classes.edges)[c]  # how many elements a row has
        starts = np.cumsum(sizes) - sizes
        # logits, then errors, of all rows one after another; the blocks are views
        e = np.empty(sizes.sum(), np.result_type(V, states))
        self.blocks = list(self._cut(e, c, starts, classes.edges))
        columns = np.ascontiguousarray(self.states.T)
        for rows, words, z in self.blocks:  # OpenBLAS is faster in this order
            z[:] = (V[words] @ columns[:, rows]).T
        at = starts + targets[order] - classes.edges[c]
        costs = self._to_errors(e, starts, sizes, at)
        self.costs = self._unsorted(costs)

    def _cut(
        self,
        e: NDArray[Any],
        c: NDArray[Any],
        starts: NDArray[Any],
        edges: NDArray[Any],
    ) -> Iterator[_Block]:
        """The elements of all rows, as a matrix for each class that occurs."""
        found, first = np.unique(c, return_index=True)
        words = edges[np.stack([found, found + 1], axis=1)].tolist()
        rows = pairwise([*first.tolist(), len(c)])
        parts = pairwise([*starts[first].tolist(), len(e)])
        for (a, b), row, part in zip(words, rows, parts, strict=True):
            z = e[slice(*part)].reshape(-1, b - a)
            yield _Block(slice(*row), slice(a, b), z)

    @staticmethod
    def _to_errors(
        e: NDArray[Any], starts: NDArray[Any], sizes: NDArray[Any], at: NDArray[Any]
    ) -> NDArray[Any]:
        """Logits become errors in place; the costs are returned."""
        e -= np.repeat(np.maximum.reduceat(e, starts), sizes)
        costs: NDArray[Any] = -e[at]
        np.exp(e, out=e)
        n = np.add.reduceat(e, starts)
        e *= np.repeat(-1 / n, sizes)  # minus the distribution
        e[at] += 1  # target minus distribution
        costs += np.log(n)
        return costs

    def _unsorted(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows in the order in which they came."""
        back = np.empty_like(rows)
        back[self._order] = rows
        return back

    def sent(self) -> NDArray[Any]:
        """V^T e_w for each row."""
        sent = np.empty_like(self.states)
        for rows, words, e in self.blocks:
            np.matmul(e, self.V[words], out=sent[rows])
        return self._unsorted(sent)

    def square(self) -> float:
        """The sum of the squares of the elements of sum e_w s^T."""
        square = 0.0
        for rows, _, e in self.blocks:
            s = self.states[rows]
            if len(e) > e.shape[1]:  # then the product itself is small
                product = e.T @ s
                square += float(np.vdot(product, product))
            else:
                square += float(np.vdot(e @ e.T, s @ s.T))
        return max(square, 0.0)  # rounding may leave less than 0; max(nan, 0.0) is nan

    def gradients(self, scale: float) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Scale times the rows of dE/dV whose class had a target: where, and what.

        Neighbouring rows of V come together, as many as stay in the cache; each array
        is valid until the next.
        """
        small = -scale * self.states
        room = max(1, 2**16 // small.shape[1])
        part = np.empty((room, small.shape[1]), small.dtype)
        begin = end = 0  # the rows that part holds
        for rows, words, e in self.blocks:
            # NumPy's matmul is slow for a column times a row
            product = np.multiply if len(e) == 1 else np.matmul
            for a in range(words.start, words.stop, room):
                b = min(a + room, words.stop)
                if a > end or b - begin > room:
                    if end > begin:
                        yield slice(begin, end), part[: end - begin]
                    begin = a
                errors = e.T[a - words.start : b - words.start]
                product(errors, small[rows], out=part[a - begin : b - begin])
                end = b
        yield slice(begin, end), part[: end - begin]


def class_loss(
    params: Parameters,
    words: ArrayLike,
    targets: ArrayLike,
    classes: Classes,
    s_init: ArrayLike | None = None,
    activation: Activation = sigmoid,
) -> float:
    """E = - sum_t log y_d(t)(t), :eq:`eq-class-loss`, only the targets' classes made.

    Args:
        params: the parameters U (H, N), W (H, H), V (N, H).
        words: the input words w(t) as indices, shape (T, ...).
        targets: the words d(t) that follow them, the same shape.
        classes: the classes and their weights.
        s_init: s(-1), shape (..., H); zeros unless given.
        activation: f of the hidden layer.

    Returns:
        E in nats, summed over the time axis and all batch axes.

    Raises:
        ValueError: if an argument has the wrong shape, an index is out of range, or a
            number is not finite; the message names the argument.
    """
    states = hidden_states(params, words, s_init, activation)
    targets = check_targets(targets, states.shape[:-1], len(params.V))
    targets = targets.reshape(-1).astype(np.intp)
    classes = check_classes(params, classes)
    rows = states.reshape(-1, states.shape[-1])
    of_class = summed_cost(log_softmax(rows @ classes.Q.T), classes.of(targets))
    of_word = _WordErrors(params.V, classes, rows, targets).costs
    return float(of_class) + float(of_word.sum(dtype=np.float64))


class ClassLayer:
    """Q^T e_c + V^T e_w, :eq:`eq-class-sent`, and :eq:`eq-class-gradient`, for many
    rows at once: an `Output` of `ChunkLearner`.

    Args:
        V: output weights, shape (N, H), C order; changed by what learns.
        rows: the most rows that states will have.
        pool: the threads that share the work.
        classes: the classes; their Q is changed by what learns.

    Attributes:
        sums: what AdaGrad remembers of each row of V and of Q, (N, 1) and (C, 1).
    """

    def __init__(
        self, V: NDArray[Any], rows: int, pool: Pool, classes: Classes
    ) -> None:
        self.V, self._classes, self._scale = V, classes, 0.0
        self._top = OutputLayer(classes.Q, rows, pool, stripes=1)
        self.sums = [np.zeros_like(V[:, :1]), *self._top.sums]
        self._words: _WordErrors | None = None

    @property
    def gradient(self) -> NDArray[Any]:
        """Scale times dE/dV, after `backward`; 0 for the classes without a target."""
        assert self._words
        gradient = np.zeros_like(self.V)
        for rows, g in self._words.gradients(self._scale):
            gradient[rows] = g
        return gradient

    @property
    def class_gradient(self) -> NDArray[Any]:
        """Scale times dE/dQ, after `backward`."""
        return self._top.gradient

    def forward(
        self, states: NDArray[Any], targets: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """What each row costs, and Q^T e_c + V^T e_w for each."""
        costs, sent = self._top.forward(states, self._classes.of(targets))
        self._words = words = _WordErrors(self.V, self._classes, states, targets)
        return costs + words.costs, sent + words.sent()

    def backward(self, states: NDArray[Any], scale: float) -> list[Callable[[], float]]:
        """Tasks that return sums of squares of scale times the gradient."""
        words, self._scale = self._words, scale
        assert words
        # a product, since a power that overflows raises OverflowError
        return [
            lambda: scale * scale * words.square(),
            *self._top.backward(states, scale),
        ]

    def descend(
        self, factor: float, alpha: float | None = None
    ) -> list[Callable[[], None]]:
        """Tasks that subtract factor times the gradient from Q and V.

        With alpha they make a step of AdaGrad with factor times the gradient.
        """
        words, h = self._words, self.sums[0]
        assert words

        def step() -> None:
            for rows, g in words.gradients(factor * self._scale):
                if alpha is None:
                    self.V[rows] -= g
                else:
                    adagrad_update(self.V[rows], g, h[rows], alpha)

        return [step, *self._top.descend(factor, alpha)]
