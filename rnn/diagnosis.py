"""Diagnosis.

Exported from book/10_diagnosis.ipynb. Edit that chapter, then run `make export`.
"""

from dataclasses import dataclass
from textwrap import fill
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
        updated: alpha, if V - alpha dE/dV stands for V in the hidden error.
        left_out: the steps that the loop leaves out: (0,), or (-1,) for the last.
        slope: "f'"; "f'(s)", taken at s instead of a; "sigmoid" or "tanh", its slope.
        direct: the step, counted from t, whose slope V^T e_o(t) takes; None for none.
        recurrent: the same for W^T delta(t+1).
        back: the matrix that sends the error back, "W^T" or "W".
        tau: how many steps each error is sent back; None for as many as it should be.
        previous: the states in dW: "s(t-1)", "s(t)", and with another first one
            "0, s(0), .." or "s(T-1), s(0), ..".
        transposed: whether dW is transposed.
        column: step t adds to this column of dU: "w(t)", "d(t)", or "w(t), once".
    """

    name: str = ""
    remedy: str = ""
    s_init: str = "given"
    updated: float = 0.0
    left_out: tuple[int, ...] = ()
    slope: str = "f'"
    direct: int | None = 0
    recurrent: int | None = 0
    back: str = "W^T"
    tau: int | None = None
    previous: str = "s(t-1)"
    transposed: bool = False
    column: str = "w(t)"


def _chosen(mistake: Mistake, switch: str, positions: dict[Any, Any]) -> Any:
    """What stands at the position of a switch."""
    position = getattr(mistake, switch)
    if position not in positions:
        expected = " or ".join(map(repr, positions))
        raise ValueError(f"mistake.{switch} is {position!r}: expected {expected}")
    return positions[position]


#: From which step a slope may be taken, counted from t.
_SHIFTS = {None: None, -1: -1, 0: 0, 1: 1}


def _slopes_at(slopes: NDArray[Any], shift: int | None) -> NDArray[Any]:
    """The slopes of the steps t + shift, t = 0 .. T-1; ones if shift is None.

    Step -1 comes first in slopes. No step comes after the last, whose own serves.
    """
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
    dE/dW and dE/dV as `Parameters`; raises ValueError for what `bptt` refuses, but for
    an s_init or tau that the mistake replaces, and for a position that a switch does
    not have.
    """
    U, W, V = check_parameters(params)
    s_init = _chosen(mistake, "s_init", {"given": s_init, "zero": None})
    states = hidden_states(params, words, s_init, activation)
    e_o = output_error(outputs(params, states), targets)
    first = np.full_like(states[:1], 0 if s_init is None else s_init)
    before = np.concatenate([first, states])  # s(-1), s(0), .. s(T-1)

    if mistake.updated:
        V = V - mistake.updated * gradient_v(e_o, states)
    left_out = list(mistake.left_out)
    if not all(-len(e_o) <= t < len(e_o) for t in left_out):
        raise ValueError(
            f"mistake.left_out is {mistake.left_out}: expected steps of {len(e_o)}"
        )
    e_o[left_out] = 0  # no error begins at a step that is left out
    slopes = {
        "f'": activation.slope(before),
        "f'(s)": activation.slope(activation(before)),
        "sigmoid": sigmoid.slope(before),
        "tanh": tanh.slope(before),
    }
    slope = _chosen(mistake, "slope", slopes)
    e_h = (e_o @ V) * _slopes_at(slope, _chosen(mistake, "direct", _SHIFTS))

    sender = _chosen(mistake, "back", {"W^T": W, "W": W.T})  # sends by its transpose
    arrives = _slopes_at(slope, _chosen(mistake, "recurrent", _SHIFTS))
    way = Parameters(U, sender, V), e_h, arrives
    tau = tau if mistake.tau is None else mistake.tau
    delta = total_error(*way) if tau is None else truncated_error(*way, tau)
    delta[left_out] = 0  # and what came there from later steps is not summed

    states_in_dw = {
        "s(t-1)": before[:-1],
        "s(t)": states,
        "0, s(0), ..": np.concatenate([0 * first, states[:-1]]),
        "s(T-1), s(0), ..": np.roll(states, 1, axis=0),
    }
    dW = gradient_w(delta, _chosen(mistake, "previous", states_in_dw))
    columns = {"w(t)": words, "d(t)": targets, "w(t), once": words}
    dU = gradient_u(delta, _chosen(mistake, "column", columns), len(V))
    if mistake.column == "w(t), once":
        dU[:, np.ravel(words)] = -delta.reshape(-1, len(W)).T  # the last one stays
    dW = _chosen(mistake, "transposed", {False: dW, True: dW.T})
    return Parameters(dU, dW, gradient_v(e_o, states))


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
    Mistake("slope taken at s, not a", "f' is written with s already", slope="f'(s)"),
    Mistake("slope of sigmoid", "take the slope of your f", slope="sigmoid"),
    Mistake("slope of tanh", "take the slope of your f", slope="tanh"),
    Mistake("V after its update", "compute all gradients, then update", updated=1.0),
    Mistake("last step left out", "begin the loop at t = T-1", left_out=(-1,)),
    Mistake("first step left out", "let the loop reach t = 0", left_out=(0,)),
    Mistake("s(-1) taken as zero", "begin the forward pass with s_init", s_init="zero"),
    Mistake("s(-1) taken as zero in dW", "s(-1) is s_init", previous="0, s(0), .."),
    Mistake("s(T-1) for s(-1) in dW", "s(-1) is s_init", previous="s(T-1), s(0), .."),
    Mistake("s(t) for s(t-1) in dW", "W multiplies s(t-1)", previous="s(t)"),
    Mistake("dW transposed", "rows for delta, columns for s(t-1)", transposed=True),
    Mistake("targets for inputs in dU", "U multiplies w(t), not d(t)", column="d(t)"),
    Mistake("word counted once in dU", "use np.subtract.at", column="w(t), once"),
)


