"""What a call of `bptt` costs against forward pass plus loss, and how it grows with T.

Usage: python benchmarks/bptt_cost.py

The floor: the ratio of the two, in one thread, is no more than 3 at every size; time
and peak memory per step do not grow with T.

Measured on a machine of two cores: ratios from 1.4 to 2.8; from T = 500 on, about 15
microseconds and 5.3 kB a step.
"""

from functools import partial
from typing import Any

import numpy as np
from measure import in_turn, peak

from rnn.bptt import bptt
from rnn.cross_entropy import loss
from rnn.hidden_state import Parameters

SIZES = [  # H, N, T, batch axes, type
    (16, 30, 1000, (), np.float64),
    (100, 100, 200, (), np.float64),
    (100, 1000, 100, (8,), np.float32),
    (200, 10_000, 35, (20,), np.float32),
    (400, 50, 200, (20,), np.float64),
]


def case(H: int, N: int, T: int, batch: tuple[int, ...], dtype: Any) -> tuple[Any, ...]:
    """A random network with W of norm about 2, words and targets."""
    rng = np.random.default_rng(0)
    shapes = ((N, H), (H, H), (N, H))
    U, W, V = (rng.normal(0, H**-0.5, shape).astype(dtype) for shape in shapes)
    words, targets = rng.integers(0, N, (2, T, *batch))
    return Parameters(U.T, W, V), words, targets


def medians(arguments: tuple[Any, ...], rounds: int = 9) -> tuple[float, float]:
    """Median seconds of loss and of bptt, in turn."""
    ways = {"loss": partial(loss, *arguments), "bptt": partial(bptt, *arguments)}
    seconds = in_turn(ways, rounds)
    return seconds["loss"], seconds["bptt"]


def main() -> None:
    """Print both tables."""
    print("    H      N     T  batch  type      loss ms   bptt ms  ratio")
    for H, N, T, batch, dtype in SIZES:
        a, b = medians(case(H, N, T, batch, dtype))
        B = int(np.prod(batch))
        print(f"{H:5}{N:7}{T:6}{B:7}  {dtype.__name__:8}", end="")
        print(f"{1e3 * a:9.2f}{1e3 * b:10.2f}{b / a:7.2f}")
    print("\nH = 50, N = 200, float64")
    print("    T   bptt us/step   peak bytes/step")
    for T in (100, 200, 500, 1000, 2000, 5000):
        arguments = case(50, 200, T, (), np.float64)
        _, b = medians(arguments, 5)
        print(f"{T:5}{1e6 * b / T:15.1f}{peak(partial(bptt, *arguments)) / T:18.0f}")


if __name__ == "__main__":
    main()
