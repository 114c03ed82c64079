"""How the benchmarks measure: ways of doing the same, in turn, medians over rounds."""

import ctypes
import gc
import math
import os
import platform
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

CORES = os.cpu_count() or 1
#: A thread of BLAS or OpenMP without work spins for a while before it sleeps, and
#: takes a core from whatever is measured meanwhile.
PAUSE = 0.1
#: How long a measurement lasts, at least about, in seconds.
LASTS = 0.1
#: The seconds that may be spent in all on waiting for others to leave the cores alone.
PATIENCE = 600.0

_CONTROLLER = ThreadpoolController()


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """So many threads for each product of NumPy."""
    with _CONTROLLER.limit(limits=count, user_api="blas"):
        yield


def by_others() -> float:
    """Seconds of all cores that others have taken; 0 where it can't be told."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, *rest = map(int, stat.read_text().split()[1:9])
    busy = (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
    return busy - sum(os.times()[:4])


def pause() -> None:
    """Wait until no thread of ours spins, and others take little."""
    global PATIENCE
    while True:
        before = by_others()
        time.sleep(PAUSE)
        if by_others() - before < CORES * PAUSE / 8 or PATIENCE < 0:
            return
        PATIENCE -= PAUSE


def timed(function: Callable[[], Any], threads: int = 1) -> float:
    """The seconds of one call of many in a row, as in training.

    The first call after a pause does not count: it finds the cores asleep and the
    caches cold.

    Args:
        function: what is measured.
        threads: how many each product of NumPy takes.
    """
    with blas_threads(threads):
        pause()
        start = time.perf_counter()
        function()
        calls = math.ceil(LASTS / (time.perf_counter() - start))
        start = time.perf_counter()
        for _ in range(calls):
            function()
        return (time.perf_counter() - start) / calls


def in_turn(
    ways: Mapping[str, Callable[[], Any]],
    rounds: int = 9,
    threads: dict[str, int] | None = None,
) -> dict[str, float]:
    """Median seconds of each way, measured in turn; the first round does not count.

    Args:
        ways: functions by name.
        rounds: how often each is measured.
        threads: how many each product of NumPy takes in these ways; else 1.
    """
    threads = threads or {}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            times[name].append(timed(way, threads.get(name, 1)))
    return {name: median(seconds[1:]) for name, seconds in times.items()}


def keep_memory() -> None:
    """Have malloc keep what is freed: the system need not clear pages again.

    PyTorch asks for its large arrays anew in every step. Only glibc has this setting.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 2**30)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


def peak(function: Callable[[], Any]) -> int:
    """The most bytes that a call held at a time."""
    gc.collect()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def exponent(sizes: Sequence[int], figures: Sequence[float]) -> float:
    """The b of figure = a size^b, fitted to the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(figures), 1)[0])


def unequal(ratios: Sequence[float]) -> float:
    """By how much one constant for all ratios must be wrong, either way, at least."""
    return math.sqrt(max(ratios) / min(ratios)) - 1


def fitted(
    counts: Sequence[tuple[int, ...]], seconds: Sequence[float]
) -> NDArray[np.float64]:
    """Seconds of one of each thing counted: the least squares of relative errors."""
    shares = np.array(counts) / np.array(seconds)[:, np.newaxis]
    scale = shares.max(axis=0)
    constants: NDArray[np.float64] = np.linalg.lstsq(
        shares / scale, np.ones(len(seconds)), rcond=None
    )[0]
    return constants / scale


def zipf(vocab_size: int) -> NDArray[np.float64]:
    """Probabilities like those of words in texts: that of the n-th is about 1 / n."""
    weights: NDArray[np.float64] = 1 / np.arange(1, vocab_size + 1)
    return weights / weights.sum()


def zipf_words(
    vocab_size: int, shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Words drawn with the probabilities of `zipf`."""
    return rng.choice(vocab_size, shape, p=zipf(vocab_size))


def version(module: str) -> str | None:
    """The version of an installed module; None without it."""
    try:
        return str(__import__(module).__version__)
    except ImportError:
        return None


def machine() -> dict[str, Any]:
    """What the figures depend on: the processor and the versions; the date."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    blas = [x for x in _CONTROLLER.info() if x["user_api"] == "blas"]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": CORES,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "BLAS": ", ".join(f"{x['internal_api']} {x['version']}" for x in blas),
        "PyTorch": version("torch"),
        "date": date.today().isoformat(),
    }