def _family(T: int, tau: int | None) -> list[Mistake]:
    """No mistake, the classic ones, and every wrong tau."""
    right = T - 1 if tau is None else min(tau, T - 1)
    names = [f"truncated at tau = {k}" for k in range(T - 1)] + ["not truncated"]
    remedy = f"send each error back {right} steps"
    wrong = [Mistake(name, remedy, tau=k) for k, name in enumerate(names) if k != right]
    return [Mistake(), *CLASSIC_MISTAKES, *wrong]


_Part = tuple[NDArray[Any], NDArray[Any], float]  # given, right, and the error
_Fit = tuple[Mistake, dict[str, float]]  # the factor for each matrix it explains


def _factor(
    part: _Part, candidate: NDArray[Any], updated: bool, tolerance: float
) -> float | None:
    """The factor that makes a candidate what was given for a matrix, or None."""
    given, true, error = part
    scale, c = np.abs(given).max(), 1.0
    if error > tolerance:  # what was given right must be right without a factor
        if updated:
            given, candidate = given - true, candidate - true
        c, tolerance = fitted_factor(given, candidate), min(tolerance, error / 10)
    if not np.abs(given - c * candidate).max() <= tolerance * scale:  # so is no nan
        return None
    return 1.0 if abs(c - 1) <= tolerance else c


def _fits(
    params: Parameters,
    words: NDArray[Any],
    targets: ArrayLike,
    options: tuple[ArrayLike | None, int | None, Activation],
    parts: dict[str, _Part],
    tolerance: float,
) -> list[_Fit]:
    """What each mistake explains, and by which factors."""
    given, true, error = parts["U"]
    columns = np.union1d(words, targets)  # all others are zero in every candidate
    columns = np.union1d(columns, np.flatnonzero(given.any(axis=0)))
    parts = {**parts, "U": (given[:, columns], true[:, columns], error)}
    fits = []
    for mistake in _family(len(words), options[1]):
        try:
            made = faulty_gradient(params, words, targets, mistake, *options)._asdict()
        except ValueError:  # it overflows
            continue
        made["U"] = made["U"][:, columns]
        factors = {
            name: _factor(part, made[name], bool(mistake.updated), tolerance)
            for name, part in parts.items()
        }
        fits.append((mistake, {n: c for n, c in factors.items() if c is not None}))
    return fits


