"""The judge: checking a gradient.

Exported from book/05_gradient_check.ipynb. Edit that chapter, then run `make export`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .hidden_state import check_array

__all__ = ["complex_step", "gradient_error"]


def _as_real(name: str, array: ArrayLike) -> NDArray[np.float64]:
    """A copy of the argument, of any shape, as finite real numbers in float64."""
    checked = check_array(name, array, ())
    if checked.dtype.kind == "c":
        raise ValueError(f"{name} is complex: expected real numbers")
    return checked.astype(np.float64)


def complex_step(
    function: Callable[[NDArray[np.complex128]], Any], x: ArrayLike
) -> NDArray[np.float64]:
    """df/dx_j = Im f(x + i h u_j) / h with h = 1e-30, :eq:`eq-complex-step`.

    Args:
        function: f. Takes a complex array of x's shape, returns one complex number;
            real where its argument is real, computed by analytic operations only.
        x: where to differentiate, real, any shape; left unchanged.

    Returns:
        The derivative of f by each element of x, a float64 array of x's shape.

    Raises:
        ValueError: if x is not real and finite, or if function returns anything
            but one finite complex number.
    """
    x = _as_real("x", x)
    derivative = np.empty(x.shape)
    for j in np.ndindex(x.shape):
        point = x.astype(np.complex128)
        point[j] += 1e-30j
        value = np.asarray(function(point))
        if value.shape != ():
            raise ValueError(
                f"function returned shape {value.shape}: expected one number"
            )
        if value.dtype.kind != "c":
            raise ValueError(
                f"function returned {value.dtype}: expected a complex number; "
                "let the imaginary part through"
            )
        if not np.isfinite(value):
            raise ValueError(f"function returned {value}: expected a finite number")
        derivative[j] = value.imag / 1e-30
    return derivative


def gradient_error(given: ArrayLike, true: ArrayLike) -> float:
    """max_j abs(given_j - true_j) / max_j abs(true_j), :eq:`eq-gradient-error`.

    Args:
        given: the gradient to be judged, real, any shape.
        true: the gradient that is known to be right, of the same shape.

    Returns:
        The error, a Python float; 0 if the two are equal, also if both are exactly
        zero (then nothing was tested); infinite if only true is exactly zero.

    Raises:
        ValueError: if the shapes differ, or if one of the two is not real and finite.
    """
    given, true = _as_real("given", given), _as_real("true", true)
    if given.shape != true.shape:
        raise ValueError(
            f"given has shape {given.shape}: expected {true.shape}, the shape of true"
        )
    with np.errstate(over="ignore"):  # a difference beyond all floats is infinite
        difference = float(np.abs(given - true).max(initial=0))
    scale = float(np.abs(true).max(initial=0))
    if scale == 0:
        return 0.0 if difference == 0 else np.inf
    return difference / scale
