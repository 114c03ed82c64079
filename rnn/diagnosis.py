"""Diagnosis.

Exported from book/10_diagnosis.ipynb. Edit that chapter, then run `make export`.
"""

from dataclasses import dataclass
from textwrap import wrap
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bptt import bptt, total_error, truncated_error
from .cross_entropy import output_error
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
    "CLASSIC_MISTAKES",
    "GradientReport",
    "Mistake",
    "check_gradient",
    "faulty_gradient",
    "fitted_factor",
]


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


class Mistake(NamedTuple):
    """A mistake: its name, its remedy, and the switches that make it.

    Attributes:
        name: what the report calls it.
        remedy: what is right instead.
        s_init: "given", or "zero": the forward pass takes s(-1) as zero.
        left_out: the steps that the loop leaves out: (0,), or (-1,) for the last.
        updated: alpha, if V - alpha dE/dV stands for V in the hidden error.
        slope: "f'"; "f'(s)", taken at s instead of z; "sigmoid" or "tanh", its slope.
        direct: the step, counted from t, whose slope V^T e_o(t) takes; None for none.
        recurrent: the same for W^T delta(t+1).
        back: the matrix that sends the error back, "W^T" or "W".
        tau: how many steps each error is sent back; None for as many as it should be.
        previous: the states in dW: "s(t-1)", "s(t)", or "0, s(0), ..".
        transposed: whether dW is transposed.
        column: step t adds to this column of dU: "w(t)", "d(t)", or "w(t), once".
    """

    name: str = ""
    remedy: str = ""
    s_init: str = "given"
    left_out: tuple[int, ...] = ()
    updated: float = 0.0
    slope: str = "f'"
    direct: int | None = 0
    recurrent: int | None = 0
    back: str = "W^T"
    tau: int | None = None
    previous: str = "s(t-1)"
    transposed: bool = False
    column: str = "w(t)"


class _Forward(NamedTuple):
    """What a backward pass starts from."""

    params: Parameters
    words: NDArray[Any]
    targets: NDArray[Any]
    tau: int | None
    activation: Activation
    states: NDArray[Any]  # s(-1), s(0), .. s(T-1), shape (T+1, ..., H)
    e_o: NDArray[Any]  # d(t) - y(t), shape (T, ..., N)
    through_v: NDArray[Any]  # V^T e_o(t), shape (T, ..., H)


def _forward(
    params: Parameters,
    words: ArrayLike,
    targets: ArrayLike,
    s_init: ArrayLike | None,
    tau: int | None,
    f: Activation,
) -> _Forward:
    """The forward pass, to V^T e_o(t)."""
    states = hidden_states(params, words, s_init, f)
    e_o = output_error(outputs(params, states), targets)
    through_v, words, targets = e_o @ params.V, np.asarray(words), np.asarray(targets)
    first = np.zeros_like(states[:1])
    first[:] = 0 if s_init is None else s_init
    states = np.concatenate([first, states])
    return _Forward(params, words, targets, tau, f, states, e_o, through_v)


def _backward(forward: _Forward, mistake: Mistake, name: str) -> NDArray[Any]:
    """dE/dU, dE/dW or dE/dV, as a program with a mistake computes it."""
    params, words, targets, tau, f, states, e_o, error = forward
    left_out = list(mistake.left_out)
    if name == "V":
        e_o = e_o.copy()
        e_o[left_out] = 0
        return gradient_v(e_o, states[1:])
    if mistake.updated:
        error = error - e_o @ (mistake.updated * gradient_v(e_o, states[1:]))
    f = {"sigmoid": sigmoid, "tanh": tanh}.get(mistake.slope, f)
    slopes = f.slope(f(states) if mistake.slope == "f'(s)" else states)
    e_h = error * _at_step(slopes, mistake.direct)
    e_h[left_out] = 0
    if mistake.back == "W":
        params = params._replace(W=params.W.T)
    slopes = _at_step(slopes, mistake.recurrent)
    tau = tau if mistake.tau is None else mistake.tau
    if tau is None:
        delta = total_error(params, e_h, slopes)
    else:
        delta = truncated_error(params, e_h, slopes, tau)
    delta[left_out] = 0
    if name == "W":
        previous = (states[1:] if mistake.previous == "s(t)" else states[:-1]).copy()
        previous[0] *= mistake.previous != "0, s(0), .."
        dW = gradient_w(delta, previous)
        return dW.T if mistake.transposed else dW
    read, N = (targets if mistake.column == "d(t)" else words), len(params.V)
    dU = gradient_u(delta, read, N)
    if mistake.column == "w(t), once":
        dU[:, read.ravel()] = -delta.reshape(-1, len(dU)).T
    return dU


