"""Diagnosis: what is wrong with a gradient.

Exported from book/10_diagnosis.ipynb. Edit that chapter, then run `make export`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from textwrap import wrap
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bptt import bptt
from .cross_entropy import check_targets, output_error
from .gradient_check import gradient_error
from .gradient_u import gradient_u
from .gradient_v import gradient_v
from .gradient_w import gradient_w
from .hidden_state import (
    Activation,
    Parameters,
    check_array,
    check_parameters,
    hidden_states,
    sigmoid,
    tanh,
)
from .softmax import outputs

__all__ = [
    "Backward",
    "CLASSIC_MISTAKES",
    "GradientReport",
    "Mistake",
    "SEEN_BY",
    "TOLERANCES",
    "check_gradient",
    "classic_mistakes",
    "factor_name",
    "faulty_gradient",
    "fitted_factor",
    "gradient_cosine",
]


def gradient_cosine(given: ArrayLike, true: ArrayLike) -> float:
    """The cosine <given, true> / (|given| |true|), :eq:`eq-gradient-cosine`.

    Args:
        given: a gradient, real, any shape.
        true: another of as many elements.

    Returns:
        From -1 to 1; 0 if one of the two is exactly zero, which points nowhere.
    """
    given, true = np.ravel(given), np.ravel(true)
    lengths = np.linalg.norm(given) * np.linalg.norm(true)
    return float(np.clip(given @ true / lengths, -1, 1)) if lengths > 0 else 0.0


def fitted_factor(given: ArrayLike, candidate: ArrayLike) -> float:
    """The factor <given, candidate> / <candidate, candidate>, :eq:`eq-fitted-factor`.

    Args:
        given: the gradient to be explained, real, any shape.
        candidate: the gradient that is to explain it, of as many elements.

    Returns:
        The c that makes the sum of squares of given - c candidate least; 0 for a
        candidate that is exactly zero.
    """
    given, candidate = np.ravel(given), np.ravel(candidate)
    square = candidate @ candidate
    return float(given @ candidate / square) if square > 0 else 0.0


class Backward(NamedTuple):
    """The switches of a backward pass: as they stand the pass is right.

    Attributes:
        start: the s(-1) that the forward pass begins with: "s(-1)" as given, or "0".
        output: e_o: "d - y", "w - y", "1 - y", "target only", "J (d - y)" or
            "y (1 - y) (d - y)".
        errors: the steps whose e_o counts: "all", "not last" or "only last".
        terms: the steps whose terms the sums take in: "all", "not last" or "not first".
        through: what V^T e_o is computed with: "V", or "update", the gradient step made
            for V.
        slope: the slope: "f'" written with the state, "f'(s)" taken at the state as if
            it were the pre-activation, or "tanh" or "sigmoid", of that activation.
        slope_e: the step, counted from t, whose slope e_h(t) takes; None leaves the
            slope out.
        slope_r: the same for the error that the recursion brings to step t.
        recursion: the matrix that sends the error back: "W^T" or "W".
        own: what becomes of e_h(t) when the error of t+1 arrives: "added",
            "overwritten", or "again": the sums so made are sent back once more.
        tau: how many steps each error is sent back at most; None for all.
        chunk: the error does not cross multiples of so many steps; None for no such
            border.
        previous: the state in dW: "s(t-1)", "s(t)", "0, s(0), .." or
            "s(T-1), s(0), ..".
        column: the column of dU that step t adds to: "w", "d", or "w, once" where a
            repeated word keeps the last.
        transposed: whether dW is transposed.
        penalty: whether the parameters themselves stand in for the gradient (L2
            penalty).
        clip: whether large elements are cut.
    """

    start: str = "s(-1)"
    output: str = "d - y"
    errors: str = "all"
    terms: str = "all"
    through: str = "V"
    slope: str = "f'"
    slope_e: int | None = 0
    slope_r: int | None = 0
    recursion: str = "W^T"
    own: str = "added"
    tau: int | None = None
    chunk: int | None = None
    previous: str = "s(t-1)"
    column: str = "w"
    transposed: bool = False
    penalty: bool = False
    clip: bool = False

    @property
    def added(self) -> bool:
        """Whether the pass computes a part to be added to the right gradient."""
        return self.penalty or self.through != "V"


@dataclass(frozen=True)
class _Problem:
    """A text and a network; `kept` keeps what the backward passes can share."""

    params: Parameters
    words: NDArray[Any]
    targets: NDArray[Any]
    first: NDArray[Any]  # s(-1), shape (..., H)
    activation: Activation
    labels: NDArray[Any]  # sorted: whose columns of dU and rows of dV are computed
    kept: dict[tuple[str, ...], NDArray[Any]]


def _states(problem: _Problem, how: Backward) -> NDArray[Any]:
    """s(-1), s(0), .. s(T-1), shape (T+1, ..., H)."""
    key = (how.start,)
    if key not in problem.kept:
        first = problem.first if how.start == "s(-1)" else np.zeros_like(problem.first)
        states = hidden_states(problem.params, problem.words, first, problem.activation)
        problem.kept[key] = np.concatenate([first[np.newaxis], states])
    return problem.kept[key]


def _output_error(problem: _Problem, how: Backward) -> NDArray[Any]:
    """e_o(t), shape (T, ..., N)."""
    y = outputs(problem.params, _states(problem, how)[1:])
    error = output_error(y, problem.words if how.output == "w - y" else problem.targets)
    if how.output == "1 - y":
        error = np.subtract(1, y)
    elif how.output == "target only":
        error = np.where(error > 0, error, 0)
    elif how.output == "y (1 - y) (d - y)":
        error *= y * (1 - y)
    elif how.output == "J (d - y)":
        error = y * (error - (y * error).sum(axis=-1, keepdims=True))
    return error


def _arriving(problem: _Problem, how: Backward) -> NDArray[Any]:
    """V^T e_o(t), shape (T, ..., H)."""
    key = how.start, how.output, how.through
    if key not in problem.kept:
        e_o, V = _output_error(problem, how), problem.params.V
        if how.through == "update":
            V = -gradient_v(e_o, _states(problem, how)[1:])
        problem.kept[key] = np.matmul(e_o, V)
    return problem.kept[key]


def _slopes(problem: _Problem, how: Backward, shift: int | None) -> NDArray[Any]:
    """The slopes at s(t + shift), t = 0 .. T-1, shape (T, ..., H); 1 for shift None."""
    states = _states(problem, how)
    if shift is None:
        return np.ones_like(states[1:])
    f = {"sigmoid": sigmoid, "tanh": tanh}.get(how.slope, problem.activation)
    T = len(states) - 1
    at = states[np.minimum(np.arange(T) + 1 + shift, T)]  # s(t) stands at t + 1
    return f.slope(f(at) if how.slope == "f'(s)" else at)


def _chosen(problem: _Problem, which: str) -> NDArray[Any]:
    """True at the steps that are chosen, shape (T, 1, .., 1) to fit (T, ..., H)."""
    t, T = np.arange(len(problem.words)), len(problem.words)
    steps = {
        "all": t >= 0,
        "not first": t > 0,
        "not last": t < T - 1,
        "only last": t == T - 1,
    }
    chosen = steps[which]
    return np.expand_dims(chosen, tuple(range(1, 1 + problem.first.ndim)))


def _delta(problem: _Problem, how: Backward) -> NDArray[Any]:
    """All error that reaches the hidden layer at t, delta(t), shape (T, ..., H)."""
    e_h = _arriving(problem, how) * _slopes(problem, how, how.slope_e)
    e_h = e_h * _chosen(problem, how.errors)
    W = problem.params.W if how.recursion == "W^T" else problem.params.W.T
    slopes = _slopes(problem, how, how.slope_r)
    back = (
        _sent_back_once
        if how.tau is None or how.tau >= len(e_h) - 1
        else _sent_back_tau
    )
    delta = back(how, W, slopes, e_h)
    return back(how, W, slopes, delta) if how.own == "again" else delta


def _sent_back_once(
    how: Backward, W: NDArray[Any], slopes: NDArray[Any], e_h: NDArray[Any]
) -> NDArray[Any]:
    """The sums delta(t), in one pass backward; in rows, `delta @ W` is W^T delta."""
    delta = e_h.copy()
    for t in reversed(range(len(delta) - 1)):
        if how.chunk is None or (t + 1) % how.chunk != 0:
            sent = (delta[t + 1] @ W) * slopes[t]
            delta[t] = sent if how.own == "overwritten" else delta[t] + sent
    return delta


def _sent_back_tau(
    how: Backward, W: NDArray[Any], slopes: NDArray[Any], e_h: NDArray[Any]
) -> NDArray[Any]:
    """The sums delta(t), each error sent back how.tau steps at most."""
    delta, sent = e_h.copy(), e_h
    for k in range(1, (how.tau or 0) + 1):
        sent = (sent[1:] @ W) * slopes[:-k]
        delta[:-k] = sent if how.own == "overwritten" else delta[:-k] + sent
    return delta


def _sum_u(problem: _Problem, how: Backward, delta: NDArray[Any]) -> NDArray[Any]:
    """The columns of dE/dU that are wanted."""
    read = problem.targets if how.column == "d" else problem.words
    places = np.searchsorted(problem.labels, read)
    if how.column != "w, once":
        return gradient_u(delta, places, len(problem.labels))
    H = delta.shape[-1]
    gradient = np.zeros((len(problem.labels), H))
    gradient[places.ravel()] = -delta.reshape(
        -1, H
    )  # of equal places the last one stays
    return gradient.T


def _sum_w(problem: _Problem, how: Backward, delta: NDArray[Any]) -> NDArray[Any]:
    """The gradient dE/dW."""
    states = _states(problem, how)
    first = {"0, s(0), ..": 0 * states[:1], "s(T-1), s(0), ..": states[-1:]}
    previous = np.concatenate([first.get(how.previous, states[:1]), states[1:-1]])
    gradient = gradient_w(delta, states[1:] if how.previous == "s(t)" else previous)
    return gradient.T if how.transposed else gradient


def _wanted(problem: _Problem, matrices: Parameters) -> dict[str, NDArray[Any]]:
    """The columns of U and the rows of V that are wanted, and W."""
    U, W, V = matrices
    return {"U": U[:, problem.labels], "W": W, "V": V[problem.labels]}


def _candidate(problem: _Problem, how: Backward, name: str) -> NDArray[Any]:
    """What the pass computes for one matrix, as far as it is wanted."""
    if how.penalty:
        return _wanted(problem, problem.params)[name]
    chosen = _chosen(problem, how.terms)
    if name == "V":
        e_o = _output_error(problem, how)[..., problem.labels]
        return gradient_v(
            e_o * (chosen & _chosen(problem, how.errors)), _states(problem, how)[1:]
        )
    delta = _delta(problem, how) * chosen
    return _sum_u(problem, how, delta) if name == "U" else _sum_w(problem, how, delta)


class Mistake(NamedTuple):
    """A classic mistake: its name, what is right instead, the switches that make it.

    Attributes:
        name: what the report calls it.
        remedy: what to do, a clause.
        changes: fields of `Backward` and their values.
    """

    name: str
    remedy: str
    changes: dict[str, Any]


CLASSIC_MISTAKES = (
    Mistake(
        "the input word taken for the target",
        "the 1 of e_o(t) = d(t) - y(t) belongs to the next word d(t), not to w(t)",
        {"output": "w - y"},
    ),
    Mistake(
        "1 subtracted from every output",
        "e_o = d - y has a 1 at the target only",
        {"output": "1 - y"},
    ),
    Mistake(
        "the error of the target only",
        "every word errs: e_o(t) = d(t) - y(t) is -y_m(t) at all the others",
        {"output": "target only"},
    ),
    Mistake(
        "y (1 - y) multiplied into e_o",
        "the softmax's slope is in e_o = d - y already",
        {"output": "y (1 - y) (d - y)"},
    ),
    Mistake(
        "the squared error's gradient",
        "cross-entropy has e_o = d - y, without the softmax's Jacobian before it",
        {"output": "J (d - y)"},
    ),
    Mistake(
        "s(-1) taken as zero",
        "begin the forward pass with the s_init that E was computed with",
        {"start": "0"},
    ),
    Mistake(
        "the last step left out",
        "begin the loop at t = T-1: its error counts, and goes back to the others",
        {"errors": "not last"},
    ),
    Mistake(
        "the last step left out of the sums",
        "its error was sent back, but its own terms are missing: sum over t = 0 .. T-1",
        {"terms": "not last"},
    ),
    Mistake(
        "the first step left out",
        "let the loop reach t = 0: range(T - 1, -1, -1)",
        {"terms": "not first"},
    ),
    Mistake(
        "only the last prediction counted",
        "each step predicts, so e_o(t) counts for every t",
        {"errors": "only last"},
    ),
    Mistake(
        "the error sent through V after its update",
        "compute all gradients first, then update",
        {"through": "update"},
    ),
    Mistake(
        "the slope forgotten in e_h",
        "e_h(t) = f'(t) * V^T e_o(t), element by element",
        {"slope_e": None},
    ),
    Mistake(
        "the slope forgotten in the recursion",
        "multiply W^T delta(t+1) by the slope at step t",
        {"slope_r": None},
    ),
    Mistake(
        "the slope forgotten",
        "multiply V^T e_o(t) + W^T delta(t+1) by the slope at step t",
        {"slope_e": None, "slope_r": None},
    ),
    Mistake(
        "the slope of s(t-1) in e_h",
        "e_h(t) takes the slope at s(t)",
        {"slope_e": -1},
    ),
    Mistake(
        "the slope of s(t+1) in e_h",
        "e_h(t) takes the slope at s(t)",
        {"slope_e": 1},
    ),
    Mistake(
        "the slope of s(t-1) in the recursion",
        "the error that arrives at step t takes the slope at s(t)",
        {"slope_r": -1},
    ),
    Mistake(
        "the slope of s(t+1) in the recursion",
        "the error that arrives at step t takes the slope at s(t), where it arrives",
        {"slope_r": 1},
    ),
    Mistake(
        "the slope of s(t-1) throughout",
        "step t takes the slope at s(t)",
        {"slope_e": -1, "slope_r": -1},
    ),
    Mistake(
        "the slope of s(t+1) throughout",
        "step t takes the slope at s(t)",
        {"slope_e": 1, "slope_r": 1},
    ),
    Mistake(
        "the slope taken at s instead of z",
        "f' is written with the state: do not apply f once more",
        {"slope": "f'(s)"},
    ),
    Mistake(
        "W for W^T",
        "the error goes back through W^T: delta @ W in rows, W.T @ delta in columns",
        {"recursion": "W"},
    ),
    Mistake(
        "the step's own error overwritten",
        "add e_h(t) to what arrives from t+1: delta(t) is the sum of both",
        {"own": "overwritten"},
    ),
    Mistake(
        "the error sent back again",
        "delta(t) holds all later errors: send it back once, or each e_h by itself",
        {"own": "again"},
    ),
    Mistake(
        "s(t) for s(t-1) in dE/dW",
        "W multiplies s(t-1): sum delta(t) s(t-1)^T",
        {"previous": "s(t)"},
    ),
    Mistake(
        "s(-1) taken as zero in dE/dW",
        "the term of t = 0 is delta(0) s(-1)^T",
        {"previous": "0, s(0), .."},
    ),
    Mistake(
        "the last state taken for s(-1)",
        "states[t - 1] is the last state at t = 0: put s(-1) before the states",
        {"previous": "s(T-1), s(0), .."},
    ),
    Mistake(
        "dE/dW transposed",
        "the error makes the rows, the state the columns: delta(t) s(t-1)^T",
        {"transposed": True},
    ),
    Mistake(
        "the targets' columns in dE/dU",
        "delta(t) belongs to the column of the word read, w(t)",
        {"column": "d"},
    ),
    Mistake(
        "a repeated word counted once in dE/dU",
        "dU[:, words] -= .. keeps one term for each word: use np.subtract.at",
        {"column": "w, once"},
    ),
    Mistake(
        "an L2 penalty added",
        "its gradient is beta times the parameters; the loss of this book has none",
        {"penalty": True},
    ),
    Mistake(
        "large elements clipped",
        "check the gradient before it is clipped",
        {"clip": True},
    ),
)


def classic_mistakes(
    T: int, tau: int | None = None, activation: Activation = sigmoid
) -> list[Mistake]:
    """The mistakes that can be made on T steps: the classic ones, those with a number.

    Args:
        T: the number of steps.
        tau: how many steps each error should be sent back at most; None for all.
        activation: f of the hidden layer.

    Returns:
        `CLASSIC_MISTAKES`, the slope of another activation, and the truncations to
        other than tau steps and to chunks, up to 64 steps.
    """
    found = list(CLASSIC_MISTAKES)
    for name, other in {"sigmoid": sigmoid, "tanh": tanh}.items():
        if other is not activation:
            remedy = f"the network computes {activation}: take its own slope"
            found.append(Mistake(f"the slope of {name}", remedy, {"slope": name}))
    whole = tau is None or tau >= T - 1
    wanted = "all the way" if whole else f"{tau} step{'s' * (tau != 1)}"
    if not whole:
        found.append(
            Mistake("not truncated", f"tau = {tau} was asked for", {"tau": None})
        )
    for k in range(min(T - 1, 64)):
        if k != tau:
            remedy = f"send each error back {wanted}"
            found.append(Mistake(f"truncated at tau = {k}", remedy, {"tau": k}))
    for k in range(2, min(T, 64)):
        changes = {"tau": None, "chunk": k}
        remedy = f"send each error back {wanted}, across the borders too"
        found.append(Mistake(f"cut into chunks of {k} steps", remedy, changes))
    return found


def faulty_gradient(
    params: Parameters,
    words: ArrayLike,
    targets: ArrayLike,
    mistake: Mistake,
    s_init: ArrayLike | None = None,
    tau: int | None = None,
    activation: Activation = sigmoid,
    amount: float = 0.1,
) -> Parameters:
    """What somebody computes who makes the mistake, otherwise as `bptt` does.

    Args:
        params: the parameters U (H, N), W (H, H), V (N, H).
        words: the input words w(t) as indices, shape (T, ...).
        targets: the words d(t) that follow them, the same shape.
        mistake: one of `classic_mistakes`, or one of your own.
        s_init: s(-1), shape (H,) or (..., H); zeros unless given.
        tau: how many steps each error is sent back at most; None for all.
        activation: f of the hidden layer.
        amount: the learning rate of a V updated too early, the factor of a penalty, the
            part of the largest element that clipping cuts off.

    Returns:
        The faulty gradient, in float64.

    Raises:
        ValueError: as `bptt`.
    """
    params = _in_float64(params)
    problem = _problem(params, words, targets, s_init, activation)
    check_targets(problem.targets, problem.words.shape, len(params.V))
    right = Backward(tau=tau)
    how = right._replace(**mistake.changes)
    found = []
    for name in params._fields:
        gradient = _candidate(problem, right if how.added else how, name)
        if how.added and _seen_by(how, name) != _seen_by(right, name):
            gradient = gradient + amount * _candidate(problem, how, name)
        if how.clip:
            limit = (1 - amount) * np.abs(gradient).max()
            gradient = np.clip(gradient, -limit, limit)
        found.append(gradient)
    return Parameters(*found)


def _problem(
    params: Parameters,
    words: ArrayLike,
    targets: ArrayLike,
    s_init: ArrayLike | None,
    activation: Activation,
    labels: NDArray[Any] | None = None,
) -> _Problem:
    """The arguments as the backward passes take them."""
    H, N = params.U.shape
    words, targets = np.asarray(words), np.asarray(targets)
    first = np.zeros(H) if s_init is None else check_array("s_init", s_init, (H,))
    first = np.broadcast_to(first.astype(np.float64), (*words.shape[1:], H))
    labels = np.arange(N) if labels is None else labels
    return _Problem(params, words, targets, first, activation, labels, {})


def _in_float64(params: Parameters) -> Parameters:
    """The parameters as real numbers in float64."""
    params = check_parameters(params)
    for name, matrix in params._asdict().items():
        if matrix.dtype.kind == "c":
            raise ValueError(f"params.{name} is complex: expected real numbers")
    return Parameters(*(np.asarray(matrix, np.float64) for matrix in params))


SEEN_BY = {
    "U": set(Backward._fields) - {"previous", "transposed"},
    "W": set(Backward._fields) - {"column"},
    "V": {"start", "output", "errors", "terms", "penalty", "clip"},
}


def _seen_by(how: Backward, name: str) -> Backward:
    """The switches that matter to one matrix; the others as they stand."""
    switches = how._asdict()
    return Backward(**{switch: switches[switch] for switch in SEEN_BY[name]})


@dataclass(frozen=True)
class _Evidence:
    """A given gradient beside the right one; `fits` keeps the fits tried so far."""

    problem: _Problem
    right: Backward
    family: list[Mistake]
    given: dict[str, NDArray[Any]]
    true: dict[str, NDArray[Any]]
    errors: dict[str, float]
    angles: dict[str, float]  # between given and right, in degrees
    tolerance: float
    fits: dict[tuple[Backward, str], float | None]

    @property
    def wrong(self) -> list[str]:
        """The matrices whose gradient is not right."""
        return [
            name for name, error in self.errors.items() if not error <= self.tolerance
        ]


def _fit(evidence: _Evidence, how: Backward, name: str) -> float | None:
    """The amount of a pass that explains what was given for one matrix, or None."""
    how = _seen_by(how, name)
    if (how, name) not in evidence.fits:
        given, allowed = evidence.given[name], evidence.errors[name] / 10
        found = None
        for c, explained in _guesses(evidence, how, name):
            if gradient_error(explained, given) <= min(allowed, evidence.tolerance):
                found = c
                break
        evidence.fits[how, name] = found
    return evidence.fits[how, name]


def _guesses(
    evidence: _Evidence, how: Backward, name: str
) -> Iterator[tuple[float, NDArray[Any]]]:
    """A pass's gradient for one matrix: as it is, then in the amount that fits best."""
    given, true = evidence.given[name], evidence.true[name]
    right = how == _seen_by(evidence.right, name)
    candidate = true if right or how.clip else _candidate(evidence.problem, how, name)
    if how.added:
        c = fitted_factor(given - true, candidate)
        yield c, true + c * candidate
        return
    if how.clip:
        limit = np.abs(given).max() or np.inf
        candidate = np.clip(candidate, -limit, limit)
    yield 1.0, candidate
    c = fitted_factor(given, candidate)
    if right or (
        c != 0 and np.count_nonzero(candidate) > 1
    ):  # one number fits anything
        yield c, c * candidate


