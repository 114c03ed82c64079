"""The gradient for W.

Exported from book/08_gradient_w.ipynb. Edit that chapter, then run `make export`.
"""

from typing import Any

from numpy.typing import ArrayLike, NDArray

from .hidden_state import check_array

__all__ = ["gradient_w"]


def gradient_w(error: ArrayLike, previous_states: ArrayLike) -> NDArray[Any]:
    """dE/dW = - sum_t error(t) s(t-1)^T, :eq:`eq-gradient-w`.

    Args:
        error: e_h(t), or the whole error that reaches step t, shape (T, ..., H).
        previous_states: s(t-1) for the same t, the same shape: s(-1) first, the last
            state left out.

    Returns:
        The gradient, shape (H, H), summed over the time axis and all batch axes; rows
        belong to the error, columns to the state before.

    Raises:
        ValueError: if the shapes differ, or an argument holds other things than finite
            numbers; the message names the argument.
    """
    error = check_array("error", error, (None,))
    previous = check_array("previous_states", previous_states, (None,))
    if previous.shape != error.shape:
        raise ValueError(
            f"previous_states has shape {previous.shape}: "
            f"expected {error.shape}, to fit error"
        )
    H = error.shape[-1]
    gradient: NDArray[Any] = -(error.reshape(-1, H).T @ previous.reshape(-1, H))
    return gradient