def _at_step(slopes: NDArray[Any], shift: int | None) -> NDArray[Any]:
    """The slopes of the steps t + shift, t = 0 .. T-1; 1 if there is no shift."""
    if shift is None:
        return np.ones_like(slopes[1:])
    return slopes[np.minimum(np.arange(1, len(slopes)) + shift, len(slopes) - 1)]


def faulty_gradient(
    params: Parameters,
    words: ArrayLike,
    targets: ArrayLike,
    mistake: Mistake,
    s_init: ArrayLike | None = None,
    tau: int | None = None,
    activation: Activation = sigmoid,
) -> Parameters:
    """The gradient as a program with a mistake computes it.

    Takes the arguments of `bptt`, and the mistake, `Mistake()` for none. Returns dE/dU,
    dE/dW and dE/dV as `Parameters`; raises ValueError for what `bptt` refuses.
    """
    start = None if mistake.s_init == "zero" else s_init
    forward = _forward(params, words, targets, start, tau, activation)
    return Parameters(*(_backward(forward, mistake, name) for name in "UWV"))


CLASSIC_MISTAKES = (
    Mistake("W for W^T", "W^T sends back: W.T @ delta, in rows delta @ W", back="W"),
    Mistake("slope forgotten in e_h", "e_h(t) = f'(t) * V^T e_o(t)", direct=None),
    Mistake("slope forgotten in W^T delta", "f'(t) * W^T delta(t+1)", recurrent=None),
    Mistake(
        "slope forgotten", "f'(t) * (V^T e_o(t) + ..)", direct=None, recurrent=None
    ),
    Mistake("slope of step t-1", "t takes the slope at s(t)", direct=-1, recurrent=-1),
    Mistake("slope of step t+1", "t takes the slope at s(t)", direct=1, recurrent=1),
    Mistake("slope of step t+1 in W^T delta", "f'(t) * W^T delta(t+1)", recurrent=1),
    Mistake("slope taken at s, not z", "f' is written with s already", slope="f'(s)"),
    Mistake("slope of sigmoid", "take the slope of your f", slope="sigmoid"),
    Mistake("slope of tanh", "take the slope of your f", slope="tanh"),
    Mistake("V after its update", "compute all gradients, then update", updated=1.0),
    Mistake("last step left out", "begin the loop at t = T-1", left_out=(-1,)),
    Mistake("first step left out", "let the loop reach t = 0", left_out=(0,)),
    Mistake("s(-1) taken as zero", "begin the forward pass with s_init", s_init="zero"),
    Mistake("s(-1) taken as zero in dW", "s(-1) is s_init", previous="0, s(0), .."),
    Mistake("s(t) for s(t-1) in dW", "W multiplies s(t-1)", previous="s(t)"),
    Mistake("dW transposed", "rows for delta, columns for s(t-1)", transposed=True),
    Mistake("targets for inputs in dU", "U multiplies w(t), not d(t)", column="d(t)"),
    Mistake("word counted once in dU", "use np.subtract.at", column="w(t), once"),
)


def _family(T: int, tau: int | None) -> list[Mistake]:
    """No mistake, the classic ones, and all wrong truncations."""
    right = T - 1 if tau is None else min(tau, T - 1)
    names = [f"truncated at tau = {k}" for k in range(T - 1)] + ["not truncated"]
    remedy = f"send each error back {right} steps"
    wrong = [Mistake(name, remedy, tau=k) for k, name in enumerate(names) if k != right]
    return [Mistake(), *CLASSIC_MISTAKES, *wrong]