class _Explanation(NamedTuple):
    """Mistakes that explain the gradients of some matrices, each in some amount."""

    mistakes: tuple[Mistake, ...]
    amounts: dict[str, float]
    cost: (
        int  # how much it assumes: a mistake, a factor, a matrix spared by the mistake
    )

    @property
    def changes(self) -> set[tuple[str, Any]]:
        """The switches turned, and how."""
        return {
            change for mistake in self.mistakes for change in mistake.changes.items()
        }


def _explanations(evidence: _Evidence, names: list[str]) -> list[_Explanation]:
    """The simplest explanations of the gradients given for these matrices."""
    singles: list[tuple[Mistake, ...]] = [
        (),
        *((mistake,) for mistake in evidence.family),
    ]
    found = list(_tried(evidence, names, singles))
    if min((each.cost for each in found), default=3) > 2:
        found += _tried(evidence, names, _pairs(evidence, names))
    least = min((each.cost for each in found), default=0)
    best = [each for each in found if each.cost == least]
    return [
        each for each in best if not any(other.changes < each.changes for other in best)
    ]


def _tried(
    evidence: _Evidence, names: list[str], suspects: Iterable[tuple[Mistake, ...]]
) -> Iterator[_Explanation]:
    """Those of the suspects that explain the gradients of all these matrices."""
    for mistakes in suspects:
        how = evidence.right
        for mistake in mistakes:
            how = how._replace(**mistake.changes)
        if mistakes and all(
            _seen_by(how, n) == _seen_by(evidence.right, n) for n in names
        ):
            continue
        amounts = {}
        for name in names:
            c = _fit(evidence, how, name)
            if c is None:
                break
            amounts[name] = c
        else:
            yield _Explanation(
                mistakes, amounts, _cost(evidence, how, mistakes, amounts)
            )