def _explanations(fits: list[_Fit], names: list[str]) -> list[_Fit]:
    """The mistakes that explain what was given for all these matrices."""
    found = [
        (mistake, {name: factors[name] for name in names})
        for mistake, factors in fits
        if factors.keys() >= set(names)
    ]
    exact = [fit for fit in found if set(fit[1].values()) == {1.0}]
    if found and not exact and found[0][0] == Mistake():
        return found[:1]  # a factor alone
    return exact or found


def _factor_name(c: float, T: int, B: int) -> str:
    """What a constant factor means, in words."""
    means = [(T, "steps"), (B, "sequences"), (T * B if B > 1 else 1, "words")]
    known: list[tuple[float, str]] = [(2, "halved"), (0.5, "counted twice")]
    known = [(n, f"the mean over {n} {counted}") for n, counted in means] + known
    named = [text for n, text in known if n != 1 and np.isclose(abs(c) * n, 1)]
    text = " or ".join(named) or "a constant factor"
    if np.isclose(c, -1):
        text = "the sign (e_o and delta are minus derivatives)"
    elif c < 0:
        update = f"an update, -alpha dE with alpha = {-c:.4g}"
        text = f"the sign, and {text}" if named else update
    return f"{c:.4g} times what it should be, {text if c else 'nothing added up'}"


def _sentence(mistake: Mistake, factors: dict[str, float], T: int, B: int) -> str:
    """An explanation in words: the mistake, its remedy, the factors."""
    places: dict[str, list[str]] = {}  # of each text
    for name, c in factors.items():
        if c != 1:
            text = f"alpha = {c:.4g}" if mistake.updated else _factor_name(c, T, B)
            places.setdefault(text, []).append(f"dE/d{name}")
    parts = [f"{mistake.name} ({mistake.remedy})"] if mistake.name else []
    for text, names in places.items():
        everywhere = len(names) == len(factors)
        parts.append(text if everywhere else f"{text}, in {' and '.join(names)}")
    return "; ".join(parts)


_UNKNOWN = (
    "no single mistake of the family: take T = 1, then T = 2, then more (a small error "
    "may be float32, finite differences, or rounding that a large W makes grow)"
)


def _diagnosis(fits: list[_Fit], wrong: list[str], T: int, B: int) -> str:
    """What is probably wrong: with all matrices, or else with each by itself."""
    groups = [(wrong, _explanations(fits, ["U", "W", "V"]))]
    if not groups[0][1]:
        groups = [([name], _explanations(fits, [name])) for name in wrong]
        unknown = [name for (name,), found in groups if not found]
        groups = [group for group in groups if group[1]] + [(unknown, [])]
    texts = []
    for names, found in groups:
        where = "In " + " and ".join(f"dE/d{name}" for name in names)
        several = " one of these, which fit equally well" * (len(found) > 1)
        if found:
            texts.append(f"{where}, probably{several}:")
            texts += [f"- {_sentence(*fit, T, B)}." for fit in found]
        elif names:
            texts += [f"{where}:", f"- {_UNKNOWN}."]
    return "\n".join(fill(text, 79, subsequent_indent="  ") for text in texts)


_TOLERANCES = {"float32": 1e-4, "float64": 1e-9}