class _Case(NamedTuple):
    """A given gradient beside the right one, by matrix, and what candidates need."""

    given: dict[str, NDArray[Any]]
    true: dict[str, NDArray[Any]]
    errors: dict[str, float]
    tolerance: float
    columns: NDArray[Any]  # of U, all others are zero in all gradients
    forward: dict[str, _Forward]  # by the switch s_init


def _candidate(case: _Case, mistake: Mistake, name: str) -> NDArray[Any]:
    """The gradient with a mistake; infinite if the pass overflows."""
    try:
        found = _backward(case.forward[mistake.s_init], mistake, name)
    except ValueError:
        return np.full_like(case.true[name], np.inf)
    return found[:, case.columns] if name == "U" else found


def _near(given: NDArray[Any], true: NDArray[Any], tolerance: float) -> bool:
    """Whether the error of a gradient is within the tolerance; not if it overflows."""
    return bool(np.abs(given - true).max() <= tolerance * np.abs(true).max())


def _factor(case: _Case, mistake: Mistake, name: str) -> float | None:
    """The factor by which a mistake explains what was given for a matrix, or None."""
    given, candidate = case.given[name], _candidate(case, mistake, name)
    if case.errors[name] <= case.tolerance:
        return 1.0 if _near(candidate, given, case.tolerance) else None
    base = case.true[name] * bool(mistake.updated)
    c = fitted_factor(given - base, candidate - base)
    explained = base + c * (candidate - base)
    if not _near(explained, given, min(case.tolerance, case.errors[name] / 10)):
        return None
    return 1.0 if abs(c - 1) <= case.tolerance else c


_Explanation = tuple[Mistake, dict[str, float]]  # the factor for each matrix


def _explanations(case: _Case, names: str) -> list[_Explanation]:
    """The mistakes that explain what was given for all these matrices."""
    forward, found = case.forward["given"], []
    for mistake in _family(len(forward.words), forward.tau):
        factors: dict[str, float] = {}
        for name in names:
            c = _factor(case, mistake, name)
            if c is None:
                break
            factors[name] = c
        else:
            found.append((mistake, factors))
    exact = [each for each in found if set(each[1].values()) == {1.0}]
    if found and not exact and found[0][0] == Mistake():
        return found[:1]  # a factor alone
    return exact or found


def _factor_name(c: float, T: int, B: int) -> str:
    """What a constant factor means, in words."""
    known: list[tuple[float, str]] = [(T, f"the mean over {T} steps")]
    known += [(B, f"the mean over {B} sequences")]
    known += [(T * B, f"the mean over {T * B} words")] * (B > 1)
    known += [(2, "halved"), (0.5, "counted twice")]
    named = [text for n, text in known if n != 1 and np.isclose(abs(c) * n, 1)]
    text = " or ".join(named) or "a constant factor"
    if np.isclose(c, -1):
        text = "the sign (e_o and delta are minus derivatives)"
    elif c < 0:
        update = f"an update, -alpha dE with alpha = {-c:.4g}"
        text = f"the sign, and {text}" if named else update
    return f"{c:.4g} times what it should be, {text if c else 'nothing added up'}"


def _sentence(case: _Case, mistake: Mistake, factors: dict[str, float]) -> str:
    """An explanation in words: the mistake, its remedy, the factors."""
    words, texts = case.forward["given"].words, {}
    for name in [name for name in "UWV" if factors.get(name, 1) != 1]:
        text = _factor_name(factors[name], len(words), words[0].size)
        texts[name] = f"alpha = {factors[name]:.4g}" if mistake.updated else text
    parts = [f"{mistake.name} ({mistake.remedy})"] if mistake != Mistake() else []
    for text in dict.fromkeys(texts.values()):
        where = " and ".join(f"dE/d{name}" for name in texts if texts[name] == text)
        everywhere = list(texts.values()) == [text] * len(factors)
        parts.append(text if everywhere else f"{text}, in {where}")
    return "; ".join(parts)