def _cost(
    evidence: _Evidence,
    how: Backward,
    mistakes: tuple[Mistake, ...],
    amounts: dict[str, float],
) -> int:
    """How many assumptions: mistakes, different factors, a matrix spared."""
    factors = {f"{c:.6g}" for c in amounts.values()} - {"1"}
    cost = len(mistakes) + len(factors) - (how.added and len(factors) > 0)
    for name in set(evidence.given) - set(evidence.wrong):
        seen = _seen_by(how, name)
        if seen != _seen_by(evidence.right, name) and not (how.added or how.clip):
            candidate = _candidate(evidence.problem, seen, name)
            if gradient_error(candidate, evidence.true[name]) > evidence.tolerance:
                return cost + 1
    return cost


def _pairs(evidence: _Evidence, names: list[str]) -> Iterator[tuple[Mistake, Mistake]]:
    """Pairs of mistakes, one of which explains a matrix by itself, if any does."""
    alone = [
        m for m in evidence.family if not evidence.right._replace(**m.changes).added
    ]
    lead = {
        m.name
        for m in alone
        if any(
            _fit(evidence, evidence.right._replace(**m.changes), n) is not None
            for n in names
        )
    }
    for one, other in combinations(alone if lead else alone[:50], 2):
        together = not one.changes.keys() & other.changes.keys()
        if together and (not lead or one.name in lead or other.name in lead):
            yield one, other


