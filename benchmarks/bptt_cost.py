"""What one call of `bptt` costs, against the forward pass plus loss, and how it grows with T.

Usage: OPENBLAS_NUM_THREADS=1 python benchmarks/bptt_cost.py

The floor: the ratio of the two, medians of alternating runs, is no more than 3 at every size;
time and peak memory per step do not grow with T. Times are of the processor, in one thread:
they leave out what else the machine does, except that it may fill the caches.

Measured on a machine of two cores: ratios from 1.4 to 2.9; from T = 1000 on, 16 microseconds and
5.3 kB a step.
"""

import tracemalloc
from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Any

import numpy as np

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


def case(H: int, N: int, T: int, batch: tuple[int, ...], dtype: type) -> tuple[Any, ...]:
    """A random network with W of norm about 2, words and targets."""
    rng = np.random.default_rng(0)
    shapes = ((N, H), (H, H), (N, H))
    U, W, V = (rng.normal(0, H**-0.5, shape).astype(dtype) for shape in shapes)
    words, targets = rng.integers(0, N, (2, T, *batch))
    return Parameters(U.T, W, V), words, targets


def seconds(function: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    """The processor time of one call."""
    start = process_time()
    function(*arguments)
    return process_time() - start


def medians(arguments: tuple[Any, ...], rounds: int = 9) -> tuple[float, float]:
    """Median times of loss and of bptt, called in turn, after a round that does not count."""
    pairs = [(seconds(loss, arguments), seconds(bptt, arguments)) for _ in range(rounds + 1)][1:]
    return median(a for a, _ in pairs), median(b for _, b in pairs)


def peak(arguments: tuple[Any, ...]) -> int:
    """The most bytes that a call of bptt held at a time, its arguments not counted."""
    tracemalloc.start()
    try:
        bptt(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def main() -> None:
    """Print both tables."""
    print("    H      N     T  batch  type      loss ms   bptt ms  ratio")
    for H, N, T, batch, dtype in SIZES:
        a, b = medians(case(H, N, T, batch, dtype))
        name = f"{H:5}{N:7}{T:6}{int(np.prod(batch)):7}  {dtype.__name__:8}"
        print(f"{name}{1e3 * a:9.2f}{1e3 * b:10.2f}{b / a:7.2f}")
    print("\n    T   bptt us/step   peak bytes/step   (H = 50, N = 200, float64)")
    for T in (100, 200, 500, 1000, 2000, 5000):
        arguments = case(50, 200, T, (), np.float64)
        _, b = medians(arguments, 5)
        print(f"{T:5}{1e6 * b / T:15.1f}{peak(arguments) / T:18.0f}")


if __name__ == "__main__":
    main()
