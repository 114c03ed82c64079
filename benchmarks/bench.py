"""Every claim about speed, measured: against the processor's limit, against PyTorch.

Usage: python benchmarks/bench.py [--record] [section ..]

Prints a line for each claim, of the sections named or of all; with --record it also
writes them into `speed.json`, which the book reads. The status is 1 if a claim falls
short. Products may take all processors: leave OPENBLAS_NUM_THREADS alone (`make bench`
does). Mikolov's toolkit is measured if the variable RNNLM names its program, `rnnlm`.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from measure import (
    CORES,
    exponent,
    fitted,
    in_turn,
    keep_memory,
    machine,
    pause,
    peak,
    timed,
    unequal,
    zipf,
    zipf_words,
)
from numpy.typing import NDArray

from rnn.bptt import bptt, send_back, truncated_error
from rnn.classes import ClassLayer, class_edges, class_step_cost, init_classes
from rnn.gradient_check import gradient_error
from rnn.hidden_state import (
    Activation,
    Parameters,
    init_parameters,
    sigmoid,
    tanh,
)
from rnn.minibatch import (
    ChunkGradient,
    ChunkLearner,
    Stripe,
    column_sums,
    step_cost,
    workers,
)
from rnn.sgd import learn_online

FILE = Path(__file__).with_name("speed.json")
N, T, B = 10_000, 35, 20
SIZES = (50, 100, 200, 500, 1000)
TAU = 4
ALPHA = 1e-5  # so small that all rounds do the same


class Claim(NamedTuple):
    """A figure and what is to be reached; no goal: the figure is only reported."""

    name: str
    goal: float | None
    at_least: bool = False

    def holds(self, figure: float | None) -> bool | None:
        """Whether the figure reaches the goal; None if it is not known, or no goal."""
        if figure is None or self.goal is None:
            return None
        return figure >= self.goal if self.at_least else figure <= self.goal


class Result(NamedTuple):
    """What a section found: a figure for each claim, and the points for pictures."""

    figures: list[float | None]
    points: dict[str, Any]


class Case(NamedTuple):
    """A network and a chunk of words, to be learnt from."""

    params: Parameters
    words: NDArray[Any]
    targets: NDArray[Any]

    @classmethod
    def make(
        cls,
        hidden_size: int,
        shape: tuple[int, ...] = (T, B),
        vocab_size: int = N,
        dtype: Any = np.float32,
    ) -> "Case":
        """A random one; the words are drawn from a law like that of texts."""
        rng = np.random.default_rng(0)
        params = init_parameters(vocab_size, hidden_size, rng, dtype)
        params.W[:] *= 5 / hidden_size**0.5  # of norm 1: no error grows through time
        return cls(params, *zipf_words(vocab_size, (2, *shape), rng))

    def copy(self) -> Parameters:
        """The parameters, for one who changes them."""
        return Parameters(*(array.copy(order="K") for array in self.params))

    def learner(
        self, pool: Any, activation: Activation = sigmoid
    ) -> tuple[ChunkLearner, Callable[[], float]]:
        """A learner of chunks and its step."""
        steps, lanes = self.words.shape
        learner = ChunkLearner(self.copy(), lanes, steps, pool, activation)
        return learner, partial(learner.learn, self.words, self.targets, ALPHA)

    def online(self) -> Callable[[], Any]:
        """Learning from all words, one by one; V as `LanguageModel` keeps it."""
        words, targets = self.words.reshape(-1), self.targets.reshape(-1)
        params = self.copy()
        params = params._replace(V=np.asfortranarray(params.V))
        return partial(learn_online, params, words, targets, ALPHA, TAU)


def three_products(case: Case) -> Callable[[], None]:
    """The products of the output layer by themselves: S V^T, Z V and Z^T S."""
    V, rows = case.params.V, case.words.size
    S = np.random.default_rng(1).random((rows, V.shape[1]), V.dtype)
    Z = np.empty((rows, len(V)), V.dtype)
    back, slope = np.empty_like(S), np.empty_like(V)

    def products() -> None:
        np.matmul(S, V.T, out=Z)
        np.matmul(Z, V, out=back)
        np.matmul(Z.T, S, out=slope)

    return products


def limit() -> Result:
    """A step of learning from a chunk, over the three products of its output layer."""
    points = []
    for H in SIZES:
        case = Case.make(H)
        with workers() as pool:
            ways = {"products": three_products(case), "step": case.learner(pool)[1]}
            seconds = in_turn(ways, 11, threads={"products": CORES})
        points.append({"H": H, **seconds})
    return Result([p["step"] / p["products"] for p in points], {"points": points})


def torch() -> Result:
    """The same step, over PyTorch's in the best of its forms."""
    try:
        from torch_step import forms
    except ImportError:
        return Result([None] * len(CLAIMS["torch"]), {})
    points: list[dict[str, Any]] = []
    for kept in (False, True):
        if kept:
            keep_memory()
        for H in SIZES:
            for activation in (sigmoid, tanh):
                names = list(forms(str(activation)))
                ours, best, trial = against_torch(Case.make(H), activation, names)
                points.append(
                    {"H": H, "activation": str(activation), "memory kept": kept,
                     "ours": ours, **best, "trial": trial}
                )  # fmt: skip
    worst = [
        max(
            p["ours"] / p["PyTorch"]
            for p in points
            if p["H"] == H and p["memory kept"] == kept
        )
        for kept in (False, True)
        for H in SIZES
    ]
    return Result(list(worst), {"points": points})