def factor_name(c: float, T: int, B: int = 1) -> str:
    """What a constant factor means, in words.

    Args:
        c: the factor, given = c times right.
        T: the number of steps.
        B: the number of sequences.

    Returns:
        A clause, "0.2 times what it should be: the mean over the T = 5 steps, not the
        sum"; empty for a factor of 1.
    """
    if c == 1:
        return ""
    if c == 0:
        return "all zero: nothing was added up"
    known = {
        2.0: "counted twice",
        0.5: "halved",
        1 / np.log(2): "in bits, not in nats",
        1 / (T * B): f"the mean over the {T * B} words, not the sum",
        1 / B: f"the mean over the {B} sequences, not the sum",
        1 / T: f"the mean over the T = {T} steps, not the sum",
        1.0: "",  # for -1, and for the mean over one
    }
    named = [
        text for value, text in known.items() if np.isclose(abs(c), value, rtol=1e-5)
    ]
    sign = ["the sign reversed (e_o and delta are minus a derivative)"] if c < 0 else []
    if c < 0 and not named:
        sign = [f"an update, -alpha dE with alpha = {-c:.6g}, not the gradient"]
    text = ", ".join(sign + [text for text in named if text]) or "a constant factor"
    return f"{c:.6g} times what it should be: {text}"