def _notes(
    params: Parameters,
    words: NDArray[Any],
    s_init: ArrayLike | None,
    true: Parameters,
    tolerance: float,
) -> tuple[str, ...]:
    """What the check cannot show, whatever was given."""
    zero = s_init is None or not np.any(s_init)
    notes = [
        (len(words) < 3, f"T = {len(words)} hides mistakes that need three steps"),
        (zero, "s(-1) = 0 hides mistakes in the first term of dE/dW"),
        (not params.W.any(), "W = 0 hides mistakes in the recursion"),
        (
            len(np.unique(words)) == words.size,
            "no word is read twice, so one counted once cannot show",
        ),
        (tolerance == 1e-4, "float32 hides errors below 1e-4: pass float64"),
    ]
    for name, matrix in true._asdict().items():
        untested = f"dE/d{name} should be zero, which tests nothing"
        notes.append((not matrix.any(), untested))
    return tuple(note for holds, note in notes if holds)


def _real(
    name: str, array: ArrayLike, shape: tuple[int, ...] | None = None
) -> NDArray[Any]:
    """The argument as an array of finite numbers, float32 or float64."""
    array = check_array(name, array, ())
    if shape not in (None, array.shape):
        hint = " (transposed?)" if array.T.shape == shape else ""
        raise ValueError(f"{name} has shape {array.shape}: expected {shape}{hint}")
    if array.dtype.name not in _TOLERANCES:
        raise ValueError(f"{name} is {array.dtype}: expected float32 or float64")
    return array


@dataclass(frozen=True)
class GradientReport:
    """What `check_gradient` found; `print` shows it.

    Attributes:
        ok: whether all three gradients are right.
        errors: max abs(given - true) / max abs(true) for each of "U", "W", "V".
        diagnosis: what is probably wrong; empty when all is right.
        notes: what the check cannot show; they leave `ok` as it is.
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
        notes = [f"Note: {note}." for note in self.notes]
        lines += [fill(note, 79, subsequent_indent="  ") for note in notes]
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
    what the classic mistakes would have made of it, by :eq:`eq-fitted-factor`. Take a
    short text: all truncations are tried, and their work grows with the cube of T.

    Args:
        params: the parameters U (H, N), W (H, H), V (N, H).
        words: the input words w(t) as indices, shape (T, ...).
        targets: the words d(t) that follow them, the same shape.
        gradient: dE/dU, dE/dW, dE/dV in this order, as `Parameters` or a plain triple.
            In float64 an error of 1e-9 passes, with a matrix in float32 one of 1e-4.
        s_init: s(-1), shape (H,) or (..., H); zeros unless given.
        tau: how many steps each error should be sent back at most; None for all.
        activation: f of the hidden layer.

    Returns:
        A `GradientReport`.

    Raises:
        ValueError: if an argument has the wrong shape, an index out of range, or
            numbers that are not finite and real; the message names the argument, as
            `gradient.W`.
    """
    named = check_parameters(params)._asdict().items()
    params = Parameters(*(_real(f"params.{n}", m).astype(float) for n, m in named))
    s_init = None if s_init is None else _real("s_init", s_init).astype(float)
    if len(gradient) != 3:
        raise ValueError(f"gradient holds {len(gradient)} arrays: expected U, W and V")
    options = s_init, tau, activation
    true = bptt(params, words, targets, *options)[1]
    parts, tolerance = {}, 0.0
    for name, given, right in zip("UWV", gradient, true, strict=True):
        given = _real(f"gradient.{name}", given, right.shape)
        tolerance = max(tolerance, _TOLERANCES[given.dtype.name])
        parts[name] = given.astype(float), right, gradient_error(given, right)
    errors = {name: error for name, (_, _, error) in parts.items()}
    wrong = [name for name, error in errors.items() if error > tolerance]
    words, diagnosis = np.asarray(words), ""
    if wrong:
        with np.errstate(over="ignore", invalid="ignore"):  # a wrong pass may overflow
            fits = _fits(params, words, targets, options, parts, tolerance)
        diagnosis = _diagnosis(fits, wrong, len(words), words[0].size)
    notes = _notes(params, words, s_init, true, tolerance)
    return GradientReport(not wrong, errors, diagnosis, notes, tolerance)
