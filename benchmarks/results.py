"""Train and measure every model of the chapter `results` on the Penn Treebank.

Usage: python benchmarks/results.py [--data-dir DIR] [name ..]

What a run found is written to `results.json`, which the chapter reads, as soon as the
run is over. Runs that the file has, with the same settings, are left out. A model is
saved in `_results/` after each epoch, and an interrupted run goes on from there. All
runs together take less than three hours on two cores. If the variable RNNLM names the
program of Mikolov's toolkit, `rnnlm`, that is trained, too, on one core.
"""

import argparse
import json
import os
import re
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from measure import CORES, blas_threads, machine
from numpy.typing import NDArray

from rnn import (
    Dropout,
    LanguageModel,
    Vocabulary,
    bigram_probabilities,
    block_means,
    class_edges,
    count_bigrams,
    kneser_ney,
    kneser_ney_probabilities,
    mixture_weights,
    stream,
    unigram_probabilities,
    without_classes,
    word_costs,
)
from rnn._corpora import corpus_path, index_text
from rnn.language_model import Progress
from rnn.words import UNKNOWN

HERE = Path(__file__).parent
FILE, MODELS = HERE / "results.json", HERE.parent / "_results"
HELD_OUT = "valid", "test"
PARTS = "train", *HELD_OUT
#: The words of a block: longer than most subjects last, and yet many blocks.
BLOCK = 500


class Gentle(LanguageModel):
    """A model whose rate rises, from a tenth, within the first 200,000 words."""

    def _learn_chunk(self, run: Any, *arguments: Any) -> float:
        schedule, read = run.schedule, run.position / 200_000
        rate = schedule.alpha * (1 if self.history else min(1, 0.1 + read))
        run.schedule = schedule._replace(alpha=rate)
        cost = super()._learn_chunk(run, *arguments)
        run.schedule = schedule
        return cost


class Memoryless(Gentle):
    """A model whose W stays 0."""

    def _first_weights(self, *arguments: Any) -> Any:
        weights = super()._first_weights(*arguments)
        weights[0].W[:] = 0
        return weights

    def _learn_chunk(self, run: Any, *arguments: Any) -> float:
        cost = super()._learn_chunk(run, *arguments)
        run.params.W[:] = 0
        return cost


class ByFrequency(LanguageModel):
    """A model whose classes have equal shares of the text, as in the source of 2011."""

    def _edges(self, counts: NDArray[Any]) -> NDArray[Any]:
        return class_edges(counts**2, self.classes)  # whose roots are the counts


class Large(Gentle):
    """A model of many units: it begins with less, and drops fewer inputs than states.

    With `begun`, the file of a model with classes, it begins where that has arrived,
    with classes or without.
    """

    begun: Path | None = None

    def _begin(self, vocabulary: Any, indices: Any, held_out: Any, resume: Any) -> Any:
        run = super()._begin(vocabulary, indices, held_out, resume)
        if self.begun and not resume:
            model = LanguageModel.load(self.begun)
            if self.classes:
                run.params, run.classes = model.params, model.word_classes
            else:
                words, _ = stream(indices[:20_000])
                run.params = without_classes(model.params, model.word_classes, words)
            self.params, self.word_classes = run.params, run.classes
        return run

    def _first_weights(self, *arguments: Any) -> Any:
        params, classes = super()._first_weights(*arguments)
        for matrix in (*params, *([classes.Q] if classes else [])):
            matrix *= 0.7  # else the first steps of many units diverge
        return params, classes

    def _learner(self, *arguments: Any) -> Any:
        learner = super()._learner(*arguments)
        learner.dropout = Dropout(inputs=0.4 * self.dropout, states=self.dropout)
        return learner


class Run(NamedTuple):
    """A model and how it is trained.

    Attributes:
        recipe: the source's, or what is known today.
        settings: the arguments of the model.
        kind: the class of the model.
        begun: the run that it begins from, for a large one.
    """

    recipe: str
    settings: dict[str, Any]
    kind: type[LanguageModel] = LanguageModel
    begun: str | None = None