def _diagnosis(evidence: _Evidence) -> str:
    """What is probably wrong, in lines."""
    groups = [evidence.wrong]
    if not _explanations(evidence, evidence.wrong):
        groups = [[name] for name in evidence.wrong]
    lines = []
    for names in groups:
        texts = [_sentence(evidence, each) for each in _explanations(evidence, names)]
        texts = texts or [_no_match(evidence, name) for name in names]
        head = "Probably, in " + " and ".join(f"dE/d{name}" for name in names)
        if len(texts) > 1:
            head += f", one of these {len(texts)}, which fit equally well"
        lines.append(head + ":")
        for text in texts:
            lines += wrap(f"- {text}", 79, subsequent_indent="  ")
    return "\n".join(lines)


def _sentence(evidence: _Evidence, found: _Explanation) -> str:
    """An explanation in words."""
    T, B = len(evidence.problem.words), evidence.problem.words[0].size
    parts = [f"{mistake.name} ({mistake.remedy})" for mistake in found.mistakes]
    added = any(
        {"through", "penalty"} & mistake.changes.keys() for mistake in found.mistakes
    )
    groups: dict[str, list[str]] = {}
    for name, c in found.amounts.items():
        groups.setdefault(f"{c:.6g}", []).append(f"dE/d{name}")
    for shown, where in groups.items():
        text = f"with the factor {shown}" if added else factor_name(float(shown), T, B)
        if text:
            parts.append(
                text if len(groups) == 1 else f"in {' and '.join(where)} {text}"
            )
    return "; ".join(parts) + "."