def against_torch(
    case: Case, activation: Activation, names: list[str]
) -> tuple[float, dict[str, Any], dict[str, float]]:
    """Seconds of our step; of PyTorch's best form, and its name; of each, once tried.

    Raises:
        ArithmeticError: if one computes another loss or gradient than ours.
    """
    from torch_step import TorchStep

    with workers() as pool:
        learner, step = case.learner(pool, activation)
        E, (words, columns, W, V, _) = learner.gradient(case.words, case.targets)
        U = np.zeros_like(learner.params.U)
        U[:, words] = columns.T
        learner.state[:] = 0
        steps = {}
        for name in names:
            theirs = TorchStep(*case, str(activation), name, ALPHA, learner.limit)
            try:
                loss, gradient = theirs.gradient()
            except Exception as error:
                if "compiled" not in name:
                    raise
                print(f"  torch.compile does not run here: {error!s:.200}")
                continue
            errors = map(gradient_error, gradient, (U, W, V))
            if not max(abs(loss / E * B - 1), *errors) <= 1e-5:
                raise ArithmeticError(f"PyTorch, {name}: another loss or gradient")
            steps[name] = theirs.step
        trial = in_turn(steps, 3)
        form = min(trial, key=trial.__getitem__)
        seconds = in_turn({"ours": step, form: steps[form]}, 9)
    return seconds["ours"], {"PyTorch": seconds[form], "form": form}, trial


def online() -> Result:
    """Learning word by word: words a second, and over PyTorch's in its best form."""
    count, H = 300, 100
    points: list[dict[str, Any]] = []
    for dtype in (np.float32, np.float64):
        case = Case.make(H, (count,), dtype=dtype)
        ways = {"ours": case.online(), **torch_online(case)}
        seconds = in_turn(ways, 7, threads={"ours": CORES})
        points.append(
            {"type": dtype.__name__, **{name: count / s for name, s in seconds.items()}}
        )
    ours = points[0]["ours"]
    theirs = [rate for name, rate in points[0].items() if name.startswith("PyTorch")]
    usual, compiled = (
        [rate for name, rate in points[0].items() if form in name]
        for form in ("autograd", "compiled")
    )
    ratios = [
        ours / max(rates) if rates else None for rates in (usual, compiled, theirs)
    ]
    return Result([ours, *ratios], {"H": H, "points": points})


def torch_online(case: Case) -> dict[str, Callable[[], Any]]:
    """The same by PyTorch, by each of its forms; nothing without PyTorch.

    Raises:
        ArithmeticError: if one finds other costs than ours.
    """
    try:
        from torch_step import TorchOnline
    except ImportError:
        return {}
    costs, _ = learn_online(case.copy(), case.words, case.targets, ALPHA, TAU)
    ways: dict[str, Callable[[], Any]] = {}
    for threads in range(1, CORES + 1):
        for form in ("autograd", "compiled", "by_hand"):
            learn = getattr(TorchOnline(case.params, ALPHA, TAU, threads), form)
            ways[f"PyTorch, {form}, {threads}"] = way = partial(
                learn, case.words, case.targets
            )
            if not np.allclose(way(), costs, rtol=1e-4):
                raise ArithmeticError(f"PyTorch, {form}: other costs")
    return ways


