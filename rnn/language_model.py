"""A language model of real text.

Exported from book/14_language_model.ipynb. Edit that chapter, then run `make export`.
"""

import contextlib
import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from numbers import Real
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ._corpora import IndexedText, index_text
from ._files import ModelFileError, read_arrays, write_arrays
from .classes import (
    Classes,
    ClassLayer,
    ClassOutput,
    check_classes,
    class_edges,
    class_log_outputs,
    class_loss,
    init_classes,
)
from .cross_entropy import loss, perplexity
from .hidden_state import (
    Activation,
    Parameters,
    check_array,
    check_parameters,
    hidden_states,
    init_parameters,
    relu,
    sigmoid,
    tanh,
)
from .minibatch import ChunkLearner, Dropout, Pool, check_count, workers
from .sgd import (
    DivergenceError,
    Memory,
    Moments,
    Schedule,
    lanes,
    learn_online,
    next_schedule,
    zero_sums,
)
from .softmax import generate, log_softmax, logits
from .words import END, UNKNOWN, Vocabulary, check_indices, stream

__all__ = [
    "Epoch",
    "Evaluation",
    "LaneMemory",
    "LanguageModel",
    "Progress",
    "Source",
    "Training",
    "nearest_words",
    "pieces",
    "text_loss",
    "word_costs",
]