def _no_match(evidence: _Evidence, name: str) -> str:
    """What can be said where no mistake of the family fits."""
    if evidence.errors[name] < 1e-4:
        return (
            "no known mistake. So small an error comes from float32 arithmetic, from "
            "finite differences, or from a term small on this problem."
        )
    angle = f"{evidence.angles[name]:.3g} degrees"
    return f"no known mistake. It points {angle} away from the right gradient."


def _notes(evidence: _Evidence) -> Iterator[str]:
    """What the problem cannot show, whatever was given."""
    problem, H = evidence.problem, len(evidence.problem.params.W)
    W, words = problem.params.W, problem.words
    for name, true in evidence.true.items():
        if not true.any():
            yield f"the right dE/d{name} is exactly zero, so nothing of it was tested"
    if len(words) < 3:
        yield f"T = {len(words)} hides mistakes that need three steps; take T >= 3"
    elif evidence.right.tau != 0 and _unseen(evidence):
        yield "hardly anything comes back through W, so no mistake in it can show"
    silent = np.flatnonzero(
        [not step.any() for step in _delta(problem, evidence.right)]
    )
    if silent.size:
        steps = ", ".join(map(str, silent[:5])) + ", .." * (silent.size > 5)
        yield f"no error reaches the hidden layer at t = {steps}"
    if not problem.first.any():
        yield (
            "s(-1) = 0, which hides a state taken as zero, and mistakes that only the "
            "term of t = 0 in dE/dW would show; give an s_init"
        )
    if H == 1:
        yield "H = 1: W is one number, so it cannot show a transposition"
    elif (W == W.T).all():
        yield "W is symmetric, so W for W^T cannot show"
    if len(np.unique(words)) == words.size:
        yield "no word is read twice, so a repeated word counted once cannot show"
    if (words == problem.targets).all():
        yield "words and targets are equal, so one taken for the other cannot show"