def growth() -> Result:
    """How time and memory grow: with T, with tau, with N and with H."""
    lengths = [25, 50, 100, 200, 400, 800]
    cases = {length: Case.make(100, (length,), 1000) for length in lengths}
    seconds = in_turn({str(t): partial(bptt, *cases[t]) for t in lengths})
    times = list(seconds.values())
    peaks = [peak(partial(bptt, *cases[t])) for t in lengths]
    of_steps = in_turn(ways_to_truncate(100, 200, 5))
    by_N = per_word([(n, 100) for n in (5_000, 10_000, 20_000, 40_000)])
    by_H = per_word([(N, H) for H in SIZES])
    # seconds of a multiplication and of an exponential: from all H at one N only
    constants = fitted(
        [(step_cost(N, H), N) for H in SIZES], [p["seconds"] for p in by_H]
    )
    figures = [
        exponent(lengths[2:], times[2:]),  # from 100 steps on: calls cost no more
        exponent(lengths[2:], peaks[2:]),
        of_steps["together"] / of_steps["one by one"],
        abs(exponent([p["N"] for p in by_N], [p["seconds"] for p in by_N]) - 1),
        *(
            unequal([p["seconds"] / step_cost(p["N"], p["H"]) for p in points])
            for points in (by_N, by_H)
        ),
        predict(by_N, constants),
        predict(by_H, constants),
    ]
    points = {
        "T": [
            {"T": t, "seconds": s, "bytes": b}
            for t, s, b in zip(lengths, times, peaks, strict=True)
        ],
        "tau": of_steps,
        "N": by_N,
        "H": by_H,
    }
    return Result(figures, points)


def ways_to_truncate(H: int, steps: int, tau: int) -> dict[str, Callable[[], Any]]:
    """Errors of all steps sent back together, or each by itself; both give the same."""
    rng = np.random.default_rng(0)
    params = init_parameters(1, H, rng)
    e_h, slopes = rng.normal(size=(2, steps, H))

    def one_by_one() -> NDArray[Any]:
        delta: NDArray[Any] = e_h.copy()
        for t in range(steps):
            error = e_h[t]
            for k in range(1, min(tau, t) + 1):
                error = send_back(params, error, slopes[t - k])
                delta[t - k] += error
        return delta

    def together() -> NDArray[Any]:
        return truncated_error(params, e_h, slopes, tau)

    if not gradient_error(together(), one_by_one()) <= 1e-12:
        raise ArithmeticError("truncated_error differs from steps one by one")
    return {"together": together, "one by one": one_by_one}


