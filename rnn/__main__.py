"""The command line: `python -m rnn`, or `rnn` where the package is installed.

Written by hand, without model code; the chapter `language_model` shows it in use.
"""

import argparse
import contextlib
import json
import math
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np
from tqdm import tqdm

from ._corpora import CORPORA, corpus_path
from .cross_entropy import perplexity
from .hidden_state import relu, sigmoid, tanh
from .language_model import Epoch, LanguageModel, Progress
from .sgd import DivergenceError

ACTIVATIONS = {f.__name__: f for f in (sigmoid, tanh, relu)}
CHECKPOINT_SECONDS = 300

# The options of `train` that are arguments of LanguageModel.
SETTINGS: tuple[tuple[str, str, Any, str], ...] = (
    ("--hidden", "hidden_size", int, "hidden units"),
    ("--epochs", "epochs", int, "readings of the text at most"),
    ("--alpha", "alpha", float, "learning rate"),
    ("--tau", "tau", int, "steps that an error is sent back"),
    ("--min-count", "min_count", int, "words that occur less often are unknown"),
    ("--vocab-size", "vocab_size", int, "most words in the vocabulary"),
    ("--activation", "activation", list(ACTIVATIONS), "of the hidden layer"),
    ("--dtype", "dtype", ["float32", "float64"], "of the parameters"),
    ("--seed", "seed", int, "of the first parameters"),
    ("--batch", "batch", int, "lanes read side by side, in chunks; 1: word by word"),
    ("--chunk", "chunk", int, "steps of a chunk, with --batch"),
    (
        "--optimizer",
        "optimizer",
        ["sgd", "adagrad", "adam"],
        "of chunks; with --classes adagrad",
    ),
    ("--dropout", "dropout", float, "how much is dropped, with --batch"),
    ("--classes", "classes", int, "classes of words: faster, not by adam"),
    ("--decay", "decay", ["halving", "linear"], "how the learning rate falls"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if all went well, 2 for a mistake, 130 after Ctrl-C."""
    status = 0
    try:
        with contextlib.suppress(SystemExit):  # after --help
            options = _parser().parse_args(arguments)
            status = options.command(options)
        print(end="", flush=True)
    except KeyboardInterrupt:
        status = _complain("interrupted", 130)
    except MemoryError:
        status = _complain("out of memory: try less --hidden, --vocab-size or --batch")
    except BrokenPipeError:  # whoever read the output has gone
        status = 1
    except UnicodeEncodeError as error:
        status = _complain(
            f"standard output, in {error.encoding}, cannot hold "
            f"{error.object[error.start]!a}: set PYTHONIOENCODING to another encoding"
        )
    except (OSError, ValueError) as error:
        status = _complain(str(error))
    try:
        print(end="", flush=True)
    except OSError:  # or it would be tried again, and fail, at the end of the process
        with contextlib.suppress(OSError):
            sys.stdout.close()
    if arguments is None:  # the process ends; there is nothing left to interrupt
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return status


def _complain(message: str, status: int = 2) -> int:
    """Say what is wrong in one line on standard error."""
    if sys.stderr:
        print("rnn:", _in_a_line(message), file=sys.stderr)
    return status


def _escaped(text: str) -> str:
    """A text that a terminal shows and does not obey; line breaks and tabs stay."""
    controls = r"[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
    return re.sub(controls, lambda found: ascii(found[0])[1:-1], text)


def _in_a_line(text: str) -> str:
    """A text that a terminal shows in one line."""
    return _escaped(text).replace("\n", "\\n")


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes are told as all others are."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = _Parser(
        prog="rnn",
        description="A recurrent network language model of your own text.",
        epilog=f"TEXT is a UTF-8 file, or a corpus by name: ptb, {', '.join(CORPORA)}.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="learn a text")
    train.set_defaults(command=_train)
    train.add_argument("text", nargs="+", metavar="TEXT", help="what to learn")
    train.add_argument("--model", required=True, metavar="M.npz", help="where to save")
    train.add_argument("--valid", metavar="TEXT", help="decides when to stop (default: "
                       "the last tenth of what to learn)")  # fmt: skip
    train.add_argument("--resume", action="store_true", help="go on with a training "
                       "that was interrupted")  # fmt: skip
    for option, name, kind, text in SETTINGS:
        text += f" (default: {_default(name)})"
        if isinstance(kind, list):
            train.add_argument(option, dest=name, choices=kind, help=text)
        else:
            metavar = option.split("-")[-1].upper()
            train.add_argument(option, dest=name, type=kind, metavar=metavar, help=text)
    train.add_argument("--char", dest="characters", action="store_true", default=None,
                       help="characters, not words")  # fmt: skip

    evaluate = commands.add_parser("evaluate", help="the perplexity of a text")
    evaluate.set_defaults(command=_evaluate)
    evaluate.add_argument("--dynamic", action="store_true", help="learn while reading")
    evaluate.add_argument("--alpha", type=float, help="learning rate of --dynamic "
                          "(default: that of training, 0.1 if in chunks)")  # fmt: skip
    evaluate.add_argument("--json", action="store_true", help="print JSON")

    sample = commands.add_parser("sample", help="make up a text")
    sample.set_defaults(command=_sample)
    sample.add_argument("--words", type=int, default=50, help="how many (default: 50)")
    sample.add_argument("--temperature", type=float, default=1.0, metavar="X",
                        help="less than 1 is more cautious (default: 1)")  # fmt: skip
    sample.add_argument("--seed", type=int, default=0, help="default: 0")
    sample.add_argument("--prompt", default="", help="how the text begins")

    info = commands.add_parser("info", help="what a model file holds")
    info.set_defaults(command=_info)

    for command in (evaluate, sample, info):
        command.add_argument("model", metavar="M.npz", help="a model file")
    evaluate.add_argument("text", nargs="+", metavar="TEXT", help="what to predict")
    for command in (train, evaluate):
        command.add_argument("--data-dir", metavar="DIR", help="where the corpora are "
                             "(default: RNN_DATA_DIR)")  # fmt: skip
    return parser


def _default(name: str) -> str:
    """What an option is unless given, and with --batch if that is something else."""
    online, adam, sgd = (
        getattr(LanguageModel(batch=batch, optimizer=optimizer), name)
        for batch, optimizer in ((1, "sgd"), (2, "adam"), (2, "sgd"))
    )
    text = f"{_told(name, online)}"
    if name != "batch" and adam != online:
        text += f", with --batch {_told(name, adam)}"
    return text + (f" or for sgd and adagrad {sgd:g}" if name == "alpha" else "")


def _told(name: str, setting: Any) -> Any:
    """A setting as it is told to people."""
    if setting is None:
        return "none" if name == "classes" else "no limit"
    return setting


def _texts(names: Sequence[str], part: str, data_dir: str | None) -> list[Path]:
    """The files that are meant: paths, or corpora by name where no file has it."""
    paths = []
    for name in names:
        path = Path(name)
        corpus = f"ptb.{part}" if name == "ptb" else name
        if corpus in CORPORA and (path.is_dir() or not path.exists()):
            path = corpus_path(corpus, data_dir)
        paths.append(path)
    return paths


def _train(options: argparse.Namespace) -> int:
    """Train a model and save it, again and again while it gets better."""
    with _Watch(Path(options.model)) as watch:
        try:
            return _learn(options, watch)
        except KeyboardInterrupt:
            found = watch.kept or "no model was saved yet"
            return _complain(f"interrupted: {found}", 130)
        except DivergenceError as error:
            watch.report()  # the epoch that has just ended
            raise ValueError(
                "; ".join(filter(None, [str(error), watch.kept]))
            ) from error


def _learn(options: argparse.Namespace, watch: "_Watch") -> int:
    """Train a model under a watch."""
    names = [*(name for _, name, *_ in SETTINGS), "characters"]
    given = {name: getattr(options, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if options.activation:
        given["activation"] = ACTIVATIONS[options.activation]
    if options.resume:
        model = _resumable(watch.path, given)
    else:
        model = LanguageModel(**given)
        _check_target(watch.path)
    texts = _texts(options.text, "train", options.data_dir)
    by_name = options.text == ["ptb"] and texts != [Path("ptb")]
    valid = options.valid or ("ptb" if by_name else None)
    held_out = _texts([valid], "valid", options.data_dir) if valid else None
    watch.begin(model, options.resume)
    model.fit(texts, held_out, resume=options.resume, progress=watch)
    watch.report()
    watch.save()
    if watch.stopping:  # in the last moment
        raise KeyboardInterrupt
    _say(f"{watch.path} holds the best model{_its_perplexity(model)}")
    return 0


def _resumable(path: Path, given: dict[str, Any]) -> LanguageModel:
    """The model whose training goes on, if it is the one asked for."""
    model = LanguageModel.load(path)
    asked = LanguageModel(**{"batch": model.batch, **given})
    if "epochs" in given:
        model.epochs = asked.epochs
    for name in given:
        value = getattr(model, name)
        if value != getattr(asked, name):
            raise ValueError(
                f"--resume goes on as {path} began, with {name} = "
                f"{_told(name, value)}: leave the option out, or train anew"
            )
    return model


def _check_target(path: Path) -> None:
    """Refuse, before hours of training, a place where no model can be saved."""
    folder = Path(os.path.realpath(path)).parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"--model is {path}: {folder} cannot be written to, name "
                              "a file in a folder that can")  # fmt: skip
    if path.exists():
        try:
            if not path.is_file():
                raise ValueError(f"{path} is no regular file")
            LanguageModel.load(path)
        except ValueError as error:
            raise ValueError(
                f"--model would overwrite what is no model: {error}"
            ) from error


def _its_perplexity(model: LanguageModel) -> str:
    """What there is to say of the best epoch."""
    if not model.history:
        return ", before the end of its first epoch"
    best = min(epoch.valid for epoch in model.history)
    return f", of validation perplexity {perplexity(best):.2f}"


def _line(number: int, epoch: Epoch) -> str:
    """What an epoch did, in a line."""
    train, valid = perplexity(epoch.train), perplexity(epoch.valid)
    return (
        f"epoch {number:2}  alpha {epoch.alpha:<9.4g} perplexity: "
        f"training {train:.2f}, validation {valid:.2f}"
    )


def _say(line: str) -> None:
    """Print a line at once, in whatever encoding; file names can hold anything."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    line = _in_a_line(line).encode(encoding, "backslashreplace").decode(encoding)
    print(line, flush=True)


class _Watch:
    """Shows how far training is, saves the model, and waits for Ctrl-C.

    Attributes:
        path: where the model is saved.
        kept: what is saved there; empty before there is anything of this training.
        stopping: whether Ctrl-C came, and the words at hand are the last.
    """

    model: LanguageModel

    def __init__(self, path: Path) -> None:
        self.path, self.kept = path, ""
        self.learning = self.stopping = False
        self.reported = self.epoch = 0
        self.bar: Any = None

    def __enter__(self) -> "_Watch":
        self.handlers = {
            number: signal.signal(number, self._stop)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *error: object) -> None:
        self._close()
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Let the words at hand be learnt first; at the second time, stop at once."""
        if self.stopping or not self.learning:
            raise KeyboardInterrupt
        self.stopping = True

    def begin(self, model: LanguageModel, resumed: bool) -> None:
        """Watch a model, which may be in the file already."""
        self.model, self.reported = model, len(model.history)
        if resumed:
            self._note()

    def __call__(self, progress: Progress) -> None:
        """Between two pieces of the text: show, save when it is time, stop if asked."""
        if not self.learning:
            self.learning, self.saved = True, time.monotonic()
        self.report()
        if self.stopping:
            self.save()
            raise KeyboardInterrupt
        if time.monotonic() > self.saved + CHECKPOINT_SECONDS:
            self.save()
        if self.epoch != progress.epoch:
            self._close()
            self.epoch = progress.epoch
            self.bar = tqdm(
                desc=f"epoch {progress.epoch}",
                total=progress.total,
                initial=progress.words,
                unit=" words",
                disable=not (sys.stderr and sys.stderr.isatty()),
                leave=False,
                dynamic_ncols=True,
            )
        loss, ppl = f"{progress.nats:.3f}", f"{perplexity(progress.nats):.1f}"
        self.bar.set_postfix(loss=loss, perplexity=ppl, refresh=False)
        self.bar.update(progress.words - self.bar.n)

    def _close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()

    def report(self) -> None:
        """Save the model, and print a line, for each epoch that has ended."""
        new = self.model.history[self.reported :]
        if new:
            self.save()
            self._close()
        for epoch in new:
            self.reported += 1
            _say(_line(self.reported, epoch))

    def save(self) -> None:
        """Save the model with its training."""
        self.model.save(self.path)
        self.saved = time.monotonic()
        self._note()

    def _note(self) -> None:
        """Remember what the file holds."""
        resume = "; --resume goes on from there" if self.model.training else ""
        self.kept = (
            f"{self.path} holds the best model so far"
            f"{_its_perplexity(self.model)}{resume}"
        )


def _evaluate(options: argparse.Namespace) -> int:
    """Print what a text costs a model."""
    model = LanguageModel.load(options.model)
    texts = _texts(options.text, "test", options.data_dir)
    found = model.evaluate(texts, options.dynamic, options.alpha)
    if options.json:
        rounded = (float(f"{x:.6g}") for x in found[:2])
        perplexity, nats = (x if math.isfinite(x) else None for x in rounded)
        row = found._asdict() | {"perplexity": perplexity, "nats": nats}
        print(json.dumps(row | {"dynamic": options.dynamic}))
    else:
        kind = "characters" if model.characters else "words"
        print(f"perplexity {found.perplexity:.2f}{', dynamic' * options.dynamic}")
        print(f"{kind} {found.words}, </s> counted")
        print(f"unknown {found.unknown}")
    return 0


def _sample(options: argparse.Namespace) -> int:
    """Print a text that a model makes up."""
    if options.seed < 0:
        raise ValueError(f"seed is {options.seed}: expected an integer, 0 or more")
    model = LanguageModel.load(options.model)
    rng = np.random.default_rng(options.seed)
    text = model.sample(rng, options.words, options.temperature, options.prompt)
    print(_escaped(text) if sys.stdout and sys.stdout.isatty() else text)
    return 0


def _info(options: argparse.Namespace) -> int:
    """Print what a model file holds."""
    model = LanguageModel.load(options.model)
    size = len(model.vocabulary or ())
    kind = "characters" if model.characters else "words"
    rows_of_weights = 2 * size + (model.classes or 0)
    training = "over" if model.training is None else "can go on, with --resume"
    rows = {
        "vocabulary": f"{size} {kind}",
        "hidden units": f"{model.hidden_size}, {model.activation}, {model.dtype}",
        "classes": _told("classes", model.classes),
        "parameters": model.hidden_size * (rows_of_weights + model.hidden_size),
        "learning": f"alpha {model.alpha:g}, decay {model.decay}, "
        f"tau {_told('tau', model.tau)}, seed {model.seed}",
        "lanes": f"{model.batch}, in chunks of {model.chunk} steps, {model.optimizer}, "
        f"dropout {model.dropout:g}",
        "training": f"{len(model.history)} epochs of {model.epochs}, {training}",
    }
    if model.batch == 1:
        del rows["lanes"]
    for name, text in rows.items():
        print(f"{name:13} {text}")
    for number, epoch in enumerate(model.history, 1):
        print(_line(number, epoch))
    return 0


if __name__ == "__main__":
    sys.exit(main())