def _unseen(evidence: _Evidence) -> bool:
    """Whether delta is e_h, as far as the tolerance sees."""
    delta = _delta(evidence.problem, evidence.right)
    e_h = _delta(evidence.problem, evidence.right._replace(tau=0))
    return gradient_error(e_h, delta) <= evidence.tolerance


TOLERANCES = {"float32": 1e-4, "float64": 1e-9}


def _given(
    gradient: Parameters | tuple[ArrayLike, ArrayLike, ArrayLike], params: Parameters
) -> tuple[Parameters, float]:
    """The gradient to be judged, in float64, and the tolerance of its own type."""
    parts = tuple(gradient)
    if len(parts) != 3:
        raise ValueError(
            f"gradient holds {len(parts)} arrays: expected three, of U, W and V"
        )
    _check_shapes(parts, [matrix.shape for matrix in params])
    tolerance, checked = TOLERANCES["float64"], []
    for name, part, matrix in zip("UWV", parts, params, strict=True):
        array = check_array(f"gradient.{name}", part, matrix.shape)
        if array.dtype.kind == "c" or array.dtype.itemsize < 4:
            raise ValueError(
                f"gradient.{name} is {array.dtype}: expected float32 or float64"
            )
        tolerance = max(tolerance, TOLERANCES.get(str(array.dtype), 0.0))
        checked.append(array.astype(np.float64))
    return Parameters(*checked), tolerance


def _check_shapes(
    parts: tuple[ArrayLike, ...], expected: list[tuple[int, ...]]
) -> None:
    """Raise ValueError unless the gradients have the shapes of their matrices."""
    came = []
    for name, part in zip("UWV", parts, strict=True):
        try:
            came.append(np.shape(part))
        except ValueError as error:
            raise ValueError(
                f"gradient.{name} has rows of different lengths"
            ) from error
    for name, shape, wanted in zip("UWV", came, expected, strict=True):
        hints = ["transposed?"] * (shape == wanted[::-1])
        hints += ["in the order U, W, V?"] * (sorted(came) == sorted(expected))
        hint = f" ({' '.join(hints)})" if hints else ""
        if shape != wanted:
            raise ValueError(
                f"gradient.{name} has shape {shape}: expected {wanted}{hint}"
            )


@dataclass(frozen=True)
class GradientReport:
    """What `check_gradient` found; `print` shows it.

    Attributes:
        ok: whether all three gradients are right.
        errors: max |given - true| / max |true| for each of "U", "W", "V".
        diagnosis: what is probably wrong; empty when all is right.
        notes: what the problem cannot show; they leave `ok` as it is.
        tolerance: the error up to which a gradient counts as right.
    """

    ok: bool
    errors: dict[str, float]
    diagnosis: str
    notes: tuple[str, ...]
    tolerance: float

    def __str__(self) -> str:
        lines = []
        for name, error in self.errors.items():
            shown = f"right, error below {self.tolerance:.0e}"
            if not error <= self.tolerance:
                shown = f"WRONG, error {error:.3g}"
            lines.append(f"dE/d{name}  {shown}")
        lines += self.diagnosis.splitlines()
        for note in self.notes:
            lines += wrap(f"Note: {note}.", 79, subsequent_indent="  ")
        return "\n".join(lines)

    __repr__ = __str__