def per_word(sizes: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """Seconds a word of a step, measured for each (N, H)."""
    with workers() as pool:
        ways = {
            f"{n} {H}": Case.make(H, vocab_size=n).learner(pool)[1] for n, H in sizes
        }
        seconds = [s / (T * B) for s in in_turn(ways).values()]
    return [
        {"N": n, "H": H, "seconds": s} for (n, H), s in zip(sizes, seconds, strict=True)
    ]


def predict(points: list[dict[str, Any]], constants: NDArray[Any]) -> float:
    """Add what the counts predict, multiplications and exponentials a word, in seconds.

    Returns:
        The largest relative error.
    """
    for point in points:
        counts = np.array([step_cost(point["N"], point["H"]), point["N"]])
        point["predicted"] = float(counts @ constants)
    return max(abs(p["predicted"] / p["seconds"] - 1) for p in points)


def roofline() -> Result:
    """The processor's limits, how near learning comes to them, where its time goes."""
    chunk, words = [], []
    for H in SIZES:
        case, line = Case.make(H), Case.make(H, (200,))
        pairs = 2 * step_cost(N, H)  # a multiplication and an addition each
        with workers() as pool:
            seconds = in_turn({"chunk": case.learner(pool)[1], "word": line.online()})
            pieces = dissect(case, pool)
        # V is read twice a word, and once more and written for every 32 words
        size = 4 * N * H * (2 + 2 / 32)
        chunk.append(
            {"H": H, "seconds": seconds["chunk"],
             "GFLOP/s": pairs * T * B / seconds["chunk"] / 1e9, "pieces": pieces}
        )  # fmt: skip
        words.append(
            {"H": H, "GFLOP/s": pairs * 200 / seconds["word"] / 1e9,
             "operations a byte": pairs / size}
        )  # fmt: skip
    points = {"limits": limits(), "chunk": chunk, "word by word": words}
    return Result([], points)


def limits() -> dict[str, float]:
    """GFLOP/s of a large product; GB/s of sums of arrays in memory and in the cache."""
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 3000, 3000), np.float32)
    c = np.empty_like(a)
    product = partial(np.matmul, a, b, out=c)
    ways: dict[str, Callable[[], Any]] = {"one core": product, "all cores": product}
    seconds = in_turn(ways, 5, threads={"all cores": CORES})
    found = {f"GFLOP/s, {name}": 2 * 3000**3 / s / 1e9 for name, s in seconds.items()}
    with workers() as pool:
        for place, size, times in (("memory", 2**26, 1), ("cache", 2**20, 64)):
            arrays = rng.random((3, CORES, size // CORES), np.float32)

            def add(core: int, arrays: Any = arrays, times: int = times) -> None:
                x, y, z = arrays[:, core]
                for _ in range(times):
                    np.add(x, y, out=z)

            def all_cores(add: Callable[[int], None] = add) -> None:
                list(pool.map(add, range(CORES)))

            seconds = in_turn({"all": all_cores}, 5)
            found[f"GB/s, {place}"] = 3 * 4 * size * times / seconds["all"] / 1e9
    return found


def dissect(case: Case, pool: Any, rounds: int = 20) -> dict[str, float]:
    """Median seconds of the pieces of a step, one after the other.

    In a step itself going back through time, which takes one core, runs beside the
    gradient of V.
    """
    learner, step = case.learner(pool)
    step()
    words, (_, W, V) = case.words, learner.params
    output, H = learner._output, len(W)
    sent = V[case.targets] / B
    states, columns, dW = np.empty((T, B, H), V.dtype), (words, V), W

    def run_states() -> None:
        nonlocal states
        _, states = learner._run(words, W, None)

    def for_all_stripes(task: Callable[[Stripe, NDArray[Any]], Any]) -> None:
        rows = states.reshape(-1, H)
        list(pool.map(lambda part: task(part, rows), output.stripes))

    def logits(part: Stripe, rows: NDArray[Any]) -> None:
        np.matmul(rows, part.V.T, out=part._exponentials)

    def exponentials(part: Stripe, _: NDArray[Any]) -> None:
        np.exp(part._exponentials, out=part._exponentials)

    def back(part: Stripe, _: NDArray[Any]) -> None:
        _ = part._exponentials @ part._ones
        np.matmul(part._exponentials, part.V, out=part._product)

    def slope() -> None:
        tasks = output.backward(states.reshape(-1, H), ALPHA / B)
        list(pool.map(lambda task: task(), tasks))

    def through_time() -> None:
        nonlocal columns, dW
        slopes = learner.activation.slope(states)
        delta = learner._total_error(sent * slopes, slopes, W).reshape(-1, H)
        dW = delta.T @ states.reshape(-1, H)
        columns = column_sums(words.reshape(-1), delta)

    def update() -> None:
        slopes = ChunkGradient(*columns, dW, output.gradient, 1)
        learner._descend(slopes, ALPHA, None)

    pieces = {
        "states": run_states,
        "logits": partial(for_all_stripes, logits),
        "exponentials": partial(for_all_stripes, exponentials),
        "V^T e_o": partial(for_all_stripes, back),
        "dE/dV": slope,
        "through time": through_time,
        "update": update,
    }
    times: dict[str, list[float]] = {name: [] for name in pieces}
    for _ in range(rounds + 1):
        for name, piece in pieces.items():
            start = perf_counter()
            piece()
            times[name].append(perf_counter() - start)
    return {name: median(seconds[1:]) for name, seconds in times.items()}


def batch() -> Result:
    """Words a second by how many are learnt from at a time."""
    H = 200
    line = Case.make(H, (200,))
    ways, sizes = {"one by one": line.online()}, {"one by one": 200}
    with workers() as pool:
        for lanes in (1, 5, 20, 80):
            name = f"{lanes} x {T}"
            ways[name], sizes[name] = (
                Case.make(H, (T, lanes)).learner(pool)[1],
                T * lanes,
            )
        seconds = in_turn(ways)
    points = [
        {"words": name, "words a second": sizes[name] / s}
        for name, s in seconds.items()
    ]
    return Result([], {"H": H, "points": points})


def classes() -> Result:
    """The class model on one thread: how its cost grows with N, and the toolkit."""
    H = 100
    points = [class_point(vocab_size, H) for vocab_size in (N, 50_000, 200_000)]
    for point in points:
        expected = point["multiplications"] / points[0]["multiplications"]
        point["predicted"] = points[0]["seconds"] * expected
    words_a_second = {}
    if "RNNLM" in os.environ:
        words_a_second = against_toolkit(os.environ["RNNLM"], H)
    theirs = words_a_second.get("toolkit")
    return Result(
        [
            *(
                words_a_second[name] / theirs if theirs else None
                for name in ("sgd", "adagrad")
            ),
            points[-1]["seconds"] / points[-1]["predicted"],
        ],
        {"growth": points, "toolkit": words_a_second},
    )


def class_learner(
    case: Case, count: int, optimizer: str = "sgd"
) -> Callable[[], float]:
    """The step of a learner, in this thread, of a model with so many classes."""
    H, N = case.params.U.shape
    edges = class_edges(zipf(N), count)
    found = init_classes(edges, H, np.random.default_rng(0), np.float32)
    layer = partial(ClassLayer, classes=found)
    steps, lanes = case.words.shape
    learner = ChunkLearner(
        case.copy(), lanes, steps, None, optimizer=optimizer, output=layer
    )
    return partial(learner.learn, case.words, case.targets, ALPHA)


def class_point(vocab_size: int, H: int) -> dict[str, Any]:
    """What a word costs, with the best number of classes and with all words."""
    # many lanes: then a row of V that was read serves several words
    case, p = Case.make(H, (T, 5 * B), vocab_size), zipf(vocab_size)
    small = Case.make(H, (T, B), vocab_size)  # the logits of more would take gigabytes
    count = round(np.sqrt(p).sum())
    everything = ChunkLearner(small.copy(), B, T, None)
    ways = {
        "seconds": class_learner(case, count),
        "all words": partial(everything.learn, small.words, small.targets, ALPHA),
    }
    seconds = in_turn(ways, rounds=5)
    cost = class_step_cost(p, class_edges(p, count), H)
    words = {"seconds": case.words.size, "all words": small.words.size}
    return {
        "N": vocab_size,
        "C": count,
        **{name: s / words[name] for name, s in seconds.items()},
        "multiplications": cost,
    }


def against_toolkit(program: str, H: int) -> dict[str, float]:
    """Words a second of Mikolov's toolkit and of ours, with 100 classes, in turn."""
    rng = np.random.default_rng(0)
    start, more = 20_000, 60_000
    words = [f"w{m}" for m in zipf_words(N, (start + more,), rng)]
    case = Case.make(H, (20, 40))
    chunks = more // case.words.size  # as many words as the toolkit: both run on
    steps = {name: class_learner(case, 100, name) for name in ("sgd", "adagrad")}
    rates: dict[str, list[float]] = {name: [] for name in (*steps, "toolkit")}
    with TemporaryDirectory() as folder:
        for count in (start, start + more):
            lines = (" ".join(words[i : i + 20]) for i in range(0, count, 20))
            Path(folder, f"{count}.txt").write_text("\n".join(lines) + "\n")
        for _ in range(11):
            for name, step in steps.items():
                rates[name].append(more / timed(partial(again, step, chunks)))
            short, long = (
                toolkit_seconds(program, folder, count, H)
                for count in (start, start + more)
            )
            rates["toolkit"].append(more * 21 / 20 / (long - short))  # with line ends
    return {name: median(found) for name, found in rates.items()}


def again(step: Callable[[], Any], times: int) -> None:
    """Make a step so many times."""
    for _ in range(times):
        step()


def toolkit_seconds(program: str, folder: str, count: int, H: int) -> float:
    """How long the toolkit takes for one reading of a text of so many words."""
    text, model = Path(folder, f"{count}.txt"), Path(folder, "model")
    options = {"train": text, "valid": Path(folder, "valid.txt"), "rnnlm": model}
    options |= {"hidden": H, "class": 100, "bptt": 4, "bptt-block": 10}
    options["valid"].write_text("w0 w1\n")
    for left in Path(folder).glob("model*"):
        left.unlink()
    flags = [
        str(part) for name, value in options.items() for part in (f"-{name}", value)
    ]
    pause()
    begin = perf_counter()
    subprocess.run([program, *flags, "-one-iter"], check=True, capture_output=True)
    return perf_counter() - begin


SECTIONS: dict[str, Callable[[], Result]] = {
    "limit": limit,
    "online": online,
    "growth": growth,
    "roofline": roofline,
    "batch": batch,
    "classes": classes,
    "torch": torch,  # the last: it changes how memory is kept
}

CLAIMS: dict[str, list[Claim]] = {
    "limit": [
        Claim(f"step / its three products, H = {H}", goal)
        for H, goal in zip(SIZES, (1.6, 1.4, 1.25, None, 1.15), strict=True)
    ],
    "online": [
        Claim("word by word, words a second", 2300, at_least=True),
        Claim("word by word, of PyTorch's autograd", 3, at_least=True),
        Claim("word by word, of PyTorch's autograd, compiled", 3, at_least=True),
        Claim("word by word, of PyTorch by hand, in place", 3, at_least=True),
    ],
    "growth": [
        Claim("exponent of T, time of bptt", 1.1),
        Claim("exponent of T, memory of bptt", 1.1),
        Claim("truncated BPTT / T x tau vector steps", 1),
        Claim("exponent of N, time of a word, distance from 1", 0.1),
        Claim("time of a word, error of multiplications alone, N varies", 0.35),
        Claim("time of a word, error of multiplications alone, H varies", 0.35),
        Claim("time of a word, error of the counts, N varies", 0.35),
        Claim("time of a word, error of the counts, H varies", 0.35),
    ],
    "roofline": [],
    "batch": [],
    "classes": [
        Claim("100 classes, words a second / the toolkit's", 2, at_least=True),
        Claim("the same by AdaGrad", None, at_least=True),
        Claim("classes, a word at N = 200,000 / predicted from 10,000", 1.2),
    ],
    "torch": [
        *(Claim(f"step / PyTorch's, H = {H}", 0.7 if H == 200 else 1) for H in SIZES),
        *(Claim(f"step / PyTorch's, memory kept, H = {H}", None) for H in SIZES),
    ],
}


def report(section: str) -> dict[str, Any]:
    """Run a section, print its claims; what goes into the file."""
    print(section)
    figures, points = SECTIONS[section]()
    claims = []
    for claim, figure in zip(CLAIMS[section], figures, strict=True):
        holds = claim.holds(figure)
        found = "not measured" if figure is None else f"{figure:.4g}"
        sign = ">=" if claim.at_least else "<="
        goal = "no goal" if claim.goal is None else f"{sign} {claim.goal:g}"
        verdict = {True: "holds", False: "falls short", None: ""}[holds]
        print(f"  {claim.name:52}{found:>13}  {goal:9} {verdict}".rstrip(), flush=True)
        claims.append({**claim._asdict(), "figure": figure, "holds": holds})
    return {"machine": machine(), "claims": claims, "points": points}


def main(names: list[str], record: bool) -> int:
    """Run the sections named, or all; 1 if a claim falls short."""
    results = json.loads(FILE.read_text()) if FILE.exists() else {}
    status = 0
    for name in SECTIONS:
        if names and name not in names:
            continue
        results[name] = report(name)
        status |= any(claim["holds"] is False for claim in results[name]["claims"])
        if record:
            FILE.write_text(json.dumps(rounded(results), indent=1) + "\n")
    return int(status)


def rounded(value: Any) -> Any:
    """The same with four digits of each float: more would be noise."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def parse() -> tuple[list[str], bool]:
    """The sections that the command line names, and whether to record them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    known = ", ".join(SECTIONS)
    parser.add_argument("sections", nargs="*", metavar="section", help=known)
    parser.add_argument("--record", action="store_true", help="write speed.json")
    options = parser.parse_args()
    for name in options.sections:
        if name not in SECTIONS:
            parser.error(f"section is {name!r}: expected one of {known}")
    return options.sections, options.record


if __name__ == "__main__":
    sys.exit(main(*parse()))