SOURCE, TODAY = "the source's recipe", "with what is known today"
#: Of every word that occurs in the training text.
COMMON = {"dtype": "float32", "min_count": 1}
#: Word by word, the rate 0.1, halved once the validation text gains little.
ONLINE = COMMON | {"tau": 4}
#: Chunks so small that a word moves the weights nearly as much as word by word.
CHUNKS = COMMON | {"batch": 16, "chunk": 12, "optimizer": "sgd", "decay": "linear"}
ABLATION = CHUNKS | {"hidden_size": 100, "alpha": 1.6, "dropout": 0.05, "epochs": 16}
CLASSES = ABLATION | {"classes": 100}
#: Many lanes, and steps that find their own lengths.
QUICK = COMMON | {
    **{"hidden_size": 100, "classes": 100, "batch": 40, "chunk": 20, "epochs": 5},
    **{"optimizer": "adagrad", "decay": "linear", "dropout": 0.05},
}
LARGE = CHUNKS | {"hidden_size": 400, "dropout": 0.5}

RUNS = {
    "source-classes-100": Run(
        SOURCE, ONLINE | {"hidden_size": 100, "classes": 100}, ByFrequency
    ),
    "source-classes-200": Run(
        SOURCE, ONLINE | {"hidden_size": 200, "classes": 100, "tau": 5}, ByFrequency
    ),
    "source-100": Run(SOURCE, ONLINE | {"hidden_size": 100}),
    "source-roots-100": Run(SOURCE, ONLINE | {"hidden_size": 100, "classes": 100}),
    "adagrad-100": Run(TODAY, QUICK, ByFrequency),
    "W = 0": Run(TODAY, CLASSES | {"alpha": 0.3}, Memoryless),
    "tau = 0": Run(TODAY, CLASSES | {"tau": 0}, Gentle),
    "tau = 1": Run(TODAY, CLASSES | {"tau": 1}),
    "tau = 2": Run(TODAY, CLASSES | {"tau": 2}),
    "tau = 4": Run(TODAY, CLASSES | {"tau": 4}),
    "tau = 8": Run(TODAY, CLASSES | {"tau": 8}),
    "exact": Run(TODAY, CLASSES),
    "today-100": Run(TODAY, ABLATION | {"alpha": 0.5, "epochs": 5}, Large, "exact"),
    "today-classes-400": Run(
        TODAY, LARGE | {"classes": 100, "alpha": 1.6, "epochs": 26}, Large
    ),
    "today-again-400": Run(
        TODAY,
        LARGE | {"classes": 100, "alpha": 1.0, "epochs": 14},
        Large,
        "today-classes-400",
    ),
    "today-400": Run(
        TODAY, LARGE | {"alpha": 0.5, "epochs": 5}, Large, "today-again-400"
    ),
}


class Treebank(NamedTuple):
    """The Penn Treebank.

    Attributes:
        paths: the files, by part.
        indices: the word indices, by part.
        vocabulary: all words of the training text.
    """

    paths: dict[str, Path]
    indices: dict[str, NDArray[np.int64]]
    vocabulary: Vocabulary


@cache
def treebank(data_dir: str | None) -> Treebank:
    """The three files, and what a model finds in them."""
    paths = {part: corpus_path(f"ptb.{part}", data_dir) for part in PARTS}
    found = {part: index_text(path) for part, path in paths.items()}
    words, counts = found["train"].types, np.bincount(found["train"].indices)
    vocabulary = Vocabulary.from_counts(dict(zip(words, counts.tolist(), strict=True)))
    indices = {
        part: vocabulary.encode(text.types)[text.indices]
        for part, text in found.items()
    }
    return Treebank(paths, indices, vocabulary)


@cache
def kneser_ney_given(data_dir: str | None) -> dict[str, NDArray[Any]]:
    """What the Kneser-Ney model of order 5 gives to each word, by part."""
    _, indices, vocabulary = treebank(data_dir)
    model = kneser_ney(indices["train"], len(vocabulary), 5)
    return {part: kneser_ney_probabilities(model, indices[part]) for part in HELD_OUT}