def check_gradient(
    params: Parameters,
    words: ArrayLike,
    targets: ArrayLike,
    gradient: Parameters | tuple[ArrayLike, ArrayLike, ArrayLike],
    s_init: ArrayLike | None = None,
    tau: int | None = None,
    activation: Activation = sigmoid,
) -> GradientReport:
    """Whether a gradient is right, and if not, what is probably wrong.

    It is compared with `bptt`, by :eq:`eq-gradient-error`, and where it differs with
    what each of `classic_mistakes`, or two of them, would have made of it, by
    :eq:`eq-fitted-factor`.

    Args:
        params: the parameters U (H, N), W (H, H), V (N, H).
        words: the input words w(t) as indices, shape (T, ...).
        targets: the words d(t) that follow them, the same shape.
        gradient: dE/dU, dE/dW, dE/dV in this order, as `Parameters` or a plain triple.
            In float64 an error of 1e-9 passes, in float32 one of 1e-4.
        s_init: s(-1), shape (H,) or (..., H); zeros unless given.
        tau: how many steps each error should be sent back at most; None for all.
        activation: f of the hidden layer.

    Returns:
        A `GradientReport`.

    Raises:
        ValueError: if an argument has the wrong shape, an index that is none, or
            numbers that are not finite and real; the message names the argument, as
            `gradient.W`.
    """
    params = _in_float64(params)
    given, tolerance = _given(gradient, params)
    true = bptt(params, words, targets, s_init, tau, activation)[1]
    labels = _labels(np.append(words, targets), given, true)
    problem = _problem(params, words, targets, s_init, activation, labels)
    evidence = _evidence(problem, tau, given, true, tolerance)
    if not evidence.wrong:
        notes = tuple(_notes(evidence))
        return GradientReport(True, evidence.errors, "", notes, tolerance)
    noise = _noise(problem, tau, true, tolerance)
    if noise > tolerance:
        evidence = replace(evidence, tolerance=noise)
    diagnosis = _diagnosis(evidence) if evidence.wrong else _undecided(noise)
    return GradientReport(
        False, evidence.errors, diagnosis, tuple(_notes(evidence)), tolerance
    )


def _evidence(
    problem: _Problem,
    tau: int | None,
    given: Parameters,
    true: Parameters,
    tolerance: float,
) -> _Evidence:
    """The given and the right gradient side by side, as far as they are wanted."""
    T = len(problem.words)
    tau = None if tau is None or tau >= T - 1 else tau
    pairs = {name: (given[i], true[i]) for i, name in enumerate("UWV")}
    cosines = {name: gradient_cosine(*pair) for name, pair in pairs.items()}
    return _Evidence(
        problem=problem,
        right=Backward(tau=tau),
        family=classic_mistakes(T, tau, problem.activation),
        given=_wanted(problem, given),
        true=_wanted(problem, true),
        errors={name: gradient_error(*pair) for name, pair in pairs.items()},
        angles={name: float(np.degrees(np.arccos(c))) for name, c in cosines.items()},
        tolerance=tolerance,
        fits={},
    )


def _labels(read: NDArray[Any], given: Parameters, true: Parameters) -> NDArray[Any]:
    """The words to look at: those read or predicted, the worst, 256 others or more."""
    N = len(true.V)
    worst_u = np.abs(given.U - true.U).max(axis=0).argmax()
    worst_v = np.abs(given.V - true.V).max(axis=1).argmax()
    spread = np.arange(0, N, max(1, N // 256))
    return np.unique(np.concatenate([np.ravel(read), [worst_u, worst_v], spread]))


def _noise(
    problem: _Problem, tau: int | None, true: Parameters, tolerance: float
) -> float:
    """A hundred times what rounding the parameters does to the right gradient."""
    rounding = np.finfo(
        np.float64 if tolerance == TOLERANCES["float64"] else np.float32
    ).eps
    shaken = Parameters(*(matrix * (1 + rounding) for matrix in problem.params))
    first, activation = problem.first, problem.activation
    moved = bptt(shaken, problem.words, problem.targets, first, tau, activation)[1]
    return 100 * max(gradient_error(*pair) for pair in zip(moved, true, strict=True))


def _undecided(noise: float) -> str:
    """What to say where the problem is unfit to judge by."""
    text = (
        "This problem cannot tell right from wrong: rounding alone may move the right "
        f"gradient by {noise:.1g}. Check with a smaller W or fewer steps."
    )
    return "\n".join(wrap(text, 79))