def _diagnosis(case: _Case) -> str:
    """What is probably wrong, in lines."""
    wrong = [name for name, error in case.errors.items() if error > case.tolerance]
    groups = {" and ".join(f"dE/d{name}" for name in wrong): _explanations(case, "WUV")}
    if not any(groups.values()):
        groups = {f"dE/d{name}": _explanations(case, name) for name in wrong}
    lines = []
    for where, found in groups.items():
        several = " one of these, which fit equally well" * (len(found) > 1)
        lines.append(f"In {where}, probably{several}:")
        for text in [_sentence(case, *each) for each in found] or [_UNKNOWN]:
            lines += wrap(f"- {text}.", 79, subsequent_indent="  ")
    return "\n".join(lines)


_UNKNOWN = (
    "no single mistake of the family: take T = 1, then T = 2, then more (a small error "
    "may be float32, finite differences, or rounding that a large W makes grow)"
)


def _notes(
    params: Parameters, words: NDArray[Any], s_init: ArrayLike | None, true: Parameters
) -> tuple[str, ...]:
    """What the problem cannot show, whatever was given."""
    notes = {
        f"T = {len(words)} hides mistakes that need three steps": len(words) < 3,
        "s(-1) = 0 hides mistakes in the first term of dE/dW": s_init is None
        or not np.any(s_init),
        "W = 0 hides mistakes in the recursion": not params.W.any(),
        "no word is read twice, so one counted once cannot show": (
            len(np.unique(words)) == words.size
        ),
    }
    for name, matrix in true._asdict().items():
        notes[f"dE/d{name} should be zero, which tests nothing"] = not matrix.any()
    return tuple(note for note, holds in notes.items() if holds)


_TOLERANCES = {"float32": 1e-4, "float64": 1e-9}


def _real(
    name: str, array: ArrayLike, shape: tuple[int, ...] | None = None
) -> tuple[NDArray[Any], float]:
    """The argument as finite real numbers in float64, and its tolerance."""
    array = check_array(name, array, ())
    if shape not in (None, array.shape):
        hint = " (transposed?)" if array.T.shape == shape else ""
        raise ValueError(f"{name} has shape {array.shape}: expected {shape}{hint}")
    if array.dtype.name not in _TOLERANCES:
        raise ValueError(f"{name} is {array.dtype}: expected float32 or float64")
    return array.astype(np.float64), _TOLERANCES[array.dtype.name]


@dataclass(frozen=True)
class GradientReport:
    """What `check_gradient` found; `print` shows it.

    Attributes:
        ok: whether all three gradients are right.
        errors: max abs(given - true) / max abs(true) for each of "U", "W", "V".
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
            verdict = f"right, error below {self.tolerance:.0e}"
            if error > self.tolerance:
                verdict = f"WRONG, error {error:.3g}"
            lines.append(f"dE/d{name}  {verdict}")
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

    It is compared with `bptt`, by :eq:`eq-gradient-error`, and where it differs, with
    what the classic mistakes would have made of it, by :eq:`eq-fitted-factor`.

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
    named = check_parameters(params)._asdict().items()
    params = Parameters(*(_real(f"params.{name}", matrix)[0] for name, matrix in named))
    s_init = None if s_init is None else _real("s_init", s_init)[0]
    if len(gradient) != 3:
        raise ValueError(f"gradient holds {len(gradient)} arrays: expected U, W and V")
    given, errors, tolerance = {}, {}, 0.0
    true = bptt(params, words, targets, s_init, tau, activation)[1]
    for name, part, right in zip("UWV", gradient, true, strict=True):
        given[name], allowed = _real(f"gradient.{name}", part, right.shape)
        errors[name] = gradient_error(given[name], right)
        tolerance = max(tolerance, allowed)
    notes = _notes(params, np.asarray(words), s_init, true)
    if max(errors.values()) <= tolerance:
        return GradientReport(True, errors, "", notes, tolerance)
    columns = np.flatnonzero(given["U"].any(axis=0))
    columns = np.unique([*columns, *np.ravel(words), *np.ravel(targets)])
    given["U"], true = given["U"][:, columns], true._replace(U=true.U[:, columns])
    with np.errstate(over="ignore", invalid="ignore"):  # a wrong pass may overflow
        forward = {
            switch: _forward(params, words, targets, start, tau, activation)
            for switch, start in (("given", s_init), ("zero", None))
        }
        case = _Case(given, true._asdict(), errors, tolerance, columns, forward)
        return GradientReport(False, errors, _diagnosis(case), notes, tolerance)
