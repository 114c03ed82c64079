"""The command line: what it prints, how it fails, and that training survives."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hostile import FIFO, NAMES, TEXT, write_hostile

import rnn.__main__ as command_line
import rnn.language_model
from rnn import SMALL_LANGUAGE, DivergenceError, LanguageModel, sample_text
from rnn.__main__ import main
from rnn._corpora import CORPORA, index_text

ROOT = Path(__file__).resolve().parent.parent
BINARY = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
#: Takes its time over a text, and saves the model after every piece.
SLOW = """
import sys, time
import rnn.__main__ as command_line
command_line.CHECKPOINT_SECONDS = -1
call = command_line._Watch.__call__
command_line._Watch.__call__ = lambda *args: (time.sleep(0.2), call(*args))
sys.exit(command_line.main(sys.argv[1:]))
"""


class StopError(Exception):
    """Raised in the midst of a training."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with texts, and models of words and of characters."""
    folder = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)
    (folder / "text.txt").write_text(sample_text(SMALL_LANGUAGE, rng, 300))
    (folder / "long.txt").write_text(sample_text(SMALL_LANGUAGE, rng, 1500))
    (folder / "other.txt").write_text(sample_text(SMALL_LANGUAGE, rng, 30) + "Öl\n")
    for name, more in (("words.npz", []), ("characters.npz", ["--char"])):
        train(folder / "text.txt", folder / name, *more)
    return folder