def costs_of(
    model: LanguageModel, indices: NDArray[Any], alpha: float
) -> NDArray[np.float64]:
    """What each word costs, if learnt from with a rate afterwards; static with 0."""
    parts = word_costs(
        model.params, indices, alpha, 4, model.activation, model.word_classes
    )
    return np.concatenate(list(parts))


def measured(
    costs: dict[str, NDArray[Any]], dynamic: NDArray[Any] | None = None
) -> dict[str, Any]:
    """What is kept of the costs of words: the validation text's mean, and the means
    of blocks of the test text, whose last words are left over.
    """
    found = {"valid": float(costs["valid"].mean())}
    for name, words in {"static": costs["test"], "dynamic": dynamic}.items():
        if words is not None:
            found[name] = {
                "mean": float(words.mean()),
                "blocks": block_means(words, BLOCK).round(5).tolist(),
            }
    return found


def model_file(name: str) -> Path:
    """Where a run keeps its model."""
    return MODELS / f"{name.replace(' ', '')}.npz"


def train(name: str, data_dir: str | None) -> dict[str, Any]:
    """Train a model, or finish it, and measure it.

    Args:
        name: a key of `RUNS`.
        data_dir: where the corpora are.
    """
    recipe, settings, kind, begun = RUNS[name]
    paths, indices, vocabulary = treebank(data_dir)
    file = model_file(name)
    model = kind(**settings)
    if file.exists():
        kept = kind.load(file)
        if all(getattr(kept, name) == getattr(model, name) for name in settings):
            model = kept
    if isinstance(model, Large) and begun:
        model.begun = model_file(begun)
    file.parent.mkdir(exist_ok=True)
    before = ended = len(model.history)

    def report(_: Progress) -> None:
        nonlocal ended
        if len(model.history) > ended:
            ended = len(model.history)
            model.save(file)
            alpha, *nats = model.history[-1]
            print(name, ended, f"{alpha:.4g}", *np.exp(nats).round(2), flush=True)

    with blas_threads(1):
        start, used = time.perf_counter(), time.process_time()
        if model.training or not before:
            resume = model.training is not None
            model.fit(paths["train"], paths["valid"], resume=resume, progress=report)
            model.save(file)
        assert model.vocabulary == vocabulary
        seconds, used = time.perf_counter() - start, time.process_time() - used
        costs = {part: costs_of(model, indices[part], 0.0) for part in HELD_OUT}
        dynamic = costs_of(model, indices["test"], 0.1)
    given = {
        part: np.stack([np.exp(-costs[part]), kneser_ney_given(data_dir)[part]])
        for part in HELD_OUT
    }
    weights = mixture_weights(given["valid"])
    mixed = {part: -np.log(weights @ given[part]) for part in HELD_OUT}
    learnt = len(model.history) - before
    return {
        "recipe": recipe,
        "kind": kind.__name__,
        "begun": begun,
        "settings": settings,
        "epochs": model.history,
        **measured(costs, dynamic),
        "mixture": {"weight": float(weights[0]), **measured(mixed)},
        # of an epoch; as the last part of a training found it, if it was interrupted
        "seconds": seconds / learnt if learnt else None,
        "processor seconds": used / learnt if learnt else None,
        "machine": machine(),
    }


def toolkit(program: str, data_dir: str | None) -> dict[str, Any]:
    """What Mikolov's toolkit reaches, 100 units and 100 classes, and how soon."""
    paths, _, _ = treebank(data_dir)
    options = ["-hidden", "100", "-class", "100", "-bptt", "4", "-bptt-block", "10"]
    with TemporaryDirectory() as folder:

        def said(*arguments: Any) -> str:
            command = [program, "-rnnlm", Path(folder, "model"), *arguments]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            return run.stdout

        start = time.perf_counter()
        texts = ("-train", paths["train"], "-valid", paths["valid"])
        epochs = re.findall(r"VALID entropy: ([\d.]+)", said(*texts, *options))
        seconds = time.perf_counter() - start
        tested = re.findall(r"PPL net: ([\d.]+)", said("-test", paths["test"]))
    return {
        "options": options,
        "epochs": len(epochs),
        "valid": float(np.exp(min(map(float, epochs)))),  # it prints nats
        "test": float(tested[0]),
        "seconds": seconds,
        "machine": machine(),
    }