#: What a text may come as. The text itself, the path of a file, or several paths.
Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def pieces(
    indices: NDArray[Any], length: int, start: int = 0
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """The words and targets of a text read as one stream, a piece at a time.

    Args:
        indices: the text's word indices, shape (T,).
        length: how many steps a piece has; the last one may be shorter.
        start: the step at which to begin.

    Returns:
        An iterator over pairs, each a stretch of what `stream` gives for the text.
    """
    for first in range(start, len(indices), length):
        targets = indices[first : first + length]
        # the word before the text is `</s>`, index 0
        before = indices[first - 1 : first] if first else np.zeros_like(targets[:1])
        yield np.concatenate([before, targets[:-1]]), targets


def _width(params: Parameters, classes: Classes | None) -> int:
    """How many logits one softmax of a word has at most."""
    if classes:
        return max(len(classes.Q), int(np.diff(classes.edges).max()))
    return len(params.V)


def text_loss(
    params: Parameters,
    indices: ArrayLike,
    activation: Activation = sigmoid,
    classes: Classes | None = None,
) -> float:
    """E = sum_p E_p over the pieces of a text, :eq:`eq-text-loss`, in nats.

    The state is carried from piece to piece, and a piece is short enough that its
    logits stay within some megabytes; its states take H / N as much. Neither grows with
    the text.

    Args:
        params: the parameters U (H, N), W (H, H), V (N, H).
        indices: the text's word indices, shape (T,), read as one stream from s(-1) = 0.
        activation: f of the hidden layer.
        classes: the classes of words, of a model that has them.

    Returns:
        What all words of the text cost.

    Raises:
        ValueError: if an index is out of range, or a number is not finite.
    """
    params = check_parameters(params)
    if classes:
        classes = check_classes(params, classes)
    total, state = 0.0, None
    checked = check_indices("indices", indices, len(params.V))
    for words, targets in pieces(checked, max(1, 2**20 // _width(params, classes))):
        if classes:
            total += class_loss(params, words, targets, classes, state, activation)
        else:
            total += float(loss(params, words, targets, state, activation))
        state = hidden_states(params, words, state, activation)[-1]
    return total


def nearest_words(
    params: Parameters, index: int, count: int
) -> list[tuple[int, float]]:
    """cos(u, v) = u^T v / (norm(u) norm(v)), :eq:`eq-cosine`, for columns of U.

    Args:
        params: the parameters; U (H, N) alone is used.
        index: the word whose neighbours are asked for.
        count: how many of them.

    Returns:
        Pairs (index, cosine), the nearest first, without the word itself; the cosine is
        0 if either column is zero.

    Raises:
        ValueError: if index is not that of a word, or count is negative.
    """
    U = check_parameters(params).U
    check_indices("index", [index], U.shape[1])
    check_count("count", count)
    directions = U / np.maximum(np.linalg.norm(U, axis=0), np.finfo(U.dtype).tiny)
    cosines = directions[:, index] @ directions
    order = [i for i in np.argsort(-cosines, kind="stable").tolist() if i != index]
    return [(i, float(cosines[i])) for i in order[:count]]


class Epoch(NamedTuple):
    """One reading of the training text: the rate, and nats per word.

    Attributes:
        alpha: the learning rate.
        train: what the training text cost, each word before it was learnt from.
        valid: what the validation text cost afterwards.
    """

    alpha: float
    train: float
    valid: float


class Progress(NamedTuple):
    """How far training has come.

    Attributes:
        epoch: the number of the epoch, from 1.
        words: how many words of it were read.
        total: how many it has.
        nats: what they cost so far, in nats per word.
        alpha: the learning rate.
    """

    epoch: int
    words: int
    total: int
    nats: float
    alpha: float


class Evaluation(NamedTuple):
    """What a text costs a model.

    Attributes:
        perplexity: exp of nats.
        nats: nats per word, `</s>` counted as one.
        words: the number of words, `</s>` counted.
        unknown: how many of them are not in the vocabulary; `<unk>` itself is in it.
    """

    perplexity: float
    nats: float
    words: int
    unknown: int


class LaneMemory(NamedTuple):
    """What learning in chunks keeps of the lanes that it has read.

    Attributes:
        states: the last state of each lane, shape (B, H).
        cost: the running mean of a word's cost, in nats.
    """

    states: NDArray[Any]
    cost: float


@dataclass
class Training:
    """A training that is not over; it is saved with the model, to be resumed.

    Attributes:
        params: the parameters that learn; those of the model are the best so far.
        schedule: the learning rate, and what decides when it falls.
        texts: a checksum of the training and validation texts.
        position: how many words of this epoch were read.
        cost: what they cost, in nats.
        memory: the last words and states; None in chunks, and before the first word.
        lanes: the last states in chunks; None word by word, and before the first chunk.
        moments: what Adam remembers; None without it.
        sums: what AdaGrad remembers; None without it.
        classes: the classes of words, whose weights learn too; None without them.
    """

    params: Parameters
    schedule: Schedule
    texts: str
    position: int = 0
    cost: float = 0.0
    memory: Memory | None = None
    lanes: LaneMemory | None = None
    moments: Moments | None = None
    sums: list[NDArray[Any]] | None = None
    classes: Classes | None = None


_Weights = tuple[Parameters, Classes | None]

_ACTIVATIONS = {f.__name__: f for f in (sigmoid, tanh, relu)}
_INTEGERS = {"hidden_size": 1, "epochs": 1, "seed": 0, "min_count": 1, "chunk": 1}
_OPTIONAL = {"tau": 0, "vocab_size": 2, "classes": 1}  # these may be None
_SETTINGS = (
    *("hidden_size", "tau", "epochs", "seed", "min_count", "alpha", "vocab_size"),
    *("characters", "batch", "chunk", "optimizer", "dropout", "classes", "decay"),
)

#: The rate and tau of learning word by word, and the rates in chunks, unless given.
_ALPHA, _TAU, _CHUNK_ALPHAS = 0.1, 4, {"sgd": 1.0, "adam": 0.01, "adagrad": 1.0}


def _optimizer(name: str | None, batch: int, classes: int | None) -> str:
    """The optimizer that is meant, if it can learn such a model; else ValueError."""
    known = ["sgd"]
    if batch > 1:
        known += ["adagrad"] if classes else ["adagrad", "adam"]
    name = known[-1] if name is None else name
    if name not in known:
        raise ValueError(
            f"optimizer is {name!r}: expected sgd, or with a batch above 1 adagrad, "
            "or also without classes adam"
        )
    return name


def _float_type(dtype: DTypeLike) -> np.dtype[Any]:
    """The float type of parameters that can be saved; else ValueError."""
    with contextlib.suppress(TypeError):
        if np.dtype(dtype) in (np.float32, np.float64):
            return np.dtype(dtype)
    raise ValueError(f"dtype is {dtype!r}: expected float32 or float64")


def _encode(vocabulary: Vocabulary, found: IndexedText) -> NDArray[np.int32]:
    """A text's indices in a vocabulary, from those among its own types."""
    places = vocabulary.encode(found.types).astype(np.int32)
    indices: NDArray[np.int32] = places[found.indices]
    return indices


def _piece_length(params: Parameters, classes: Classes | None) -> int:
    """How many words to learn between two reports, fewer for a wide softmax.

    A multiple of 32, which is how many updates of V wait to be added at once: so they
    are added at the same words as if the text were one piece.
    """
    return 32 * min(max(4, 2**16 // _width(params, classes)), 63)


def _chunks(
    indices: NDArray[Any], batch: int, length: int, start: int
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """The words and targets of a text cut into lanes, a chunk at a time."""
    words, targets = (lanes(part, batch) for part in stream(indices))
    for first in range(start, len(targets), length):
        yield words[first : first + length], targets[first : first + length]


def _before_last_tenth(found: IndexedText) -> int:
    """Where the last tenth of a text begins, at a line; the end of the text if not even
    half of it came before.
    """
    count = len(found.indices)
    end = found.types.index(END)
    (ends,) = np.nonzero(found.indices[: count * 9 // 10] == end)
    cut = int(ends[-1]) + 1 if len(ends) else 0
    return cut if 2 * cut >= count else count  # else too little to learn


def _checksum(*texts: NDArray[Any]) -> str:
    """What two pairs of texts have in common only if they are the same."""
    digest = hashlib.sha256()
    for indices in texts:
        digest.update(f"{len(indices)} ".encode())
        digest.update(np.ascontiguousarray(indices).data)
    return digest.hexdigest()


def _copy(params: Parameters, classes: Classes | None) -> _Weights:
    """The same numbers in arrays of their own, in the same order."""
    copies = Parameters(*(matrix.copy(order="K") for matrix in params))
    return copies, classes and classes._replace(Q=classes.Q.copy())


def _tokens(prompt: str, characters: bool) -> list[str]:
    """The tokens of a beginning; no `</s>` closes a last line without a line break."""
    *lines, last = re.split(r"\r\n|\r|\n", prompt)
    split: Callable[[str], list[str]] = list if characters else str.split
    whole = [[*split(line), END] for line in lines if characters or line.split()]
    return [*chain.from_iterable(whole), *split(last)]


def _join(tokens: list[str], characters: bool) -> str:
    """The text of tokens; taken apart, it gives them again."""
    lines: list[list[str]] = [[]]
    for token in tokens:
        if token == END:
            lines.append([])
        else:
            lines[-1].append(token)
    return "\n".join(map(("" if characters else " ").join, lines))


def word_costs(
    params: Parameters,
    indices: NDArray[Any],
    alpha: float = 0.0,
    tau: int = 4,
    activation: Activation = sigmoid,
    classes: Classes | None = None,
) -> Iterator[NDArray[np.float64]]:
    """What each word of a text costs; with a rate, each is then learnt from.

    Args:
        params: the parameters U (H, N), W (H, H), V (N, H); they stay as they are.
        indices: the text's word indices, shape (T,), read as one stream from s(-1) = 0.
        alpha: the rate of that learning; 0 for none.
        tau: how many steps each error is sent back at most.
        activation: f of the hidden layer.
        classes: the classes of words, of a model that has them.

    Returns:
        An iterator over the costs, in nats, of the words of one piece after another.
    """
    if alpha == 0:
        return _static_costs(params, indices, activation, classes)
    return _dynamic_costs(params, indices, alpha, tau, activation, classes)


def _static_costs(
    params: Parameters,
    indices: NDArray[Any],
    activation: Activation,
    classes: Classes | None,
) -> Iterator[NDArray[np.float64]]:
    """`word_costs` without learning: no error is sent back."""
    state, checked = None, check_indices("indices", indices, len(params.V))
    for words, targets in pieces(checked, max(1, 2**20 // len(params.V))):
        states = hidden_states(params, words, state, activation)
        state = states[-1]
        if classes:
            log_y = class_log_outputs(params, states, classes)
        else:
            log_y = log_softmax(logits(params, states))
        yield -log_y[np.arange(len(targets)), targets].astype(np.float64)


def _dynamic_costs(
    params: Parameters,
    indices: NDArray[Any],
    alpha: float,
    tau: int,
    activation: Activation,
    classes: Classes | None,
) -> Iterator[NDArray[np.float64]]:
    """`word_costs` with learning, by a copy of the parameters."""
    params, classes = _copy(params, classes)
    memory = None
    for words, targets in pieces(indices, _piece_length(params, classes)):
        costs, memory = learn_online(
            params,
            words,
            targets,
            alpha,
            tau,
            memory,
            ceiling=math.inf,
            activation=activation,
            output=classes and ClassOutput(params.V, classes),
        )
        yield costs


def _pack(run: Training) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """A training as what JSON holds, and arrays."""
    alpha, best, halving = run.schedule
    memory = run.memory or run.lanes
    header = {
        "alpha": alpha,
        "best": None if math.isinf(best) else best,
        "halving": halving,
        "texts": run.texts,
        "position": run.position,
        "cost": run.cost,
        "recent": memory and memory.cost,
    }
    arrays = _named("training", run.params)
    if run.classes:
        arrays["training.Q"] = run.classes.Q
    if run.memory:
        arrays["training.words"] = run.memory.words
    if memory:
        arrays["training.states"] = memory.states
    names = (f"training.sum.{name}" for name in "UWVQ")
    arrays |= dict(zip(names, run.sums or [], strict=False))
    if run.moments:
        header["steps"] = run.moments.steps
        arrays |= _named("training.mean", run.moments.mean)
        arrays |= _named("training.square", run.moments.square)
    return header, arrays


def _named(prefix: str, params: Parameters) -> dict[str, NDArray[Any]]:
    """The matrices by names with a prefix."""
    return {f"{prefix}.{name}": matrix for name, matrix in params._asdict().items()}


def _unpack(
    header: dict[str, Any],
    arrays: dict[str, NDArray[Any]],
    params: Parameters,
    batch: int,
) -> Training:
    """The training that `_pack` took apart, all but what optimizers remember."""
    best = math.inf if header["best"] is None else _amount(header["best"])
    schedule = Schedule(_amount(header["alpha"]), best, bool(header["halving"]))
    position, recent = _place("position", header["position"]), header["recent"]
    cost, texts = _amount(header["cost"]), str(header["texts"])
    if position % batch or bool(position) != (recent is not None):
        raise ValueError(f"position is {position}, which does not fit")
    run = Training(params, schedule, texts, position, cost)
    if recent is None:
        return run
    N, H = params.V.shape
    states = arrays["training.states"]
    if batch > 1:
        check_array("training.states", states, (batch, H))
        run.lanes = LaneMemory(states, _amount(recent))
    else:
        words = arrays["training.words"]
        if words.shape != (0,):
            check_indices("training.words", words, N)
        check_array("training.states", states, (len(words) + 1, H))
        run.memory = Memory(words, states, _amount(recent))
        if words.ndim != 1:
            raise ValueError("training.words has more than one axis")
    if (states.ndim, states.dtype) != (2, params.V.dtype):
        raise ValueError("training.states does not fit")
    return run


def _place(name: str, number: Any) -> int:
    """How many words or steps a training has come to; else ValueError."""
    if check_count(name, number) >= 2**63:
        raise ValueError(f"{name} is {number}: expected a number of words or steps")
    return int(number)


def _amount(number: Any) -> float:
    """A number that can be one of nats, or a learning rate; else ValueError."""
    if not 0 <= number < math.inf:
        raise ValueError(f"{number} is not 0 or more")
    return float(number)


def _word(word: Any) -> str:
    """A word of a vocabulary, if it is a string."""
    if not isinstance(word, str):
        raise TypeError(f"vocabulary holds {word!r}")
    return word


class LanguageModel:
    """A recurrent network language model of a text, trained word by word or in chunks.

    A text is a string, the path of a UTF-8 file, or a list of such paths; a string of
    one line that names an existing file is that file. Words are what blank space
    separates, and each line ends with `</s>`.

    With a batch above 1 the text is cut into as many lanes, which are read side by
    side, a chunk of steps at a time, as `ChunkLearner` does it; up to B - 1 words at
    the end of the text are left out.

    Args:
        hidden_size: H.
        tau: how many steps each error is sent back at most; None for 4 word by word,
            and for all within its chunk otherwise.
        alpha: the learning rate to begin with; None for 0.1 word by word, and
            otherwise for 0.01 with Adam, 1 without.
        epochs: how often the text is read, at most; with decay "linear" also over how
            many epochs the rate falls.
        seed: decides the initial parameters.
        min_count: words that occur less often are read as `<unk>`.
        vocab_size: the most entries that the vocabulary may have; None for no limit.
        characters: model characters instead of words.
        activation: f of the hidden layer: sigmoid, tanh or relu.
        dtype: the float type of the parameters, float32 or float64.
        batch: B, how many lanes the text is cut into; 1 to learn word by word.
        chunk: how many steps a chunk has, for a batch above 1.
        optimizer: "sgd"; for a batch above 1 also "adagrad" or, without classes,
            "adam". None for "sgd" word by word, and for a batch above 1 for "adam", or
            with classes "adagrad".
        dropout: the probability with which each element of U w(t), and of s(t) on its
            way to V, is dropped while learning, for a batch above 1.
        classes: C, the number of classes of words; None for a softmax over all words.
        decay: "halving", the rate falls once the validation text gains little, as
            `next_schedule` has it; or "linear", it falls in equal steps to 0 over the
            epochs, and what the validation text says only chooses the best of them.

    Attributes:
        vocabulary: the words that it knows; None before `fit`.
        params: the best parameters so far; None before `fit`.
        word_classes: the classes, with the best weights so far; None without classes.
        history: an `Epoch` for each reading of the text.
        training: what `fit(.., resume=True)` goes on from; None once it is over.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        hidden_size: int = 100,
        *,
        tau: int | None = None,
        alpha: float | None = None,
        epochs: int = 30,
        seed: int = 0,
        min_count: int = 2,
        vocab_size: int | None = None,
        characters: bool = False,
        activation: Activation = sigmoid,
        dtype: DTypeLike = np.float64,
        batch: int = 1,
        chunk: int = 35,
        optimizer: str | None = None,
        dropout: float = 0.0,
        classes: int | None = None,
        decay: str = "halving",
    ) -> None:
        self.batch, self.classes = check_count("batch", batch, 1), classes
        self.optimizer = _optimizer(optimizer, self.batch, classes)
        if self.batch == 1:
            defaults: tuple[float, int | None] = _ALPHA, _TAU
        else:
            defaults = _CHUNK_ALPHAS[self.optimizer], None
        self.alpha = defaults[0] if alpha is None else alpha
        self.tau = defaults[1] if tau is None else tau
        self.hidden_size, self.chunk, self.dropout = hidden_size, chunk, dropout
        self.decay = decay
        self.epochs, self.seed, self.min_count = epochs, seed, min_count
        self.vocab_size, self.characters = vocab_size, bool(characters)
        self.activation, self.dtype = activation, _float_type(dtype)
        self.vocabulary: Vocabulary | None = None
        self.params: Parameters | None = None
        self.word_classes: Classes | None = None
        self.history: list[Epoch] = []
        self.training: Training | None = None
        self._check_settings()

    def _check_settings(self) -> None:
        for name, lowest in (_INTEGERS | _OPTIONAL).items():
            count = getattr(self, name)
            if count is not None or name in _INTEGERS:
                setattr(self, name, check_count(name, count, lowest))
        if not isinstance(self.alpha, Real) or not 0 < self.alpha < math.inf:
            raise ValueError(
                f"alpha is {self.alpha!r}: expected a finite number above 0"
            )
        self.alpha = float(self.alpha)
        within = isinstance(self.dropout, Real) and 0 <= self.dropout < 1
        if not within or (self.dropout and self.batch == 1):
            raise ValueError(
                f"dropout is {self.dropout!r}: expected a number from 0 to below 1, "
                "and 0 with a batch of 1"
            )
        self.dropout = float(self.dropout)
        if self.decay not in ("halving", "linear"):
            raise ValueError(f"decay is {self.decay!r}: expected halving or linear")
        if self.activation not in _ACTIVATIONS.values():
            names = ", ".join(_ACTIVATIONS)
            raise ValueError(
                f"activation is {self.activation!r}: expected one of {names}"
            )

    def fit(
        self,
        text: Source,
        valid: Source | None = None,
        *,
        resume: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> "LanguageModel":
        """Read a text again and again, learning, until the rate is 0, or epochs times.

        Args:
            text: what to learn.
            valid: the validation text; None holds out the last tenth of `text`, in
                whole lines, or takes `text` itself if not even half would be left.
            resume: go on with a training that was interrupted, saved and loaded.
            progress: called between pieces of the text, or chunks. What it raises ends
                `fit`; the model may be saved all the same, and resumed.

        Returns:
            The model itself, with the parameters that did best on the validation text.

        Raises:
            DivergenceError: if the learning rate is too large. The model is the best so
                far; in the first epoch, that which training began with.
            ValueError: if a text cannot be read, has fewer words than the batch has
                lanes, or is not the one that the training to be resumed began with.
        """
        vocabulary, indices, held_out = self._read_texts(text, valid, resume)
        run = self._begin(vocabulary, indices, held_out, resume)
        threads: contextlib.AbstractContextManager[Pool] = contextlib.nullcontext()
        if self.classes:  # products too small to be shared
            threads = workers(1)
        elif self.batch > 1:
            threads = workers()
        with threads as pool:
            while run.schedule.alpha > 0 and len(self.history) < self.epochs:
                self._read_epoch(run, indices, pool, progress)
                cost = text_loss(run.params, held_out, self.activation, run.classes)
                self._end_epoch(run, cost / len(held_out))
        if run.schedule.alpha == 0:
            self.training = None
        return self

    def _read_texts(
        self, text: Source, valid: Source | None, resume: bool
    ) -> tuple[Vocabulary, NDArray[np.int32], NDArray[np.int32]]:
        """The indices of the two texts, in a vocabulary made from the first."""
        found = index_text(text, self.characters)
        cut = _before_last_tenth(found) if valid is None else len(found.indices)
        if resume:
            vocabulary, _ = self._trained()
        else:
            counts = np.bincount(found.indices[:cut], minlength=len(found.types))
            pairs = zip(found.types, counts.tolist(), strict=True)
            vocabulary = Vocabulary.from_counts(
                {word: count for word, count in pairs if count},
                self.vocab_size,
                self.min_count,
                unknown=True,
            )
        indices = _encode(vocabulary, found)
        if valid is not None:
            held_out = _encode(vocabulary, index_text(valid, self.characters))
        else:
            held_out = indices[cut:] if cut < len(indices) else indices
        if cut < self.batch:
            raise ValueError(
                f"batch is {self.batch}: expected at most {cut}, as the text has so "
                "many words; take a smaller batch or a longer text"
            )
        if self.classes and self.classes > len(vocabulary):
            raise ValueError(
                f"classes is {self.classes}: expected at most {len(vocabulary)}, the "
                "size of the vocabulary"
            )
        return vocabulary, indices[:cut], held_out

    def _begin(
        self,
        vocabulary: Vocabulary,
        indices: NDArray[Any],
        held_out: NDArray[Any],
        resume: bool,
    ) -> Training:
        """The training to go on with: a new one, or the one to be resumed."""
        texts = _checksum(indices, held_out)
        if not resume:
            self.vocabulary, self.history = vocabulary, []
            counts = np.bincount(indices, minlength=len(vocabulary))
            edges = self._edges(counts) if self.classes else None
            params, classes = self._first_weights(vocabulary, edges)
            self.training = Training(params, Schedule(self.alpha), texts)
            self.training.classes = classes
            if self.optimizer == "adam":
                means = (Parameters(*map(np.zeros_like, params)) for _ in range(2))
                self.training.moments = Moments(0, *means)
            elif self.optimizer == "adagrad":
                more = [np.zeros_like(classes.Q[:, :1])] if classes else []
                self.training.sums = [*zero_sums(params), *more]
        elif self.training is None:
            raise ValueError(
                "resume is True, but the training is over, or was interrupted within a "
                "piece: train anew without it"
            )
        elif self.training.texts != texts:
            raise ValueError(
                "text or valid is not what the training began with: resume with that, "
                "or train anew"
            )
        if not self.history:
            # none are better yet
            self.params = self.training.params
            self.word_classes = self.training.classes
        return self.training

    def _edges(self, counts: NDArray[Any]) -> NDArray[np.int64]:
        """Where the classes of words end; a subclass may cut them otherwise."""
        return class_edges(counts, cast(int, self.classes))

    def _first_weights(
        self, vocabulary: Vocabulary, edges: NDArray[Any] | None
    ) -> _Weights:
        """The parameters and classes that training begins with."""
        rng, H = np.random.default_rng(self.seed), self.hidden_size
        params = init_parameters(len(vocabulary), H, rng, self.dtype)
        if edges is not None:
            return params, init_classes(edges, H, rng, self.dtype)
        if self.batch == 1:  # in this order learn_online copies V faster
            params = params._replace(V=np.asfortranarray(params.V))
        return params, None

    def _read_epoch(
        self,
        run: Training,
        indices: NDArray[Any],
        pool: Pool,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        """Learn from the rest of the text, a piece or a chunk at a time."""
        steps, epoch = len(indices) // self.batch, len(self.history) + 1
        if self.batch == 1:
            length = _piece_length(run.params, run.classes)
            parts = pieces(indices, length, run.position)
            learn = partial(self._learn_piece, run)
        else:
            start = run.position // self.batch
            parts = _chunks(indices, self.batch, self.chunk, start)
            learn = partial(self._learn_chunk, run, self._learner(run, steps, pool))
        for words, targets in parts:
            try:
                run.cost += learn(words, targets)
                run.position += targets.size
            except BaseException as error:
                self._give_up(error, run, targets.size)
                raise
            if progress:
                total, nats = steps * self.batch, run.cost / run.position
                alpha = run.schedule.alpha
                progress(Progress(epoch, run.position, total, nats, alpha))

    def _learn_piece(
        self, run: Training, words: NDArray[Any], targets: NDArray[Any]
    ) -> float:
        """What a piece cost before it was learnt word by word."""
        costs, run.memory = learn_online(
            run.params,
            words,
            targets,
            run.schedule.alpha,
            cast(int, self.tau),
            run.memory,
            activation=self.activation,
            output=run.classes and ClassOutput(run.params.V, run.classes),
        )
        return float(costs.sum())

    def _learner(self, run: Training, steps: int, pool: Pool) -> ChunkLearner:
        """What learns an epoch of so many steps in chunks, from where it is."""
        learner = ChunkLearner(
            run.params,
            self.batch,
            min(self.chunk, steps),
            pool,
            self.activation,
            self.tau,
            dropout=Dropout(inputs=self.dropout, states=self.dropout),
            optimizer=self.optimizer,
            output=run.classes and partial(ClassLayer, classes=run.classes),
        )
        learner.moments = run.moments
        for h, kept in zip(learner.sums or [], run.sums or [], strict=True):
            h[:] = kept
        if run.lanes:
            learner.state, learner.cost = run.lanes
        return learner

    def _learn_chunk(
        self,
        run: Training,
        learner: ChunkLearner,
        words: NDArray[Any],
        targets: NDArray[Any],
    ) -> float:
        """What a chunk cost before it was learnt."""
        step = run.position // self.batch
        # a generator for each chunk, so that there is none to be saved
        rng = np.random.default_rng([self.seed, len(self.history), step])
        cost = learner.learn(words, targets, run.schedule.alpha, rng)
        run.lanes = LaneMemory(learner.state, cast(float, learner.cost))
        run.moments, run.sums = learner.moments, learner.sums
        return cost

    def _give_up(self, error: BaseException, run: Training, count: int) -> None:
        """End a training in the midst of a piece of so many words."""
        self.training = None  # not to be resumed
        if isinstance(error, DivergenceError):
            if not self.history:  # no better ones are known
                edges = run.classes and run.classes.edges
                first = self._first_weights(self._trained()[0], edges)
                self.params, self.word_classes = first
            words, epoch = run.position + count, len(self.history) + 1
            raise DivergenceError(
                f"alpha is {run.schedule.alpha:.6g}: learning diverged within the "
                f"first {words} words of epoch {epoch}; take a smaller alpha"
            ) from error

    def _end_epoch(self, run: Training, nats: float) -> None:
        """Keep the parameters if they are the best; when halving, go back if not."""
        train = run.cost / run.position
        self.history.append(Epoch(run.schedule.alpha, train, nats))
        if nats < run.schedule.best:
            self.params, self.word_classes = _copy(run.params, run.classes)
        elif self.decay == "halving":
            run.params, run.classes = _copy(self._trained()[1], self.word_classes)
        run.schedule = next_schedule(run.schedule, nats)
        if self.decay == "linear":
            rate = self.alpha * (1 - len(self.history) / self.epochs)
            run.schedule = run.schedule._replace(alpha=max(rate, 0.0))
        run.position, run.cost, run.memory, run.lanes = 0, 0.0, None, None

    def _trained(self) -> tuple[Vocabulary, Parameters]:
        """The vocabulary and the parameters, if there are any."""
        if self.vocabulary is None:
            raise ValueError(
                "the model knows no text yet: call fit(text), or LanguageModel.load"
            )
        return self.vocabulary, cast(Parameters, self.params)

    def evaluate(
        self, text: Source, dynamic: bool = False, alpha: float | None = None
    ) -> Evaluation:
        """What a text costs, read as one stream from s(-1) = 0.

        Args:
            text: the text to be predicted.
            dynamic: go on learning while reading; each word is predicted before it is
                learnt from, by errors that are sent back tau steps, or 4 if training
                was in chunks. The model itself stays as it is.
            alpha: the rate of that learning, word by word; None for the one that
                training began with, or for 0.1 if that was in chunks.

        Returns:
            The `Evaluation`.

        Raises:
            DivergenceError: if dynamic, and so large a rate that a cost is not finite.
            ValueError: if the model was not trained, the text cannot be read, or alpha
                is negative, not finite, or given without dynamic.
        """
        if alpha is not None and not dynamic:
            raise ValueError(
                f"alpha is {alpha} and dynamic False: give alpha with dynamic=True only"
            )
        vocabulary, params = self._trained()
        found = index_text(text, self.characters)
        outside = np.array([word not in vocabulary for word in found.types])
        indices = _encode(vocabulary, found)
        if dynamic:
            online = self.batch == 1
            usual = self.alpha if online else _ALPHA
            costs = word_costs(
                params,
                indices,
                usual if alpha is None else alpha,
                cast(int, self.tau) if online else _TAU,
                self.activation,
                self.word_classes,
            )
            cost = sum(float(piece.sum()) for piece in costs)
        else:
            cost = text_loss(params, indices, self.activation, self.word_classes)
        nats = cost / len(indices)
        unknown = int(np.count_nonzero(outside[found.indices]))
        return Evaluation(float(perplexity(nats)), nats, len(indices), unknown)

    def perplexity(
        self, text: Source, dynamic: bool = False, alpha: float | None = None
    ) -> float:
        """The perplexity of a text, `</s>` counted; the arguments of `evaluate`."""
        return self.evaluate(text, dynamic, alpha).perplexity

    def sample(
        self,
        rng: np.random.Generator,
        words: int = 50,
        temperature: float = 1.0,
        prompt: str = "",
    ) -> str:
        """A text that the model makes up, one word after another, :eq:`eq-generate`.

        Args:
            rng: where the randomness comes from.
            words: how many words to draw, `</s>` counted; characters, if the model is
                one of characters.
            temperature: below 1 for the more probable, 0 for the most probable.
            prompt: how the text begins.

        Returns:
            The prompt and what follows it, a line break for each `</s>`.

        Raises:
            ValueError: if the model was not trained, or an argument is out of range.
        """
        vocabulary, params = self._trained()
        check_count("words", words)
        begin = _tokens(prompt, self.characters)
        read = vocabulary.encode([END, *begin])
        scores = logits
        if self.word_classes:
            scores = partial(class_log_outputs, classes=self.word_classes)
        drawn = generate(
            params, rng, words, read, temperature, None, self.activation, scores
        )
        drawn_words = vocabulary.decode(drawn) if len(drawn) else []
        return _join([*begin, *drawn_words], self.characters)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, which stays whole whatever happens.

        Args:
            path: the file, such as `model.npz`.

        Raises:
            ValueError: if the model was not trained.
            OSError: if the file cannot be written; one that was there stays as it was.
        """
        write_arrays(path, *_packed(self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "LanguageModel":
        """The model that a file holds.

        Raises:
            ModelFileError: if the file is damaged, or is not a model's.
            OSError: if the file cannot be read.
        """
        header, arrays = read_arrays(path)
        try:
            return _unpacked(cls, header, arrays)
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            name = os.fsdecode(path)
            raise ModelFileError(
                f"{name if name.isprintable() else repr(name)} holds no model that "
                f"fits together ({error!r:.200}): train or copy it anew"
            ) from error


def _packed(model: LanguageModel) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What a file holds, as a header and arrays."""
    vocabulary, params = model._trained()
    settings = {name: getattr(model, name) for name in _SETTINGS}
    settings |= {"activation": repr(model.activation), "dtype": model.dtype.name}
    header = {
        "settings": settings,
        "vocabulary": list(vocabulary.words),
        "history": [list(epoch) for epoch in model.history],
    }
    arrays: dict[str, NDArray[Any]] = params._asdict()
    if model.word_classes:
        arrays |= model.word_classes._asdict()
    if model.training:
        header["training"], more = _pack(model.training)
        arrays |= more
    return header, arrays


def _unpacked(
    cls: type[LanguageModel], header: dict[str, Any], arrays: dict[str, NDArray[Any]]
) -> LanguageModel:
    """The model from what a file holds, every part checked."""
    settings = {**header["settings"]}
    settings["activation"] = _ACTIVATIONS[settings["activation"]]
    model = cls(**{**settings, "dtype": str(settings["dtype"])})
    model.vocabulary = Vocabulary(tuple(map(_word, header["vocabulary"])))
    if UNKNOWN not in model.vocabulary:
        raise ValueError(f"vocabulary lacks {UNKNOWN}")
    model.params = _fitting(model, arrays, "")
    if model.classes:
        model.word_classes = _classes(model, arrays, "Q")
    model.history = [Epoch(*map(_amount, epoch)) for epoch in header["history"]]
    if "training" in header:
        run, params = header["training"], _fitting(model, arrays, "training.")
        model.training = _unpack(run, arrays, params, model.batch)
        if model.classes:
            model.training.classes = _classes(model, arrays, "training.Q")
        if model.optimizer == "adam":
            model.training.moments = _moments(model, run["steps"], arrays)
        elif model.optimizer == "adagrad":
            model.training.sums = _sums(model, arrays)
    again, kept = _packed(model)
    same = all(kept.get(name) is array for name, array in arrays.items())
    if repr(again) != repr(header) or not same:
        raise ValueError("it would not be saved so")
    return model


def _moments(
    model: LanguageModel, steps: Any, arrays: dict[str, NDArray[Any]]
) -> Moments:
    """What Adam remembers, every part checked."""
    mean = _fitting(model, arrays, "training.mean.")
    square = _fitting(model, arrays, "training.square.")
    if min(float(matrix.min()) for matrix in square) < 0:
        raise ValueError("training.square holds a negative number")
    return Moments(_place("steps", steps), mean, square)


def _sums(model: LanguageModel, arrays: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """What AdaGrad remembers, every part checked."""
    (H, N), C = (model.hidden_size, len(model._trained()[0])), model.classes
    shapes = {"U": (H, N), "W": (H, 1), "V": (N, 1), "Q": (C, 1)}
    sums = []
    for name in "UWVQ" if C else "UWV":
        h = check_array(name, arrays[f"training.sum.{name}"], shapes[name])
        if h.dtype != model.dtype or h.shape != shapes[name]:
            raise ValueError(f"training.sum.{name} does not fit the settings")
        if h.min() < 0:
            raise ValueError(f"training.sum.{name} holds a negative number")
        sums.append(h)
    return sums


def _classes(
    model: LanguageModel, arrays: dict[str, NDArray[Any]], name: str
) -> Classes:
    """The classes, with the weights of this name, if they fit the settings."""
    found = Classes(arrays[name], arrays["edges"])
    Q, _ = check_classes(model._trained()[1], found)
    types_fit = Q.dtype == model.dtype and found.edges.dtype == np.int64
    if not types_fit or Q.shape != (model.classes, model.hidden_size):
        raise ValueError(f"{name} does not fit the settings")
    return found


def _fitting(
    model: LanguageModel, arrays: dict[str, NDArray[Any]], prefix: str
) -> Parameters:
    """Matrices as parameters, if they fit the vocabulary and the settings."""
    U, W, V = (arrays[prefix + name] for name in "UWV")
    params = check_parameters((U, W, V))
    size = (model.hidden_size, len(model._trained()[0]))
    for name, matrix in params._asdict().items():
        check_array(name, matrix, matrix.shape)
        if matrix.dtype != model.dtype or params.U.shape != size:
            raise ValueError(f"{name} does not fit the settings")
    return params
