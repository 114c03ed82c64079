"""What a word costs when it is learnt online, against the floor, and where it goes.

Usage: python benchmarks/online_cost.py

The floor of learning word by word is two readings of V a word, V s(t) and V^T e_o(t):
without these two products no word can be learnt from before the next is predicted
(chapter `sgd`). Each row compares `learn_online` with just these, and with updates of V
that do not wait, in one thread.
"""

from functools import partial
from typing import Any

import numpy as np
from measure import in_turn

from rnn.hidden_state import Parameters, init_parameters
from rnn.sgd import learn_online

SIZES = [  # H, N, type
    (50, 10_000, np.float64),
    (100, 10_000, np.float64),
    (100, 10_000, np.float32),
    (200, 10_000, np.float32),
    (100, 1000, np.float64),
    (30, 30, np.float64),
]
WORDS, TAU = 500, 4


def products(params: Parameters, words: Any) -> None:
    """The floor: the two products with V for each word."""
    V = params.V
    s, e = np.full(V.shape[1], 0.5, V.dtype), np.full(len(V), 1e-4, V.dtype)
    for _ in words[1:]:
        _ = V @ s
        _ = e @ V


def at_once(params: Parameters, words: Any) -> None:
    """The updates of V alone, each made at once."""
    V = params.V
    s, e = np.full(V.shape[1], 1e-9, V.dtype), np.full(len(V), 1e-4, V.dtype)
    change = np.empty_like(V)
    for _ in words[1:]:
        np.multiply(e[:, np.newaxis], s, out=change)
        V += change


def learn(params: Parameters, words: Any) -> None:
    """All of it."""
    learn_online(params, words[:-1], words[1:], 0.1, TAU)


def main() -> None:
    """Print the table."""
    print("   H      N  type     floor us  at once us  learn us  learn/floor  words/s")
    for H, N, dtype in SIZES:
        rng = np.random.default_rng(0)
        params = init_parameters(N, H, rng, dtype)
        words = rng.integers(0, N, WORDS + 1)
        ways = {
            f.__name__: partial(f, params, words) for f in (products, at_once, learn)
        }
        seconds = in_turn(ways)
        floor, update, all_of_it = (1e6 * s / WORDS for s in seconds.values())
        print(
            f"{H:4}{N:7}  {dtype.__name__:8}{floor:9.1f}{update:12.1f}{all_of_it:10.1f}"
            f"{all_of_it / floor:13.2f}{1e6 / all_of_it:9.0f}"
        )


if __name__ == "__main__":
    main()