def texts(data_dir: str | None) -> dict[str, Any]:
    """How many words each part of the treebank has, and how many are unknown ones."""
    _, indices, vocabulary = treebank(data_dir)
    (unknown,) = vocabulary.encode([UNKNOWN])
    return {
        part: {"words": len(found), "unknown": int((found == unknown).sum())}
        for part, found in indices.items()
    }


def counted(data_dir: str | None) -> dict[str, Any]:
    """The models that count, by name."""
    _, indices, vocabulary = treebank(data_dir)
    N = len(vocabulary)
    unigram = unigram_probabilities(indices["train"], N)
    bigrams = count_bigrams(*stream(indices["train"]), N)
    pairs = {
        part: np.stack(
            [
                bigram_probabilities(bigrams, unigram, *stream(indices[part])),
                unigram[indices[part]],
            ]
        )
        for part in HELD_OUT
    }
    weights = mixture_weights(pairs["valid"])
    trigrams = kneser_ney(indices["train"], N, 3)
    given = {
        "uniform": {part: np.full(len(indices[part]), 1 / N) for part in HELD_OUT},
        "unigram": {part: pair[1] for part, pair in pairs.items()},
        "bigram": {part: weights @ pair for part, pair in pairs.items()},
        "Kneser-Ney, order 3": {
            part: kneser_ney_probabilities(trigrams, indices[part]) for part in HELD_OUT
        },
        "Kneser-Ney, order 5": kneser_ney_given(data_dir),
    }
    return {
        name: measured({part: -np.log(p) for part, p in parts.items()})
        for name, parts in given.items()
    }


def recorded() -> dict[str, Any]:
    """What the file holds."""
    found: dict[str, Any] = {"texts": {}, "counted": {}, "runs": {}, "toolkit": {}}
    return found | (json.loads(FILE.read_text()) if FILE.exists() else {})


def record(kind: str, entries: Mapping[str, Any]) -> None:
    """Add to the file, or replace in it."""
    found = recorded()
    found[kind] |= entries
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    FILE.with_suffix(".tmp").write_text(text)
    FILE.with_suffix(".tmp").replace(FILE)


def missing(names: list[str]) -> list[str]:
    """The runs that the file has not, or not as they stand here."""
    runs = recorded()["runs"]

    def same(name: str) -> bool:
        _, settings, kind, begun = RUNS[name]
        found = runs.get(name, {})
        stands = {"settings": settings, "kind": kind.__name__, "begun": begun}
        return bool(stands.items() <= found.items())

    return [name for name in names if not same(name)]


def main() -> None:
    """Train and measure what the file has not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(RUNS))
    parser.add_argument("--data-dir", metavar="DIR", help="where the corpora are")
    options = parser.parse_args()
    names = missing(options.names or list(RUNS))
    if not options.names:
        record("texts", texts(options.data_dir))
        record("counted", counted(options.data_dir))
        if "RNNLM" in os.environ:
            record("toolkit", toolkit(os.environ["RNNLM"], options.data_dir))
    # with classes, and word by word, one thread is enough: so many at a time
    first = [name for name in names if not RUNS[name].begun]
    with ProcessPoolExecutor(CORES, get_context("spawn")) as pool:
        jobs = {pool.submit(train, name, options.data_dir): name for name in first}
        for job in as_completed(jobs):
            record("runs", {jobs[job]: job.result()})
    for name in names:
        if name not in first:
            record("runs", {name: train(name, options.data_dir)})


if __name__ == "__main__":
    main()
