"""The gradient for V.

Exported from book/06_gradient_v.ipynb. Edit that chapter, then run `make export`.
"""

from typing import Any

from numpy.typing import ArrayLike, NDArray

from .hidden_state import check_array

__all__ = ["gradient_v"]


def gradient_v(e_o: ArrayLike, states: ArrayLike) -> NDArray[Any]:
    """dE/dV = - sum_t e_o(t) s(t)^T, :eq:`eq-gradient-v`.

    Args:
        e_o: the output errors d(t) - y(t), shape (T, ..., N).
        states: the hidden states s(t), shape (T, ..., H).

    Returns:
        The gradient, shape (N, H), summed over the time axis and all batch axes, of
        the type that e_o and states have: float32, float64, complex.

    Raises:
        ValueError: if the axes before the last differ, or a number is not finite.
    """
    e_o = check_array("e_o", e_o, (None,))
    states = check_array("states", states, (None,))
    if e_o.shape[:-1] != states.shape[:-1]:
        raise ValueError(
            f"states has shape {states.shape}: expected leading axes "
            f"{e_o.shape[:-1]}, as in e_o of shape {e_o.shape}"
        )
    N, H = e_o.shape[-1], states.shape[-1]
    gradient: NDArray[Any] = e_o.reshape(-1, N).T @ -states.reshape(-1, H)
    return gradient