@pytest.fixture
def run(capsys):
    """Run a command in this process: its status, standard output, standard error."""

    def run(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return run


def train(text, model, *more):
    arguments = ["train", text, "--model", model, "--hidden", 3, "--epochs", 1, *more]
    assert main([str(argument) for argument in arguments]) == 0


def start(*arguments, script=None, environment=None, **streams):
    """A process that runs a command."""
    how = ["-c", script] if script else ["-m", "rnn"]
    command = [sys.executable, *how, *map(os.fspath, map(_plain, arguments))]
    environment = ENVIRONMENT | (environment or {})
    return subprocess.Popen(command, env=environment, **{**BINARY, **streams})


def _plain(argument):
    return argument if isinstance(argument, bytes | os.PathLike) else str(argument)


def end(process):
    """How a process ended: its status, standard output, standard error."""
    out, err = process.communicate(timeout=120)
    return process.returncode, (out or b"").decode(), (err or b"").decode()


def message(err):
    """The one line on standard error."""
    assert err.startswith("rnn: ")
    assert err.endswith("\n")
    assert err[:-1].isprintable()
    return err[5:-1]


def leftovers(folder):
    return list(folder.glob(".rnn-*"))


# What is printed.


def test_training_prints_a_line_for_each_epoch(folder, tmp_path, run):
    path = tmp_path / "m.npz"
    arguments = ("train", folder / "text.txt", "--model", path, "--hidden", 4)
    status, out, err = run(*arguments, "--epochs", 3, "--alpha", 0.3)
    model = LanguageModel.load(path)
    expected = [
        f"epoch {n:2}  alpha {epoch.alpha:<9.4g} perplexity: "
        f"training {np.exp(epoch.train):.2f}, validation {np.exp(epoch.valid):.2f}"
        for n, epoch in enumerate(model.history, 1)
    ]
    best = np.exp(min(epoch.valid for epoch in model.history))
    last = f"{path} holds the best model, of validation perplexity {best:.2f}"
    assert len(expected) == 3
    assert out.splitlines() == [*expected, last]
    assert (status, err) == (0, "")
    # The same once more: nothing in it comes from the clock.
    first = path.read_bytes()
    assert run(*arguments, "--epochs", 3, "--alpha", 0.3) == (0, out, "")
    assert path.read_bytes() == first
    assert run(*arguments, "--epochs", 3, "--alpha", 0.3, "--seed", 1)[0] == 0
    assert path.read_bytes() != first


def test_the_options_are_the_arguments_of_the_model(folder, tmp_path, run):
    path = tmp_path / "m.npz"
    options = {
        "--hidden": 2,
        "--epochs": 1,
        "--alpha": 0.2,
        "--tau": 3,
        "--min-count": 1,
        "--vocab-size": 9,
        "--activation": "tanh",
        "--dtype": "float32",
        "--seed": 5,
        "--batch": 3,
        "--chunk": 6,
        "--optimizer": "sgd",
        "--dropout": 0.1,
        "--classes": 3,
        "--decay": "linear",
    }
    valid = folder / "other.txt"
    command = ("train", folder / "text.txt", "--model", path, "--valid", valid)
    assert {option for option, *_ in command_line.SETTINGS} == set(options)
    assert run(*command, *chain(*options.items()), "--char")[0] == 0
    model = LanguageModel.load(path)
    same = LanguageModel(
        2,
        epochs=1,
        alpha=0.2,
        tau=3,
        min_count=1,
        vocab_size=9,
        characters=True,
        activation=rnn.tanh,
        dtype=np.float32,
        seed=5,
        batch=3,
        chunk=6,
        optimizer="sgd",
        dropout=0.1,
        classes=3,
        decay="linear",
    ).fit(folder / "text.txt", valid)
    same.save(tmp_path / "same.npz")
    assert path.read_bytes() == (tmp_path / "same.npz").read_bytes()
    assert len(model.vocabulary) == 9


def test_help_tells_the_defaults(run):
    status, out, err = run("train", "--help")
    assert (status, err) == (0, "")
    text = " ".join(out.partition("options:")[2].split())
    model, in_chunks = LanguageModel(), LanguageModel(batch=2)
    for option, name, *_ in command_line.SETTINGS:
        found = re.search(rf" {option} [A-Z{{][^(]*\(default: ([^)]*)\)", text)
        told = found[1].split(", with --batch ")
        defaults = [getattr(model, name)]
        if name in ("alpha", "tau", "optimizer"):
            defaults.append(getattr(in_chunks, name))
        told[-1] = told[-1].removesuffix(" or for sgd and adagrad 1")
        nothing = "none" if name == "classes" else "no limit"
        assert told == [nothing if x is None else f"{x}" for x in defaults]
    assert LanguageModel(batch=2, optimizer="sgd").alpha == 1
    assert run("--help")[0] == 0


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("kind", ["words", "characters"])
def test_evaluation_is_that_of_the_model(folder, run, kind, dynamic):
    model, text = folder / f"{kind}.npz", folder / "other.txt"
    found = LanguageModel.load(model).evaluate(text, dynamic)
    assert found.unknown >= 1
    option = ["--dynamic"] * dynamic
    assert run("evaluate", model, text, *option) == (
        0,
        f"perplexity {found.perplexity:.2f}{', dynamic' if dynamic else ''}\n"
        f"{kind} {found.words}, </s> counted\nunknown {found.unknown}\n",
        "",
    )
    status, out, err = run("evaluate", model, text, "--json", *option)
    assert (status, err) == (0, "")
    row = json.loads(out)
    assert row == {
        "perplexity": pytest.approx(found.perplexity, rel=1e-5),
        "nats": pytest.approx(found.nats, rel=1e-5),
        "words": found.words,
        "unknown": found.unknown,
        "dynamic": dynamic,
    }


def test_dynamic_evaluation_takes_a_rate(folder, run):
    arguments = (
        "evaluate",
        folder / "words.npz",
        folder / "other.txt",
        "--alpha",
        0.01,
    )
    found = LanguageModel.load(arguments[1]).evaluate(arguments[2], True, 0.01)
    assert run(*arguments, "--dynamic")[1].startswith(f"perplexity {found[0]:.2f}, dyn")
    status, _, err = run(*arguments)
    assert (status, err.count("\n")) == (2, 1)
    assert "give alpha with dynamic=True only" in err


def test_a_perplexity_beyond_numbers_is_no_json_number(folder, tmp_path, run):
    model = LanguageModel.load(folder / "words.npz")
    model.params.V[:] *= 1e6
    model.save(tmp_path / "m.npz")
    _, out, _ = run("evaluate", tmp_path / "m.npz", folder / "other.txt", "--json")
    row = json.loads(out, parse_constant=pytest.fail)
    assert row["perplexity"] is None
    assert row["nats"] > 1000


def test_samples_are_those_of_the_model(folder, run):
    model = LanguageModel.load(folder / "words.npz")
    rng = np.random.default_rng(3)
    expected = model.sample(rng, 20, 0.5, "the dogs")
    options = {"--words": 20, "--temperature": 0.5, "--seed": 3, "--prompt": "the dogs"}
    found = run("sample", folder / "words.npz", *chain(*options.items()))
    assert found == (0, expected + "\n", "")
    expected = model.sample(np.random.default_rng(0), 50, 1.0)
    assert run("sample", folder / "words.npz") == (0, expected + "\n", "")


def test_info_tells_what_a_file_holds(folder, run):
    status, out, err = run("info", folder / "words.npz")
    model = LanguageModel.load(folder / "words.npz")
    size = sum(matrix.size for matrix in model.params)
    (epoch,) = model.history
    assert out.splitlines() == [
        f"vocabulary    {len(model.vocabulary)} words",
        "hidden units  3, sigmoid, float64",
        "classes       none",
        f"parameters    {size}",
        "learning      alpha 0.1, decay halving, tau 4, seed 0",
        "training      1 epochs of 1, can go on, with --resume",
        f"epoch  1  alpha 0.1       perplexity: training {np.exp(epoch.train):.2f}, "
        f"validation {np.exp(epoch.valid):.2f}",
    ]
    assert (status, err) == (0, "")


def test_info_tells_how_it_was_learnt_in_chunks(folder, tmp_path, run):
    path = tmp_path / "m.npz"
    options = ("--batch", 4, "--dropout", 0.25, "--seed", 7)
    train(folder / "text.txt", path, *options)
    _, out, _ = run("info", path)
    assert out.splitlines()[4:7] == [
        "learning      alpha 0.01, decay halving, tau no limit, seed 7",
        "lanes         4, in chunks of 35 steps, adam, dropout 0.25",
        "training      1 epochs of 1, can go on, with --resume",
    ]
    status, _, err = run("evaluate", path, folder / "other.txt", "--dynamic")
    assert (status, err) == (0, "")


@pytest.mark.parametrize("more", [(), ("--batch", 4)])
def test_a_model_with_classes_is_trained_and_used(folder, tmp_path, run, more):
    path = tmp_path / "m.npz"
    train(folder / "text.txt", path, "--classes", 5, "--decay", "linear", *more)
    model = LanguageModel.load(path)
    status, out, err = run("info", path)
    assert (status, err) == (0, "")
    size = sum(matrix.size for matrix in (*model.params, model.word_classes.Q))
    assert out.splitlines()[2:5] == [
        "classes       5",
        f"parameters    {size}",
        f"learning      alpha {model.alpha:g}, decay linear, "
        f"tau {'no limit' if more else 4}, seed 0",
    ]
    for how in ((), ("--dynamic",)):
        status, out, err = run("evaluate", path, folder / "other.txt", *how)
        found = model.perplexity(folder / "other.txt", dynamic=bool(how))
        assert (status, err) == (0, "")
        assert out.startswith(f"perplexity {found:.2f}")
    expected = model.sample(np.random.default_rng(0), 12)
    assert run("sample", path, "--words", 12) == (0, f"{expected}\n", "")
    text = ("train", folder / "text.txt", "--model", path)
    assert "classes is 900: expected at most" in message(
        run(*text, "--classes", 900)[2]
    )
    assert LanguageModel.load(path).history == model.history


# Texts.


@pytest.fixture(scope="module", params=["words", "characters"])
def hostile(request, folder, tmp_path_factory):
    """The kind of token, and hostile places: one to be learned, one to be predicted."""
    made = [write_hostile(tmp_path_factory.mktemp("hostile")) for _ in range(2)]
    return request.param, {places[0].name: places for places in zip(*made, strict=True)}


def tokens(place, characters):
    """How many tokens a hostile file has, counted in another way than it is read."""
    data = FIFO if place.name == "fifo" else place.path.read_bytes()
    text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    if characters:
        return len(text) + (not text.endswith("\n"))
    lines = [line.split() for line in text.split("\n")]
    return sum(len(words) + 1 for words in lines if words)


@pytest.mark.parametrize("name", NAMES)
def test_hostile_texts_are_learned_and_predicted_or_refused(
    folder, tmp_path, run, hostile, name
):
    kind, places = hostile
    learned, predicted = places[name]
    characters = kind == "characters"
    expected = learned.characters if characters else learned.expected
    path = tmp_path / "m.npz"
    options = ("--hidden", 3, "--epochs", 1, *["--char"] * characters)

    if characters and expected == TEXT and learned.path.stat().st_size > 100_000:
        count = tokens(learned, characters)  # too many to learn
        assert len(index_text(learned.path, True).indices) == count
        return
    train = run("train", learned.path, "--model", path, *options)
    evaluate = run("evaluate", folder / f"{kind}.npz", predicted.path)
    if expected == TEXT:
        assert (train[0], train[2]) == (0, "")
        assert LanguageModel.load(path).history
        assert (evaluate[0], evaluate[2]) == (0, "")
        count = tokens(predicted, characters)
        assert f"\n{kind} {count}, </s> counted\n" in evaluate[1]
    else:
        for place, (status, out, err) in zip(
            (learned, predicted), (train, evaluate), strict=True
        ):
            assert (status, out) == (2, "")
            assert re.search(expected, message(err))
            assert str(place.path.parent) in err
        assert not path.exists()


@pytest.fixture
def corpora(tmp_path, monkeypatch, folder):
    """A folder of corpora that stand in for the well-known ones."""
    import hashlib

    data = tmp_path / "data"
    data.mkdir()
    texts = {
        "ptb.train": "text.txt",
        "ptb.valid": "other.txt",
        "ptb.test": "long.txt",
        "tinyshakespeare": "text.txt",
    }
    for name, text in texts.items():
        content = (folder / text).read_bytes()
        (data / Path(CORPORA[name].file).name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        monkeypatch.setitem(CORPORA, name, CORPORA[name]._replace(sha256=digest))
    monkeypatch.chdir(tmp_path)
    return data


def test_corpora_go_by_name(folder, tmp_path, run, corpora, monkeypatch):
    by_path, by_name = tmp_path / "path.npz", tmp_path / "name.npz"
    train(folder / "text.txt", by_path, "--valid", folder / "other.txt")
    train("ptb", by_name, "--data-dir", corpora)
    assert by_name.read_bytes() == by_path.read_bytes()
    monkeypatch.setenv("RNN_DATA_DIR", str(corpora))
    train("ptb.train", by_name, "--valid", "ptb.valid")
    assert by_name.read_bytes() == by_path.read_bytes()
    found = run("evaluate", by_name, "ptb")
    assert found == run("evaluate", by_name, folder / "long.txt")
    # A part of it, another text, and one to validate with.
    train("tinyshakespeare", by_name)
    train(folder / "text.txt", by_path)
    assert by_name.read_bytes() == by_path.read_bytes()
    train("ptb", by_name, "--valid", folder / "long.txt")
    train(folder / "text.txt", by_path, "--valid", folder / "long.txt")
    assert by_name.read_bytes() == by_path.read_bytes()


def test_a_file_comes_before_a_corpus_of_its_name(folder, tmp_path, run, corpora):
    (tmp_path / "ptb").mkdir()  # a folder does not
    train("ptb", tmp_path / "m.npz", "--data-dir", corpora)
    (tmp_path / "ptb").rmdir()
    (tmp_path / "ptb").write_bytes((folder / "long.txt").read_bytes())
    train("ptb", tmp_path / "m.npz", "--data-dir", corpora)
    train(folder / "long.txt", tmp_path / "same.npz")
    assert (tmp_path / "m.npz").read_bytes() == (tmp_path / "same.npz").read_bytes()


def test_several_texts_are_read_one_after_the_other(folder, tmp_path, run):
    texts = [folder / "text.txt", folder / "other.txt"]
    (tmp_path / "both.txt").write_bytes(b"".join(text.read_bytes() for text in texts))
    for name, given in (("a.npz", texts), ("b.npz", [tmp_path / "both.txt"])):
        options = ("--model", tmp_path / name, "--hidden", 2, "--epochs", 1)
        assert run("train", *given, *options)[0] == 0
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert run("evaluate", tmp_path / "a.npz", *texts) == run(
        "evaluate", tmp_path / "a.npz", tmp_path / "both.txt"
    )


# Mistakes.


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("", r"arguments are required: COMMAND; see rnn --help"),
        ("train text.txt", r"required: --model; see rnn train --help"),
        ("train --model m.npz", r"required: TEXT"),
        ("guess", r"invalid choice: 'guess'"),
        ("train text.txt --model m.npz --hidden x", r"--hidden: invalid int .* 'x'"),
        ("train text.txt --model m.npz --hidden 0", r"hidden_size is 0: expected"),
        ("train text.txt --model m.npz --hidden 9999999999999", r"out of memory: try"),
        ("train text.txt --model m.npz --epochs 0", r"epochs is 0: expected"),
        ("train text.txt --model m.npz --alpha 0", r"alpha is 0.0: expected"),
        ("train text.txt --model m.npz --alpha nan", r"alpha is nan: expected"),
        ("train text.txt --model m.npz --tau -1", r"tau is -1: expected"),
        ("train text.txt --model m.npz --seed -1", r"seed is -1: expected"),
        ("train text.txt --model m.npz --min-count 0", r"min_count is 0: expected"),
        ("train text.txt --model m.npz --vocab-size 1", r"vocab_size is 1: expected"),
        ("train text.txt --model m.npz --batch 0", r"batch is 0: expected"),
        ("train text.txt --model m.npz --batch 2 --chunk 0", r"chunk is 0: expected"),
        ("train text.txt --model m.npz --batch 99999", r"99999: expected at most \d+,"),
        ("train text.txt --model m.npz --optimizer adam", r"optimizer is 'adam': exp"),
        ("train text.txt --model m.npz --optimizer lbfgs", r"invalid choice: 'lbfgs'"),
        ("train text.txt --model m.npz --dropout 0.1", r"dropout is 0.1: expected"),
        ("train text.txt --model m.npz --batch 2 --dropout 1", r"dropout is 1.0: exp"),
        (
            "train text.txt --model m.npz --batch 2 --alpha 1e9",
            r"alpha is 1e\+09: lear",
        ),
        ("train text.txt --model m.npz --dtype int8", r"invalid choice: 'int8'"),
        ("train text.txt --model m.npz --activation f", r"invalid choice: 'f'"),
        ("train text.txt --model m.npz --valid no.txt", r"No such file.*no\.txt"),
        ("train text.txt --model m.npz --alpha 1e300", r"alpha is 1e\+300: .*diverged"),
        ("train text.txt --model m.npz --resume", r"No such file.*m\.npz"),
        ("train text.txt --model text.txt", r"overwrite what is no model: text\.txt"),
        ("train text.txt --model empty", r"overwrite what is no model: empty is empty"),
        ("train text.txt --model damaged", r"no model: damaged is damaged"),
        ("train text.txt --model fifo", r"overwrite .* fifo is no regular file"),
        ("train text.txt --model .", r"overwrite .* \. is no regular file"),
        ("train text.txt --model no/m.npz", r"no cannot be written to"),
        ("train text.txt --model text.txt/m.npz", r"text\.txt cannot be written to"),
        ("train text.txt --model ../gone.npz", r"no cannot be written to"),
        ("evaluate words.npz", r"required: TEXT"),
        ("evaluate text.txt other.txt", r"text\.txt is not a model"),
        ("evaluate damaged other.txt", r"damaged is damaged or cut short"),
        ("evaluate empty other.txt", r"empty is empty"),
        ("evaluate no.npz other.txt", r"No such file or directory: 'no\.npz'"),
        ("evaluate words.npz no.txt", r"No such file or directory: 'no\.txt'"),
        ("evaluate words.npz " + "x" * 300, r"File name too long"),
        ("sample words.npz --words -1", r"words is -1: expected"),
        ("sample words.npz --temperature -1", r"temperature is -1.0: expected"),
        ("sample words.npz --seed -1", r"seed is -1: expected"),
        ("info .", r"Is a directory"),
        ("info a\nb\x1b[31m", r"'a\\nb\\x1b\[31m'"),
        ("train text.txt --model a\nb/m", r"a\\nb cannot be written to"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    folder, tmp_path, run, monkeypatch, command, expected
):
    place = tmp_path / "place"
    place.mkdir()
    for name in ("text.txt", "other.txt", "words.npz"):
        (place / name).symlink_to(folder / name)
    (tmp_path / "gone.npz").symlink_to(place / "no" / "m.npz")
    (place / "damaged").write_bytes((folder / "words.npz").read_bytes()[:-5])
    (place / "empty").touch()
    os.mkfifo(place / "fifo")
    monkeypatch.chdir(place)
    before = {path: path.lstat().st_mtime_ns for path in place.iterdir()}
    status, out, err = run(*command.split(" ") if command else [])
    assert (status, out) == (2, "")
    assert re.search(expected, message(err))
    assert {path: path.lstat().st_mtime_ns for path in place.iterdir()} == before


def test_a_folder_without_permission_is_refused_before_training(
    folder, tmp_path, run, monkeypatch
):
    monkeypatch.setattr(LanguageModel, "fit", lambda *a, **k: pytest.fail("it trained"))
    monkeypatch.chdir(tmp_path)
    # The superuser may write everywhere: ask as somebody who may not.
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    status, _, err = run("train", folder / "text.txt", "--model", "m.npz")
    assert status == 2
    assert "cannot be written to" in message(err)


def test_file_names_of_any_bytes_are_told_in_a_line(folder, tmp_path):
    for name in (b"\xff\xfe", b"two\nlines", b"\x1b[31m", "Größe".encode()):
        path = os.fsencode(tmp_path) + b"/" + name
        status, out, err = end(start("evaluate", path, folder / "other.txt"))
        assert (status, out) == (2, "")
        assert "No such file" in message(err)
        model = end(start("train", folder / "text.txt", "--model", path, "--epochs", 1))
        assert (model[0], model[2]) == (0, "")
        assert len(model[1].splitlines()) == 2
        assert model[1].replace("\n", "").isprintable()
        assert LanguageModel.load(os.fsdecode(path)).history


def test_a_rate_that_diverges_leaves_the_best_model(folder, tmp_path, run, monkeypatch):
    path = tmp_path / "m.npz"
    text = (folder / "text.txt", "--model", path, "--hidden", 3)
    assert run("train", *text, "--epochs", 2)[0] == 0
    two = LanguageModel.load(path)
    learn, epochs = rnn.language_model.learn_online, []

    def diverge(params, words, targets, alpha, tau, memory, **more):
        epochs.append(memory is None)
        if sum(epochs) == 3:
            params.V[:] = np.nan
            raise DivergenceError("alpha is 0.1: learning diverged")
        return learn(params, words, targets, alpha, tau, memory, **more)

    monkeypatch.setattr(rnn.language_model, "learn_online", diverge)
    status, out, err = run("train", *text, "--epochs", 5)
    assert status == 2
    assert len(out.splitlines()) == 2
    best = np.exp(min(epoch.valid for epoch in two.history))
    found = re.fullmatch(
        r"alpha is 0.1: learning diverged within the first \d+ words of epoch 3; take "
        r"a smaller alpha; (.*) holds the best model so far, of validation perplexity "
        r"(.*)",
        message(err),
    )
    assert found.groups() == (str(path), f"{best:.2f}")
    model = LanguageModel.load(path)
    assert model.history == two.history
    for found, expected in zip(model.params, two.params, strict=True):
        np.testing.assert_array_equal(found, expected)
    status, _, err = run("train", *text, "--resume")
    assert status == 2
    assert "the training is over" in message(err)


# Streams.


def test_a_reader_that_goes_ends_the_output_quietly(folder, tmp_path):
    for arguments in (
        ("info", folder / "words.npz"),
        ("sample", folder / "words.npz"),
        ("--help",),
    ):
        reading, writing = os.pipe()
        process = start(*arguments, stdout=writing)
        os.close(writing)
        os.close(reading)
        assert end(process)[0] == 1
        assert end(process)[2] == ""


def test_training_into_a_pipe_that_closes_keeps_the_epoch(folder, tmp_path):
    path = tmp_path / "m.npz"
    options = ("--model", path, "--hidden", 3, "--epochs", 50)
    process = start("train", folder / "text.txt", *options, script=SLOW)
    assert process.stdout.readline().startswith(b"epoch  1")
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 1
    process.stderr.close()
    assert 1 <= len(LanguageModel.load(path).history) < 50
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_output_that_cannot_be_written_is_told_in_a_line(folder):
    for arguments in (("info", folder / "words.npz"), ("train", "--help")):
        with open("/dev/full", "wb") as full:
            status, _, err = end(start(*arguments, stdout=full))
        assert status == 2
        assert "No space left on device" in message(err)


def test_closed_streams_are_no_error(folder, tmp_path):
    options = "--model m.npz --hidden 3 --epochs 2"
    command = f"{sys.executable} -m rnn train {folder}/text.txt {options}"
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        done = subprocess.run(
            f"{command} {closed}",
            shell=True,
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert len(LanguageModel.load(tmp_path / "m.npz").history) == 2


def test_an_encoding_that_lacks_a_character_is_told_in_a_line(tmp_path):
    text = tmp_path / "größe.txt"
    text.write_text("ä ö ü\n" * 30)
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    options = ("--hidden", 2, "--epochs", 1)
    process = start(
        "train", text, "--model", text.with_suffix(".npz"), *options,
        environment=ascii_only,
    )  # fmt: skip
    status, out, err = end(process)
    assert (status, err) == (0, "")
    assert "gr\\xf6\\xdfe.npz holds the best model" in out
    process = start("sample", text.with_suffix(".npz"), environment=ascii_only)
    status, out, err = end(process)
    assert (status, out) == (2, "")
    assert re.search(r"in ascii, cannot hold '\\x..'", message(err))


class Terminal:
    """A terminal that keeps what is written to it."""

    def __init__(self):
        self.master, self.slave = pty.openpty()
        size = struct.pack("4H", 24, 100, 0, 0)  # rows, columns
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, size)

    def read(self):
        """All that was written, once every process has closed the terminal."""
        os.close(self.slave)
        pieces = []
        try:
            while piece := os.read(self.master, 1 << 16):
                pieces.append(piece)
        except OSError:  # the other end is closed
            pass
        os.close(self.master)
        return b"".join(pieces).decode()


def test_a_terminal_shows_a_bar(folder, tmp_path):
    terminal = Terminal()
    options = ("--model", tmp_path / "m.npz", "--hidden", 3, "--epochs", 2)
    texts = [folder / "long.txt"] * 4
    process = start("train", *texts, *options, stderr=terminal.slave)
    shown = terminal.read()
    out, _ = process.communicate()
    assert process.returncode == 0
    assert len(out.decode().splitlines()) == 3
    assert b"\r" not in out
    for part in (
        r"epoch 1:",
        r"epoch 2:",
        r"\d%\|",
        r"loss=\d\.\d{3}",
        r"perplexity=\d+\.\d",
        r"\d words/s",
        r"\[\d\d:\d\d<",
    ):
        assert re.search(part, shown), part
    # What is left of a bar is blank.
    assert shown.endswith("\r")
    assert set(shown.split("\r")[-2]) <= {" "}


def test_what_a_text_holds_does_not_rule_the_terminal(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\x1b[31mred\x1b[0m \x07 \x9b2J a\u200db\n" * 40)
    model = tmp_path / "m.npz"
    train(text, model)
    status, raw, _ = end(start("sample", model))
    assert status == 0
    assert "\x1b[31mred\x1b[0m" in raw
    terminal = Terminal()
    process = start("sample", model, stdout=terminal.slave)
    shown = terminal.read()
    assert end(process)[0] == 0
    assert not re.search(r"[^\x20-\U0010ffff\r\n]|[\x7f-\x9f]", shown)
    assert r"\x1b[31mred\x1b[0m" in shown
    assert r"\x9b2J" in shown
    assert "a\u200db" in shown


# Interruptions.

TRAIN = ("--hidden", 3, "--epochs", 4, "--alpha", 0.3)
IN_CHUNKS = (*TRAIN[:-1], 0.02, "--batch", 20, "--chunk", 40, "--dropout", 0.2)


def _uninterrupted(folder, path, options):
    process = start("train", folder / "long.txt", "--model", path, *options)
    status, out, err = end(process)
    assert (status, err) == (0, "")
    return path.read_bytes(), out.splitlines()[:-1]


@pytest.fixture(scope="module")
def uninterrupted(folder, tmp_path_factory):
    """The bytes of the model, and the lines, of a training without interruption."""
    return _uninterrupted(folder, tmp_path_factory.mktemp("whole") / "m.npz", TRAIN)


@pytest.fixture(scope="module")
def uninterrupted_chunks(folder, tmp_path_factory):
    """The same of a training in chunks."""
    return _uninterrupted(folder, tmp_path_factory.mktemp("whole") / "m.npz", IN_CHUNKS)


def interrupt_at(monkeypatch, calls, number=signal.SIGINT, times=1):
    """Let signals come at certain calls of the progress function."""
    count = 0
    call = command_line._Watch.__call__

    def called(self, progress):
        nonlocal count
        count += 1
        if count in calls:
            for _ in range(times):
                os.kill(os.getpid(), number)
        call(self, progress)

    monkeypatch.setattr(command_line._Watch, "__call__", called)


@pytest.mark.parametrize(
    ("number", "options"),
    [(signal.SIGINT, TRAIN), (signal.SIGTERM, TRAIN), (signal.SIGINT, IN_CHUNKS)],
)
def test_an_interrupted_training_goes_on_as_if_it_never_stopped(
    folder,
    tmp_path,
    run,
    monkeypatch,
    uninterrupted,
    uninterrupted_chunks,
    number,
    options,
):
    whole = uninterrupted if options == TRAIN else uninterrupted_chunks
    path = tmp_path / "m.npz"
    text = (folder / "long.txt", "--model", path)
    rng = np.random.default_rng(number)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    lines, count, status = [], 0, 130
    while status == 130:
        with monkeypatch.context() as patch:
            # Later than the first: the first comes before Ctrl-C can wait.
            interrupt_at(patch, {int(rng.integers(2, 7))}, number)
            given = ["--resume"] if count else options
            status, out, err = run("train", *text, *given)
        lines += out.splitlines()
        if status == 130:
            assert message(err).startswith(
                f"interrupted: {path} holds the best model so far, "
            )
            assert err.endswith("; --resume goes on from there\n")
            assert LanguageModel.load(path).training.position > 0
            count += 1
    assert count >= 3
    assert (path.read_bytes(), lines[:-1]) == whole
    assert handlers == (
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
    )


def test_ctrl_c_in_a_process_of_its_own(folder, tmp_path, uninterrupted):
    path = tmp_path / "m.npz"
    text = ("train", folder / "long.txt", "--model", path)
    process = start(*text, *TRAIN, script=SLOW)
    first = process.stdout.readline()
    assert first.decode().strip() == uninterrupted[1][0]
    process.send_signal(signal.SIGINT)
    status, _, err = end(process)
    assert status == 130
    assert "holds the best model so far, of validation perplexity" in message(err)
    assert end(start(*text, "--resume"))[0] == 0
    assert path.read_bytes() == uninterrupted[0]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("begin", [TRAIN, IN_CHUNKS])
def test_killed_training_goes_on_from_its_last_checkpoint(
    folder, tmp_path, uninterrupted, uninterrupted_chunks, begin
):
    whole = uninterrupted if begin == TRAIN else uninterrupted_chunks
    path = tmp_path / "m.npz"
    text = ("train", folder / "long.txt", "--model", path)
    for options in (begin, ["--resume"]):
        process = start(*text, *options, script=SLOW)
        process.stdout.readline()
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert LanguageModel.load(path).training is not None
    assert end(start(*text, "--resume"))[0] == 0
    assert path.read_bytes() == whole[0]


def test_a_checkpoint_is_saved_when_it_is_time(folder, tmp_path, run, monkeypatch):
    saved = []
    save = LanguageModel.save

    def saving(self, path):
        saved.append((len(self.history), self.training.position))
        save(self, path)

    monkeypatch.setattr(LanguageModel, "save", saving)
    text = (folder / "long.txt", "--model", tmp_path / "m.npz", "--hidden", 2)
    assert run("train", *text, "--epochs", 1)[0] == 0
    assert saved == [(1, 0), (1, 0)]
    saved.clear()
    monkeypatch.setattr(command_line, "CHECKPOINT_SECONDS", -1)
    assert run("train", *text, "--epochs", 1)[0] == 0
    middle = saved[:-2]
    assert len(middle) > 3
    assert all(epochs == 0 < position for epochs, position in middle)


def test_a_second_ctrl_c_stops_at_once(folder, tmp_path, run, monkeypatch):
    path = tmp_path / "m.npz"
    text = (folder / "long.txt", "--model", path)
    monkeypatch.setattr(command_line, "CHECKPOINT_SECONDS", -1)
    with monkeypatch.context() as patch:
        interrupt_at(patch, {5}, times=2)
        status, _, err = run("train", *text, *TRAIN)
    assert status == 130
    assert "holds the best model so far, before the end of its" in message(err)
    position = LanguageModel.load(path).training.position
    with monkeypatch.context() as patch:  # in the midst of a saving
        real = os.fsync

        def fsync(file):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            real(file)

        before = path.read_bytes()
        patch.setattr(os, "fsync", fsync)
        status, _, err = run("train", *text, "--resume")
    assert status == 130
    message(err)
    assert path.read_bytes() == before
    assert LanguageModel.load(path).training.position == position
    assert leftovers(tmp_path) == []


@pytest.fixture
def _ctrl_c():
    """Ctrl-C interrupts, though pytest may have been started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_before_anything_was_learned(folder, tmp_path, run, monkeypatch):
    path = tmp_path / "m.npz"
    index_text = rnn.language_model.index_text

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return index_text(*arguments)

    text = (folder / "long.txt", "--model", path)
    with monkeypatch.context() as patch:
        patch.setattr(rnn.language_model, "index_text", interrupted)
        status, _, err = run("train", *text, *TRAIN)
        assert (status, message(err)) == (130, "interrupted: no model was saved yet")
        assert not path.exists()
    assert run("train", *text, "--hidden", 2, "--epochs", 1)[0] == 0
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(rnn.language_model, "index_text", interrupted)
        status, _, err = run("train", *text, "--resume")
        assert status == 130
        assert "--resume goes on from there" in message(err)
        status, _, err = run("evaluate", path, folder / "other.txt")
        assert (status, message(err)) == (130, "interrupted")
    assert path.read_bytes() == before


def test_ctrl_c_in_the_last_moment_leaves_a_whole_training(
    folder, tmp_path, run, monkeypatch, uninterrupted
):
    path = tmp_path / "m.npz"
    end_epoch = LanguageModel._end_epoch

    def interrupted(self, *arguments):
        if len(self.history) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        end_epoch(self, *arguments)

    monkeypatch.setattr(LanguageModel, "_end_epoch", interrupted)
    status, out, err = run("train", folder / "long.txt", "--model", path, *TRAIN)
    assert status == 130
    assert f"interrupted: {path} holds the best model" in message(err)
    assert (path.read_bytes(), out.splitlines()) == uninterrupted


def test_more_epochs_go_on_where_fewer_ended(folder, tmp_path, run, uninterrupted):
    path = tmp_path / "m.npz"
    text = (folder / "long.txt", "--model", path)
    assert run("train", *text, *TRAIN, "--epochs", 2)[0] == 0
    status, out, err = run("train", *text, "--resume", *TRAIN)
    assert (status, err) == (0, "")
    assert out.splitlines()[:-1] == uninterrupted[1][2:]
    assert path.read_bytes() == uninterrupted[0]


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("other.txt", "", r"text or valid is not what the training began with"),
        ("text.txt", "--valid other.txt", r"text or valid is not what"),
        ("text.txt", "--hidden 4", r"m\.npz began, with hidden_size = 3: leave the"),
        ("text.txt", "--seed 4", r"m\.npz began, with seed = 0"),
        ("text.txt", "--char", r"with characters = False"),
        ("text.txt", "--dtype float32", r"with dtype = float64"),
        ("text.txt", "--activation relu", r"with activation = sigmoid"),
        ("text.txt", "--epochs -3", r"epochs is -3: expected"),
        ("text.txt", "--batch 5", r"with batch = 1"),
        ("text.txt", "--dropout 0.5", r"dropout is 0.5: expected"),
        ("text.txt", "--classes 5", r"m\.npz began, with classes = none: leave"),
        ("text.txt", "--classes 0", r"classes is 0: expected"),
        ("text.txt", "--decay linear", r"m\.npz began, with decay = halving: leave"),
    ],
)
def test_another_training_cannot_be_resumed(
    folder, tmp_path, run, monkeypatch, text, options, expected
):
    monkeypatch.chdir(folder)
    path = tmp_path / "m.npz"
    path.write_bytes((folder / "words.npz").read_bytes())
    options = (*options.split(), "--model", path, "--resume")
    status, out, err = run("train", text, "--epochs", 2, *options)
    assert (status, out) == (2, "")
    assert re.search(expected, message(err))
    assert path.read_bytes() == (folder / "words.npz").read_bytes()


def test_options_as_they_were_can_be_resumed_with(folder, tmp_path, run):
    path = tmp_path / "m.npz"
    path.write_bytes((folder / "words.npz").read_bytes())
    options = "--hidden 3 --dtype float64 --activation sigmoid --tau 4 --epochs 2"
    text = (folder / "text.txt", "--model", path)
    assert run("train", *text, "--resume", *options.split())[0] == 0
    assert len(LanguageModel.load(path).history) == 2


def test_options_as_they_were_can_be_resumed_with_in_chunks(folder, tmp_path, run):
    path = tmp_path / "m.npz"
    options = ("--batch", 4, "--dropout", 0.5, "--optimizer", "adam")
    train(folder / "text.txt", path, *options)
    text = ("train", folder / "text.txt", "--model", path, "--resume", "--epochs", 2)
    for wrong in (("--dropout", 0.1), ("--optimizer", "sgd"), ("--chunk", 30)):
        name = wrong[0].removeprefix("--")
        assert f"m.npz began, with {name} = " in message(run(*text, *wrong)[2])
    assert "began, with tau = no limit: " in message(run(*text, "--tau", 4)[2])
    assert run(*text, *options[2:])[0] == 0
    assert run(*text, "--epochs", 3, *options)[0] == 0
    assert len(LanguageModel.load(path).history) == 3


def test_classes_as_they_were_can_be_resumed_with(folder, tmp_path, run):
    path = tmp_path / "m.npz"
    options = ("--classes", 4, "--decay", "linear", "--epochs", 3)
    text = ("train", folder / "text.txt", "--model", path)
    assert run(*text, "--hidden", 3, *options)[0] == 0
    whole = path.read_bytes()

    def stop(progress):
        if (progress.epoch, progress.words) > (2, 0):
            raise StopError

    model = LanguageModel(3, classes=4, decay="linear", epochs=3)
    with pytest.raises(StopError):
        model.fit(folder / "text.txt", progress=stop)
    model.save(path)
    for wrong in (("--classes", 5), ("--decay", "halving"), ("--optimizer", "adam")):
        found = run(*text, "--resume", *wrong)
        assert found[0] == 2
        assert re.search(r"with classes = 4: |with decay = linear: |r is 'adam'",
                         message(found[2]))  # fmt: skip
    assert run(*text, "--resume", *options)[0] == 0
    assert path.read_bytes() == whole


def test_a_training_that_is_over_cannot_be_resumed(folder, tmp_path, run):
    model = LanguageModel.load(folder / "words.npz")
    model.training = None
    model.save(tmp_path / "m.npz")
    text = (folder / "text.txt", "--model", tmp_path / "m.npz")
    status, out, err = run("train", *text, "--resume")
    assert (status, out) == (2, "")
    assert "the training is over" in message(err)
    assert "training      1 epochs of 1, over" in run("info", tmp_path / "m.npz")[1]


# Machines.


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names its processors")
def test_other_processors_print_the_same_digits(folder, tmp_path):
    script = (
        "import sys; from rnn.__main__ import main\n"
        "text, model, other = sys.argv[1:]\n"
        "options = '--hidden 40 --epochs 3 --alpha 0.3'.split()\n"
        "assert main(['train', text, '--model', model, *options]) == 0\n"
        "for how in ([], ['--dynamic'], ['--json']):\n"
        "    assert main(['evaluate', model, other, *how]) == 0\n"
    )
    machines = [
        {"OPENBLAS_NUM_THREADS": "1"},
        {"OPENBLAS_NUM_THREADS": "2"},
        {"OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Haswell"},
        {"OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Nehalem"},
    ]
    printed, models = set(), set()
    for machine in machines:
        files = (folder / "text.txt", tmp_path / "m.npz", folder / "other.txt")
        status, out, err = end(start(*files, script=script, environment=machine))
        assert (status, err) == (0, "")
        printed.add(out)
        models.add((tmp_path / "m.npz").read_bytes())
    assert len(printed) == 1
    assert len(models) > 1  # the machines did compute in other ways
