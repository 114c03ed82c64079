"""The language model: training, its file, and what it says of a text."""

import json
import math
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnn.language_model as language_model
from rnn import (
    SMALL_LANGUAGE,
    ChunkLearner,
    Classes,
    ClassLayer,
    ClassOutput,
    DivergenceError,
    Dropout,
    LanguageModel,
    Parameters,
    Schedule,
    class_edges,
    class_log_outputs,
    class_loss,
    entropy,
    generate,
    hidden_states,
    init_classes,
    init_parameters,
    lanes,
    learn_online,
    log_softmax,
    loss,
    nearest_words,
    next_schedule,
    perplexity,
    pieces,
    relu,
    sample_text,
    sigmoid,
    stream,
    tanh,
    text_loss,
    tokenize,
    unigram_probabilities,
    word_costs,
    workers,
)
from rnn._corpora import index_text
from rnn._files import ModelFileError, read_arrays, write_arrays

TEXT = sample_text(SMALL_LANGUAGE, np.random.default_rng(0), 500)
OTHER = sample_text(SMALL_LANGUAGE, np.random.default_rng(1), 60) + "cats meow\n"
LINES = TEXT.splitlines(keepends=True)
SMALL = {"hidden_size": 3, "alpha": 0.3}
CHUNKS = {"hidden_size": 3, "batch": 4, "chunk": 7, "alpha": 0.05}


class StopError(Exception):
    """Raised in the midst of a training."""


def stop_after(calls):
    """A progress function that stops a training."""
    seen = []

    def progress(found):
        seen.append(found)
        if len(seen) == calls:
            raise StopError

    return progress


def weights(model):
    """All arrays that learn, as they are best."""
    return [*model.params, *([model.word_classes.Q] if model.word_classes else [])]


def assert_same(found, expected):
    """Parameters of the same bits, in the same order in memory."""
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
        assert a.flags.f_contiguous == b.flags.f_contiguous


def first_parameters(model):
    """What training begins with; word by word V lies in columns."""
    rng = np.random.default_rng(model.seed)
    params = init_parameters(len(model.vocabulary), 3, rng, model.dtype)
    order = "F" if model.batch == 1 else "C"
    return params._replace(V=np.asarray(params.V, order=order))


@pytest.fixture(scope="module")
def model():
    """A small model of words; tests that change it copy it first."""
    return LanguageModel(**SMALL, epochs=2).fit(TEXT, OTHER)


@pytest.fixture(scope="module")
def characters():
    """A small model of characters."""
    return LanguageModel(**SMALL, epochs=1, characters=True).fit("".join(LINES[:99]))


@pytest.fixture
def copied(model, tmp_path):
    """A copy of the model that a test may change."""
    model.save(tmp_path / "copied.npz")
    return LanguageModel.load(tmp_path / "copied.npz")


# Texts in pieces.


@pytest.mark.parametrize("length", [1, 2, 7, 99, 100, 1000])
@pytest.mark.parametrize("begin", [0, 1, 50, 99, 100, 200])
def test_pieces_are_those_of_the_stream(length, begin):
    indices = np.random.default_rng(0).integers(1, 9, 100)
    words, targets = stream(indices)
    found = list(pieces(indices, length, begin))
    assert all(1 <= len(targets) <= length for _, targets in found)
    for whole, parts in zip((words, targets), zip(*found, strict=True), strict=False):
        np.testing.assert_array_equal(np.concatenate(parts), whole[begin:])
    assert bool(found) == (begin < 100)


@pytest.mark.equation("eq-text-loss")
@pytest.mark.parametrize("activation", [tanh, relu])
@pytest.mark.parametrize("length", [1, 2, 7, 50, 299, 300, 301])
def test_a_text_costs_the_same_in_pieces_of_any_length(monkeypatch, length, activation):
    rng = np.random.default_rng(1)
    params = init_parameters(2**20 // length, 3, rng)  # so many logits fit in memory
    params = Parameters(params.U * 9, params.W * 5, params.V * 9)
    count = min(300, 7 * length)
    indices = rng.integers(0, len(params.V), count)
    lengths = []

    def counted(params, words, *more):
        lengths.append(len(words))
        return loss(params, words, *more)

    monkeypatch.setattr(language_model, "loss", counted)
    found = text_loss(params, indices, activation)
    assert max(lengths) == min(length, count)
    assert sum(lengths) == count
    expected = loss(params, *stream(indices), activation=activation)
    assert found == pytest.approx(expected, rel=1e-12)
    assert type(found) is float


def test_text_loss_names_what_is_wrong(model):
    with pytest.raises(ValueError, match=r"^indices holds the index 99 at \[1\]"):
        text_loss(model.params, [1, 99])
    with pytest.raises(ValueError, match=r"^indices is empty"):
        text_loss(model.params, [])
    bad = Parameters(model.params.U, model.params.W, model.params.V * np.nan)
    with pytest.raises(ValueError, match="V holds nan"):
        text_loss(bad, [0, 1])


@pytest.mark.parametrize("activation", [sigmoid, tanh, relu])
@pytest.mark.parametrize("C", [None, 1, 4])
@pytest.mark.parametrize("lengths", [[1], [2000], [2**20 // 20, 100]])
def test_the_costs_of_the_words_sum_to_that_of_the_text(lengths, C, activation):
    rng = np.random.default_rng(2)
    params = init_parameters(20, 3, rng)
    params = Parameters(params.U * 9, params.W * 5, params.V * 9)
    edges = class_edges(np.arange(20, 0, -1), C or 1)
    classes = init_classes(edges, 3, rng)._replace(Q=rng.normal(size=(C or 1, 3)))
    classes = classes if C else None
    before = [array.copy("K") for array in (*params, *(classes or ()))]
    indices = rng.integers(0, 20, sum(lengths))
    found = list(word_costs(params, indices, activation=activation, classes=classes))
    assert_same((*params, *(classes or ())), before)
    assert [len(costs) for costs in found] == lengths
    total = sum(costs.sum() for costs in found)
    expected = text_loss(params, indices, activation, classes)
    assert total == pytest.approx(expected, rel=1e-12)
    words, targets = stream(indices)
    states = hidden_states(params, words, activation=activation)
    log_y = log_softmax(states @ params.V.T)
    if classes:
        log_y = class_log_outputs(params, states, classes)
    costs = -np.take_along_axis(log_y, targets[:, np.newaxis], axis=1)[:, 0]
    np.testing.assert_allclose(np.concatenate(found), costs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_word_costs_names_an_index_out_of_range(model, alpha):
    for indices in ([99, 0], [0, 99]):
        with pytest.raises(ValueError, match=r"holds the index 99 at"):
            list(word_costs(model.params, np.array(indices), alpha))


@pytest.mark.equation("eq-cosine")
def test_the_nearest_words_have_the_largest_cosines(model):
    U = model.params.U
    N = U.shape[1]
    for index in range(N):
        found = nearest_words(model.params, index, N)
        assert sorted(i for i, _ in found) == [i for i in range(N) if i != index]
        values = [value for _, value in found]
        assert values == sorted(values, reverse=True)
        for i, value in found:
            u, v = U[:, index], U[:, i]
            cosine = sum(u * v) / math.sqrt(sum(u * u) * sum(v * v))
            assert value == pytest.approx(cosine, abs=1e-12)
        assert nearest_words(model.params, index, 2) == found[:2]
    assert nearest_words(model.params, 0, 0) == []


def test_a_word_of_zeros_is_near_to_none(copied):
    copied.params.U[:, 1] = 0
    assert {value for _, value in nearest_words(copied.params, 1, 99)} == {0.0}


@pytest.mark.parametrize(
    ("index", "count", "message"),
    [
        (99, 1, r"^index holds the index 99"),
        (-1, 1, r"^index holds the index -1"),
        (0.5, 1, r"^index has"),
        (1, -1, r"^count is -1: expected an integer, 0 or more$"),
        (1, 1.5, r"^count is 1\.5: expected an integer"),
    ],
)
def test_nearest_words_names_what_is_wrong(model, index, count, message):
    with pytest.raises(ValueError, match=message):
        nearest_words(model.params, index, count)


# Training.


@pytest.mark.parametrize(
    "settings",
    [
        {"tau": 0},
        {"tau": 9, "activation": tanh, "seed": 4},
        {"activation": relu, "alpha": 0.1, "dtype": np.float32},
        {"alpha": 2.0},
    ],
)
def test_training_is_a_loop_of_online_learning(settings):
    settings = {**SMALL, "epochs": 30, **settings}
    history = []
    model = LanguageModel(**settings).fit(TEXT, OTHER, progress=history.append)
    activation, tau = model.activation, model.tau

    indices = model.vocabulary.encode(tokenize(TEXT))
    held_out = model.vocabulary.encode(tokenize(OTHER))
    words, targets = stream(indices)
    params = first_parameters(model)
    best, schedule, epochs = params, Schedule(model.alpha), []
    while schedule.alpha > 0:
        params = Parameters(*(matrix.copy("K") for matrix in params))
        memory, train = None, 0.0
        for first in range(0, len(words), 2016):
            piece = slice(first, first + 2016)
            costs, memory = learn_online(
                params,
                words[piece],
                targets[piece],
                schedule.alpha,
                tau,
                memory,
                activation=activation,
            )
            train += costs.sum()
        valid = loss(params, *stream(held_out), activation=activation) / len(held_out)
        epochs.append((schedule.alpha, train / len(words), valid))
        if valid < schedule.best:
            best = params
        params = best
        schedule = next_schedule(schedule, valid)

    assert len(model.history) == len(epochs) < 30
    for found, expected in zip(model.history, epochs, strict=True):
        assert found == pytest.approx(expected, rel=1e-12)
    assert_same(model.params, best)
    assert model.params.U.dtype == model.dtype
    assert model.training is None
    assert {found.epoch for found in history} == set(range(1, len(epochs) + 1))
    for found in history:
        assert found.total == len(words)
        assert found.alpha == epochs[found.epoch - 1][0]
        if found.words == found.total:
            assert found.nats == pytest.approx(epochs[found.epoch - 1][1], rel=1e-12)


def test_the_best_parameters_are_kept():
    model = LanguageModel(3, alpha=2.0, epochs=3).fit(TEXT, OTHER)
    costs = [epoch.valid for epoch in model.history]
    best = costs.index(min(costs))
    assert best < len(costs) - 1  # a later epoch made it worse
    indices = model.vocabulary.encode(tokenize(OTHER))
    found = text_loss(model.params, indices) / len(indices)
    assert found == costs[best]


def test_the_last_tenth_is_held_out_from_a_line_on():
    model = LanguageModel(**SMALL, epochs=1, min_count=1).fit(TEXT)
    count = len(tokenize(TEXT))
    cut = next(
        n
        for n in range(len(LINES), 0, -1)
        if len(tokenize("".join(LINES[:n]))) <= count * 9 / 10
    )
    same = LanguageModel(**SMALL, epochs=1, min_count=1)
    same.fit("".join(LINES[:cut]), "".join(LINES[cut:]))
    assert model.history == same.history
    assert model.vocabulary == same.vocabulary
    assert_same(model.params, same.params)
    assert count * 0.88 < len(tokenize("".join(LINES[:cut]))) < count * 0.9


@pytest.mark.parametrize(
    "text", ["dogs bark at cats", "title\n" + " ".join(LINES[:50]).replace("\n", "")]
)
def test_a_text_of_one_line_is_its_own_validation_text(text):
    model = LanguageModel(**SMALL, epochs=2, min_count=1).fit(text)
    same = LanguageModel(**SMALL, epochs=2, min_count=1).fit(text, text)
    assert model.history == same.history
    assert_same(model.params, same.params)


def test_words_of_the_held_out_text_alone_are_unknown():
    model = LanguageModel(**SMALL, epochs=1, min_count=1)
    model.fit("dogs bark\n" * 20 + "cats meow\n")
    assert model.vocabulary.words == ("</s>", "dogs", "bark", "<unk>")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"min_count": 3}, ("</s>", "a", "<unk>")),
        ({"min_count": 1}, ("</s>", "a", "b", "c", "<unk>")),
        ({"min_count": 1, "vocab_size": 3}, ("</s>", "a", "<unk>")),
        ({"min_count": 99}, ("</s>", "<unk>")),
    ],
)
def test_the_vocabulary_is_what_was_asked_for(settings, words):
    model = LanguageModel(2, epochs=1, **settings).fit("a a a b b c", "a")
    assert set(model.vocabulary.words) == set(words)
    assert model.vocabulary.words[:2] == words[:2] or "a" not in words


def test_training_twice_begins_anew(copied):
    assert copied.training.position == 0
    again = copied.fit(TEXT, OTHER)
    assert again is copied
    fresh = LanguageModel(**SMALL, epochs=2).fit(TEXT, OTHER)
    assert copied.history == fresh.history
    assert_same(copied.params, fresh.params)
    copied.fit(OTHER)
    assert len(copied.history) == 2
    assert copied.vocabulary != fresh.vocabulary


@pytest.mark.parametrize("valid", [Path("missing"), "\n", 5])
def test_a_text_that_cannot_be_read_leaves_the_model_as_it_was(copied, valid):
    before = copied.evaluate(OTHER)
    with pytest.raises((ValueError, OSError)):
        copied.fit("other words here", valid)
    assert copied.evaluate(OTHER) == before
    fresh = LanguageModel()
    with pytest.raises((ValueError, OSError)):
        fresh.fit("other words here", valid)
    with pytest.raises(ValueError, match=r"knows no text yet: call fit"):
        fresh.evaluate("other words")


def test_integers_of_numpy_are_integers(model, tmp_path):
    numbers = {
        "hidden_size": np.int64(3),
        "tau": np.int32(4),
        "epochs": np.uint8(2),
        "seed": np.int16(0),
        "min_count": np.int64(2),
        "vocab_size": np.int64(1000),
        "alpha": np.float64(0.3),
    }
    found = LanguageModel(**numbers).fit(TEXT, OTHER)
    assert_same(found.params, model.params)
    LanguageModel(alpha=np.float32(0.25), epochs=1).fit("a b").save(tmp_path / "m.npz")
    assert LanguageModel.load(tmp_path / "m.npz").alpha == 0.25


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *(
            (name, value, f"an integer, {lowest} or more")
            for name, lowest in {
                "hidden_size": 1,
                "tau": 0,
                "epochs": 1,
                "seed": 0,
                "min_count": 1,
                "vocab_size": 2,
                "batch": 1,
                "chunk": 1,
                "classes": 1,
            }.items()
            for value in (lowest - 1, 2.5, "3", True, 3.0)
        ),
        *(("alpha", x, "a finite number above 0") for x in (0, -1, math.nan, "1")),
        ("alpha", math.inf, "a finite number above 0"),
        *(
            ("dropout", p, "a number from 0 to below 1, and 0 with a batch of 1")
            for p in (-0.1, 1, 0.1, math.nan, "0.1", None, True)
        ),
        *(
            (
                "optimizer",
                name,
                "sgd, or with a batch above 1 adagrad, or also without classes adam",
            )
            for name in ("adam", "adagrad", "SGD", "", 5, [])
        ),
        *(("decay", name, "halving or linear") for name in ("Linear", "", None, 1)),
        ("activation", "sigmoid", "one of sigmoid, tanh, relu"),
        ("activation", np.tanh, "one of sigmoid, tanh, relu"),
        *(
            ("dtype", dtype, "float32 or float64")
            for dtype in ("float16", int, complex, ">f8", "f8,f8", "nonsense", object)
        ),
    ],
)
def test_settings_out_of_range_are_named(name, value, expected):
    with pytest.raises(ValueError, match=rf"^{name} is .*: expected {expected}$"):
        LanguageModel(**{name: value})


def test_a_model_without_text_says_so(tmp_path):
    fresh = LanguageModel()
    for call in (
        lambda: fresh.evaluate("dogs"),
        lambda: fresh.perplexity("dogs"),
        lambda: fresh.sample(np.random.default_rng(0)),
        lambda: fresh.save(tmp_path / "m.npz"),
        lambda: fresh.fit("dogs bark", resume=True),
    ):
        with pytest.raises(ValueError, match=r"^the model knows no text yet: call fit"):
            call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [({}, 2016), ({"batch": 4, "chunk": 7, "optimizer": "sgd"}, r"\d+")],
)
def test_a_rate_that_diverges_is_named(settings, words, tmp_path):
    model = LanguageModel(3, alpha=1e9, **settings)
    with pytest.raises(
        DivergenceError,
        match=rf"^alpha is 1e\+09: learning diverged within the first {words} words of "
        "epoch 1; take a smaller alpha$",
    ):
        model.fit(TEXT)
    assert model.training is None
    assert model.history == []
    # What it began with is left, not what was spoilt.
    assert_same(model.params, first_parameters(model))
    model.save(tmp_path / "m.npz")
    assert_same(LanguageModel.load(tmp_path / "m.npz").params, model.params)


@pytest.mark.parametrize("classes", [None, 4])
@pytest.mark.parametrize("settings", [SMALL, CHUNKS])
def test_a_later_epoch_that_diverges_leaves_the_best(settings, classes, monkeypatch):
    settings = {**settings, "classes": classes}
    learner = "_learn_chunk" if "batch" in settings else "_learn_piece"
    learn, epochs = getattr(LanguageModel, learner), []
    best = LanguageModel(**settings, epochs=1).fit(TEXT)

    def diverge(self, run, *arguments):
        epochs.append(run.position == 0)
        if sum(epochs) == 2 and run.position:
            run.params.V[:] = np.nan
            if classes:
                run.classes.Q[:] = np.nan
            raise DivergenceError("learning diverged")
        return learn(self, run, *arguments)

    monkeypatch.setattr(LanguageModel, learner, diverge)
    model, seen = LanguageModel(**settings), []
    with pytest.raises(DivergenceError) as caught:
        model.fit(TEXT, progress=seen.append)
    words = seen[-1].total if learner == "_learn_piece" else 2 * 4 * 7
    assert f" within the first {words} words of epoch 2; take" in str(caught.value)
    assert seen[-1].words < words
    assert_same(weights(model), weights(best))
    assert model.history == best.history


def test_reading_a_text_takes_some_bytes_a_token(tmp_path, monkeypatch):
    def in_small_blocks(source, characters):
        return index_text(source, characters, _block_size=1 << 14)

    monkeypatch.setattr(language_model, "index_text", in_small_blocks)
    peaks, counts = [], []
    for times in (10, 40):
        path = tmp_path / f"{times}.txt"
        path.write_text(TEXT * times)
        tracemalloc.start()
        try:
            with pytest.raises(StopError):
                LanguageModel(**SMALL).fit(path, progress=stop_after(1))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        counts.append(times * len(tokenize(TEXT)))
    assert (peaks[1] - peaks[0]) / (counts[1] - counts[0]) < 16


# In chunks.


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "sgd", "alpha": 0.5, "tau": 2},
        {"dropout": 0.3, "dtype": np.float32, "activation": tanh, "seed": 2**70},
        {"optimizer": "sgd", "alpha": 0.1, "activation": relu, "dropout": 0.1},
        {"chunk": 10**9, "batch": 3},
        {"optimizer": "adagrad", "dropout": 0.1, "alpha": 0.5},
    ],
)
def test_training_in_chunks_is_a_loop_of_a_learner(settings):
    settings = {**CHUNKS, "epochs": 4, **settings}
    seen = []
    model = LanguageModel(**settings).fit(TEXT, OTHER, progress=seen.append)
    B, p = model.batch, model.dropout

    indices = model.vocabulary.encode(tokenize(TEXT))
    held_out = model.vocabulary.encode(tokenize(OTHER))
    words, targets = (lanes(part, B) for part in stream(indices))
    L = len(words)
    assert 0 < len(indices) - L * B < B  # words are left out
    params = first_parameters(model)
    best, schedule, epochs = params, Schedule(model.alpha), []
    moments = sums = None
    with workers() as pool:
        while schedule.alpha > 0 and len(epochs) < model.epochs:
            params = Parameters(*(matrix.copy("K") for matrix in params))
            learner = ChunkLearner(
                params, B, min(model.chunk, L), pool, model.activation, model.tau,
                dropout=Dropout(p, p), optimizer=model.optimizer,
            )  # fmt: skip
            learner.moments, train = moments or learner.moments, 0.0
            for h, kept in zip(learner.sums or [], sums or [], strict=False):
                h[:] = kept
            for first in range(0, L, model.chunk):
                chunk = slice(first, first + model.chunk)
                rng = np.random.default_rng([model.seed, len(epochs), first])
                train += learner.learn(
                    words[chunk], targets[chunk], schedule.alpha, rng
                )
            moments, sums = learner.moments, learner.sums
            valid = text_loss(params, held_out, model.activation) / len(held_out)
            epochs.append((schedule.alpha, train / (L * B), valid))
            if valid < schedule.best:
                best = params
            params = best
            schedule = next_schedule(schedule, valid)

    assert model.history == epochs
    assert_same(model.params, best)
    assert model.params.U.dtype == model.dtype
    # Between two chunks it tells how far it is.
    assert len(seen) == len(epochs) * math.ceil(L / model.chunk)
    assert [found.words for found in seen if found.epoch == 1] == [
        min(first + model.chunk, L) * B for first in range(0, L, model.chunk)
    ]
    for found in seen:
        assert (found.total, found.alpha) == (L * B, epochs[found.epoch - 1][0])
        if found.words == found.total:
            assert found.nats == epochs[found.epoch - 1][1]


def test_chunks_go_back_to_the_best():
    model = LanguageModel(3, batch=4, chunk=7, alpha=1.0, epochs=3).fit(TEXT, OTHER)
    costs = [epoch.valid for epoch in model.history]
    best = costs.index(min(costs))
    assert best < len(costs) - 1  # a later epoch made it worse
    indices = model.vocabulary.encode(tokenize(OTHER))
    assert text_loss(model.params, indices) / len(indices) == costs[best]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        ({"batch": 4}, [()]),
        ({"classes": 3}, [(1,)]),
        ({"batch": 4, "classes": 3}, [(1,)]),
    ],
)
def test_classes_are_learnt_in_one_thread(settings, expected, monkeypatch):
    asked = []

    def counted(*count):
        asked.append(count)
        return workers(*count)

    monkeypatch.setattr(language_model, "workers", counted)
    LanguageModel(3, **settings, epochs=1).fit(TEXT)
    assert asked == expected


@pytest.mark.parametrize("classes", [None, 1, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bytes_do_not_depend_on_the_threads(tmp_path, monkeypatch, dtype, classes):
    settings = {"batch": 5, "chunk": 20, "dropout": 0.2, "dtype": dtype, "epochs": 2}
    settings["classes"] = classes
    files = []
    for count in (1, 2, 3, None):
        monkeypatch.setattr(language_model, "workers", lambda *_, n=count: workers(n))
        model = LanguageModel(30, **settings, seed=1).fit(TEXT)
        model.save(tmp_path / "m.npz")
        files.append((tmp_path / "m.npz").read_bytes())
    assert files.count(files[0]) == 4
    LanguageModel(30, **settings, seed=2).fit(TEXT).save(tmp_path / "m.npz")
    assert (tmp_path / "m.npz").read_bytes() != files[0]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad"])
def test_a_model_learns_in_chunks(optimizer):
    model = LanguageModel(10, batch=4, chunk=10, optimizer=optimizer, epochs=12)
    model.fit(TEXT, OTHER)
    indices = model.vocabulary.encode(tokenize(OTHER))
    own = unigram_probabilities(indices, len(model.vocabulary))  # none does better
    assert model.perplexity(OTHER) < 0.7 * perplexity(entropy(own))


@pytest.mark.parametrize(
    ("settings", "resolved"),
    [
        ({}, ("sgd", 0.1, 4)),
        ({"optimizer": "sgd"}, ("sgd", 0.1, 4)),
        ({"batch": 2}, ("adam", 0.01, None)),
        ({"batch": 2, "optimizer": "adam"}, ("adam", 0.01, None)),
        ({"batch": 2, "optimizer": "sgd"}, ("sgd", 1.0, None)),
        ({"batch": 2, "tau": 5, "alpha": 0.2}, ("adam", 0.2, 5)),
        ({"batch": 2, "classes": 5}, ("adagrad", 1.0, None)),
        ({"batch": 2, "optimizer": "adagrad"}, ("adagrad", 1.0, None)),
    ],
)
def test_what_is_not_given_depends_on_the_batch(settings, resolved):
    model = LanguageModel(**settings)
    assert (model.optimizer, model.alpha, model.tau) == resolved
    assert model.chunk == 35
    assert model.dropout == 0.0


@pytest.mark.parametrize("p", [1, 1.5, -0.1, math.nan, "0.1", None, True])
def test_dropout_out_of_range_is_named(p):
    with pytest.raises(ValueError, match=r"^dropout is .*: expected a number from 0"):
        LanguageModel(batch=2, dropout=p)
    assert LanguageModel(batch=2, dropout=np.float32(0.5)).dropout == 0.5


def test_a_text_must_have_a_word_for_each_lane(copied):
    before = copied.evaluate(OTHER)
    for words in (3, 4):
        model = LanguageModel(2, batch=4, chunk=1, epochs=2, min_count=1)
        text = " ".join(["dogs"] * (words - 1))  # and `</s>`
        if words == 4:
            assert len(model.fit(text).history) == 2
        else:
            with pytest.raises(
                ValueError,
                match=r"^batch is 4: expected at most 3, as the text has so many words;"
                " take a smaller batch or a longer text$",
            ):
                model.fit(text)
            assert model.vocabulary is None
    copied.batch = 10**6
    with pytest.raises(ValueError, match=r"^batch is 1000000: expected at most"):
        copied.fit(TEXT)
    assert copied.evaluate(OTHER) == before


def test_memory_is_taken_for_no_chunk_longer_than_the_text():
    tracemalloc.start()
    try:
        LanguageModel(2, batch=2, chunk=10**9, epochs=1).fit(OTHER)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("alpha", [None, 0.02])
def test_a_model_of_chunks_goes_on_learning_word_by_word(alpha):
    model = LanguageModel(**CHUNKS, epochs=1, tau=1).fit(TEXT)
    found = model.evaluate(OTHER, dynamic=True, alpha=alpha)
    params = Parameters(*(matrix.copy("K") for matrix in model.params))
    words, targets = stream(model.vocabulary.encode(tokenize(OTHER)))
    costs, _ = learn_online(params, words, targets, alpha or 0.1, 4)
    assert found.nats == pytest.approx(costs.mean(), rel=1e-12)


# Resuming.


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "sgd", "alpha": 0.5, "tau": 2},
        {"dropout": 0.3, "chunk": 5},
        {"optimizer": "sgd", "dropout": 0.2, "dtype": np.float32},
        {"alpha": 0.6},  # some epochs make it worse
        {"optimizer": "sgd", "alpha": 3.0, "decay": "linear"},
        {"optimizer": "sgd", "classes": 4, "dropout": 0.2},
        {"optimizer": "sgd", "classes": 1, "alpha": 3.0, "decay": "linear"},
    ],
)
def test_a_training_in_chunks_goes_on_as_if_it_never_stopped(tmp_path, settings):
    settings = {**CHUNKS, "epochs": 5, **settings}
    text = "".join(LINES[:150])
    LanguageModel(**settings).fit(text).save(tmp_path / "whole.npz")

    rng = np.random.default_rng(0)
    model, path = LanguageModel(**settings), tmp_path / "stopped.npz"
    fit, positions = model.fit, []
    while True:
        try:
            fit(text, progress=stop_after(rng.integers(1, 25)))
            break
        except StopError:
            positions.append(model.training.position)
            model.save(path)
            before = path.read_bytes()
            model = LanguageModel.load(path)
            model.save(path)
            assert path.read_bytes() == before
            fit = partial(model.fit, resume=True)
    assert len(set(positions)) > 5
    model.save(path)
    assert path.read_bytes() == (tmp_path / "whole.npz").read_bytes()


@pytest.mark.parametrize(
    "settings",
    [
        CHUNKS,
        {**CHUNKS, "dropout": 0.2},
        {**CHUNKS, "classes": 4},
        SMALL,
        {**SMALL, "classes": 4},
    ],
)
def test_two_stops_leave_what_one_leaves(tmp_path, monkeypatch, settings):
    monkeypatch.setattr(language_model, "_piece_length", lambda *_: 112)
    files = []
    for stops in ([5], [2, 3], [1, 1, 3]):
        model = LanguageModel(**settings)
        for at in stops:
            begun = model.training is not None
            with pytest.raises(StopError):
                model.fit(TEXT, resume=begun, progress=stop_after(at))
            model.save(tmp_path / "m.npz")
            model = LanguageModel.load(tmp_path / "m.npz")
        files.append((tmp_path / "m.npz").read_bytes())
    assert model.history == []  # in the midst of the first epoch
    assert files.count(files[0]) == 3


@pytest.mark.parametrize(
    "settings", [{}, {"optimizer": "sgd", "dropout": 0.2}, {"classes": 3}]
)
def test_a_training_in_chunks_goes_on_without_a_file_between(settings):
    whole = LanguageModel(**{**CHUNKS, **settings}, epochs=3).fit(TEXT)
    model = LanguageModel(**{**CHUNKS, **settings}, epochs=3)
    with pytest.raises(StopError):
        model.fit(TEXT, progress=stop_after(100))
    model.fit(TEXT, resume=True)
    assert model.history == whole.history
    assert_same(model.params, whole.params)


@pytest.mark.parametrize("settings", [{}, {"optimizer": "sgd"}, {"classes": 3}])
def test_a_training_that_has_not_begun_can_be_resumed(tmp_path, monkeypatch, settings):
    settings = {**CHUNKS, **settings, "epochs": 1}
    model = LanguageModel(**settings)
    with monkeypatch.context() as patch:

        def stop(*arguments):
            raise KeyboardInterrupt

        patch.setattr(LanguageModel, "_learner", stop)
        with pytest.raises(KeyboardInterrupt):
            model.fit(TEXT)
    model.save(tmp_path / "m.npz")
    found = LanguageModel.load(tmp_path / "m.npz").fit(TEXT, resume=True)
    assert_same(found.params, LanguageModel(**settings).fit(TEXT).params)


@pytest.mark.parametrize("calls", [1, 2, 3, 4, 6])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dtype": np.float32, "tau": 1},
        {"characters": True},
        {"classes": 4},
        {"classes": 3, "dtype": np.float32, "decay": "linear"},
    ],
)
def test_a_training_goes_on_as_if_it_never_stopped(
    tmp_path, monkeypatch, calls, settings
):
    monkeypatch.setattr(language_model, "_piece_length", lambda *_: 700)
    settings = {**SMALL, "epochs": 3, **settings}
    text = "".join(LINES[:300]) if "characters" not in settings else "".join(LINES[:70])
    whole = LanguageModel(**settings).fit(text)
    whole.save(tmp_path / "whole.npz")

    path = tmp_path / "stopped.npz"
    model = LanguageModel(**settings)
    with pytest.raises(StopError):
        model.fit(text, progress=stop_after(calls))
    stops = 1
    while True:
        model.save(path)
        before = path.read_bytes()
        model = LanguageModel.load(path)
        model.save(path)
        assert path.read_bytes() == before
        try:
            model.fit(text, resume=True, progress=stop_after(calls))
            break
        except StopError:
            stops += 1
    assert stops * calls < 12
    model.save(path)
    assert path.read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_a_training_goes_on_without_a_file_between():
    whole = LanguageModel(**SMALL, epochs=3).fit(TEXT)
    model = LanguageModel(**SMALL, epochs=3)
    with pytest.raises(StopError):
        model.fit(TEXT, progress=stop_after(2))
    model.fit(TEXT, resume=True)
    assert model.history == whole.history
    assert_same(model.params, whole.params)


def test_a_resumed_training_must_be_the_same(copied, model):
    for texts in ((TEXT,), (OTHER, OTHER), (TEXT, TEXT), (TEXT + "a\n", OTHER)):
        with pytest.raises(ValueError, match=r"^text or valid is not what the train"):
            copied.fit(*texts, resume=True)
    assert_same(copied.params, model.params)
    copied.training = None
    with pytest.raises(ValueError, match=r"^resume is True, but the training is over"):
        copied.fit(TEXT, OTHER, resume=True)


@pytest.mark.parametrize("settings", [SMALL, CHUNKS])
def test_a_training_stopped_within_a_piece_cannot_be_resumed(
    monkeypatch, tmp_path, settings
):
    def stop(*arguments, **more):
        raise KeyboardInterrupt

    model = LanguageModel(**settings)
    monkeypatch.setattr(language_model, "learn_online", stop)
    monkeypatch.setattr(ChunkLearner, "learn", stop)
    with pytest.raises(KeyboardInterrupt):
        model.fit(TEXT)
    model.save(tmp_path / "m.npz")
    assert LanguageModel.load(tmp_path / "m.npz").training is None


# Files.


@pytest.mark.parametrize(
    "in_chunks",
    [
        {},
        {"batch": 4, "chunk": 9, "optimizer": "sgd", "dropout": 0.25},
        {"batch": 3, "tau": None},
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", [tanh, relu])
def test_a_saved_model_comes_back(tmp_path, dtype, activation, in_chunks):
    path = tmp_path / "m.npz"
    settings = {"tau": 2, "alpha": 0.05, "epochs": 2, "seed": 3, "min_count": 1}
    settings |= {"vocab_size": 8, "activation": activation, "dtype": dtype}
    model = LanguageModel(4, **{**settings, **in_chunks}).fit(TEXT)
    model.save(path)
    found = LanguageModel.load(path)
    for name in language_model._SETTINGS:
        assert getattr(found, name) == getattr(model, name)
        assert type(getattr(found, name)) is type(getattr(model, name))
    assert (found.activation, found.dtype) == (activation, np.dtype(dtype))
    assert found.vocabulary == model.vocabulary
    assert found.history == model.history
    assert_same(found.params, model.params)
    assert_same(found.training.params, model.training.params)
    assert found.training.schedule == model.training.schedule
    assert found.evaluate(OTHER) == model.evaluate(OTHER)
    found.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The header and arrays of a model in the midst of its training."""
    path = tmp_path_factory.mktemp("model") / "m.npz"
    model = LanguageModel(**SMALL, epochs=4)
    with pytest.raises(StopError):
        model.fit(TEXT, OTHER, progress=stop_after(4))
    assert len(model.history) == 1
    assert model.training.position > 0
    model.save(path)
    return read_arrays(path)


@pytest.fixture(
    scope="module",
    params=[
        {"optimizer": "sgd"},
        {"optimizer": "adam"},
        {"optimizer": "adagrad"},
        {"classes": 4},
        {"classes": 4, "optimizer": "sgd"},
    ],
    ids=["sgd", "adam", "adagrad", "classes", "classes, sgd"],
)
def chunk_content(request, tmp_path_factory):
    """The header and arrays of a model in the midst of its training in chunks."""
    path = tmp_path_factory.mktemp("model") / "m.npz"
    model = LanguageModel(**CHUNKS, epochs=4, dropout=0.1, **request.param)
    with pytest.raises(StopError):
        model.fit("".join(LINES[:100]), OTHER, progress=stop_after(30))
    assert len(model.history) == 1
    assert model.training.position > 0
    model.save(path)
    return read_arrays(path)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A file that the examples of a property share."""
    return tmp_path_factory.mktemp("files") / "scratch.npz"


def refusal(path, header, arrays):
    """What is said of a model file with this content."""
    path.unlink(missing_ok=True)
    write_arrays(path, header, arrays)
    with pytest.raises(ModelFileError) as caught:
        LanguageModel.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path} holds no model that fits together (")
    assert message.endswith("): train or copy it anew")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 300
    return message


def changed(tree, keys, value):
    """A copy of JSON with another value at a place; DELETE takes the place away."""
    tree = json.loads(json.dumps(tree))
    place = tree
    for key in keys[:-1]:
        place = place[key]
    if value is DELETE:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return tree


DELETE = object()
WRONG_VALUES = {
    ("settings",): [DELETE, None, [], "", 5],
    ("settings", "hidden_size"): [0, 4, -3, 3.0, "3", None, True, 10**400, [3]],
    ("settings", "tau"): [-1, None, 2.5, False],
    ("settings", "alpha"): [0, -1.0, "0.3", None, 10**400, 1, True],
    ("settings", "epochs"): [0, "4", 4.0],
    ("settings", "seed"): [-1, 0.0, {}],
    ("settings", "min_count"): [0, "x"],
    ("settings", "vocab_size"): [1, 0, "all", 5.5],
    ("settings", "characters"): ["no", 0, None, []],
    ("settings", "activation"): ["softmax", None, 3, ["tanh"], {}],
    ("settings", "dtype"): ["float32", "f8", "object", None, {}, ["f8"], "f8,f8", 8],
    ("settings", "batch"): [DELETE, 0, 2, 1.0, True, None, 10**30],
    ("settings", "chunk"): [DELETE, 0, 35.0, None, "35"],
    ("settings", "optimizer"): [DELETE, None, "adam", "", 1],
    ("settings", "dropout"): [DELETE, 0, 0.1, None, False, "0"],
    ("settings", "more"): [1],
    ("settings", "self"): [1],
    ("vocabulary",): [
        DELETE,
        None,
        [],
        "</s>",
        5,
        ["</s>"],
        ["<unk>", "</s>"],
        {"</s>": 0},
        ["</s>", "<unk>"] * 2,
        ["</s>", "<unk>", 3],
    ],
    ("vocabulary", 1): [1, None, ["dogs"], "</s>", {}],
    ("history",): [
        DELETE,
        None,
        5,
        ["123"],
        [[0.3, 1.0]],
        [[1] * 4],
        [[0.3, 1.0, "2"]],
        [{}],
        {"a": 1},
    ],
    ("history", 0, 0): [-0.1, None, "x", 10**400, True],
    ("history", 0, 1): [-0.1, None, [], 1],
    ("history", 0, 2): [-0.1, None],
    ("training",): [None, [], "x", {}],
    ("training", "alpha"): [DELETE, -1.0, None, "0.3", 10**400],
    ("training", "best"): [DELETE, -1.0, "1", []],
    ("training", "halving"): [DELETE, None, 0, "no"],
    ("training", "texts"): [DELETE, 5, None],
    ("training", "position"): [DELETE, -1, 0, 2.0, "3", None, True],
    ("training", "cost"): [DELETE, -1.0, None, "x"],
    ("training", "recent"): [DELETE, -1.0, None, "x", []],
    ("training", "steps"): [0, None],
    ("training", "more"): [1],
    ("more",): [1, None],
}


@pytest.mark.parametrize(
    ("keys", "value"),
    [(keys, value) for keys, values in WRONG_VALUES.items() for value in values],
)
def test_a_header_of_no_model_is_refused(scratch, content, keys, value):
    header, arrays = content
    refusal(scratch, changed(header, keys, value), arrays)


WRONG_IN_CHUNKS = {
    ("settings", "batch"): [DELETE, 0, 1, 2, 8, 4.0, None, 10**30],
    ("settings", "chunk"): [DELETE, 0, 7.0, None],
    ("settings", "optimizer"): [DELETE, None, "", 1],
    ("settings", "dropout"): [DELETE, 1.0, -0.1, None, False, "0.1"],
    ("settings", "tau"): [DELETE, -1, "no limit", 2.0],
    ("settings", "alpha"): [DELETE, None, 0.0, 1],
    ("training", "position"): [DELETE, 0, -4, 1, 4.0, None],
    ("training", "recent"): [DELETE, -1.0, None, "x"],
}


@pytest.mark.parametrize(
    ("keys", "value"),
    [(keys, value) for keys, values in WRONG_IN_CHUNKS.items() for value in values],
)
def test_a_header_of_no_model_of_chunks_is_refused(scratch, chunk_content, keys, value):
    header, arrays = chunk_content
    refusal(scratch, changed(header, keys, value), arrays)


def test_what_an_optimizer_remembers_is_kept_with_it_only(scratch, chunk_content):
    header, arrays = chunk_content
    optimizer = header["settings"]["optimizer"]
    for value in (DELETE, -1, 2.0, None, "3", True, 10**400):
        if optimizer == "adam" or value is not DELETE:
            refusal(scratch, changed(header, ("training", "steps"), value), arrays)
    for other in {"sgd", "adam", "adagrad"} - {optimizer}:
        refusal(scratch, changed(header, ("settings", "optimizer"), other), arrays)


def test_arrays_of_no_model_of_chunks_are_refused(scratch, chunk_content):
    header, arrays = chunk_content
    write_arrays(scratch, header, arrays)
    assert LanguageModel.load(scratch).training.lanes
    of_squares = {
        "sgd": [],
        "adam": [f"training.square.{name}" for name in "UWV"],
        "adagrad": [f"training.sum.{name}" for name in "UWVQ"],
    }[header["settings"]["optimizer"]]
    if not header["settings"]["classes"]:
        of_squares = of_squares[:3]
    means = [f"training.mean.{name}" for name in "UWV"]
    others = {*means, "training.square.V", "training.sum.V", "training.sum.Q"}
    kinds = ("training.mean.", "training.square.", "training.sum.")
    remembered = {name for name in arrays if name.startswith(kinds)}
    for name in sorted(others - remembered):
        refusal(scratch, header, arrays | {name: arrays["V"]})
    refusal(scratch, header, arrays | {"training.words": np.arange(3)})
    changes = {
        "NaN": lambda a: _with(a, (0, 0), np.nan),
        "fewer": lambda a: a[:-1],
        "narrower": lambda a: a[:, :-1],
        "more axes": lambda a: a[None],
        "none": lambda a: a[:0],
        "a number": lambda a: np.array(a[0, 0]),
        "float32": lambda a: a.astype(np.float32),
        "integers": lambda a: a.astype(np.int64),
    }
    for name in ("training.states", *sorted(remembered)):
        refusal(scratch, header, {k: v for k, v in arrays.items() if k != name})
        for change in changes.values():
            refusal(scratch, header, arrays | {name: change(arrays[name])})
    for name in of_squares:
        negative = _with(arrays[name], (0, 0), -1e-9)
        assert "negative" in refusal(scratch, header, arrays | {name: negative})


def _replaced(name, value):
    return lambda arrays: {**arrays, name: value(arrays[name])}


def _with(array, place, value):
    array = array.copy("K")
    array[place] = value
    return array


WRONG_ARRAYS = {
    "no U": lambda arrays: {k: v for k, v in arrays.items() if k != "U"},
    "no states": lambda a: {k: v for k, v in a.items() if k != "training.states"},
    "another": lambda arrays: {**arrays, "more": np.zeros(3)},
    **{
        f"{name}: {problem}": _replaced(name, change)
        for name in ("U", "W", "V", "training.U", "training.W", "training.V")
        for problem, change in {
            "NaN": lambda a: _with(a, (0, 0), np.nan),
            "infinite": lambda a: _with(a, (1, 1), -np.inf),
            "transposed": lambda a: a.T if a.shape[0] != a.shape[1] else a[:2],
            "smaller": lambda a: a[:-1],
            "empty": lambda a: a[:0],
            "one more axis": lambda a: a[None],
            "one axis": lambda a: a.ravel(),
            "a number": lambda a: np.array(a[0, 0]),
            "float32": lambda a: a.astype(np.float32),
            "integers": lambda a: a.astype(np.int64),
        }.items()
    },
    **{
        f"words: {problem}": _replaced("training.words", change)
        for problem, change in {
            "too large": lambda a: _with(a, 0, 10**6),
            "negative": lambda a: _with(a, 0, -1),
            "floats": lambda a: a.astype(np.float64),
            "fewer": lambda a: a[:-1],
            "none": lambda a: a[:0],
            "rows": lambda a: a[None],
            "a number": lambda a: np.array(a[0]),
        }.items()
    },
    **{
        f"states: {problem}": _replaced("training.states", change)
        for problem, change in {
            "NaN": lambda a: _with(a, (0, 0), np.nan),
            "fewer": lambda a: a[:-1],
            "narrower": lambda a: a[:, :-1],
            "more axes": lambda a: a[None],
            "none": lambda a: a[:0],
            "float32": lambda a: a.astype(np.float32),
            "integers": lambda a: a.astype(np.int64),
        }.items()
    },
}


@pytest.mark.parametrize("change", WRONG_ARRAYS.values(), ids=WRONG_ARRAYS)
def test_arrays_of_no_model_are_refused(scratch, content, change):
    header, arrays = content
    refusal(scratch, header, change(arrays))


def test_the_content_itself_is_a_model(scratch, content):
    scratch.unlink(missing_ok=True)
    write_arrays(scratch, *content)
    assert LanguageModel.load(scratch).training.position > 0


def test_a_name_that_would_not_print_is_quoted(tmp_path, content):
    path = tmp_path / "a\nb"
    write_arrays(path, {}, {})
    with pytest.raises(ModelFileError) as caught:
        LanguageModel.load(path)
    assert str(caught.value).startswith(f"{str(path)!r} holds no model")
    assert str(caught.value).isprintable()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    max_leaves=6,
)


def places(tree, keys=()):
    """Every place in JSON."""
    if keys:
        yield keys
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            yield from places(value, (*keys, key))


@settings(max_examples=200)
@given(st.data())
def test_any_header_is_a_model_or_refused(scratch, content, chunk_content, data):
    header, arrays = data.draw(st.sampled_from([content, chunk_content]))
    for _ in range(data.draw(st.integers(1, 3))):
        found = list(places(header))
        if found:
            keys = data.draw(st.sampled_from(found))
            header = changed(header, keys, data.draw(JSON | st.just(DELETE)))
    scratch.unlink(missing_ok=True)
    write_arrays(scratch, header, arrays)
    try:
        model = LanguageModel.load(scratch)
    except ModelFileError:
        return
    # What was loaded can be used, and is what was saved.
    model.evaluate(OTHER)
    model.sample(np.random.default_rng(0), 3)
    before = scratch.read_bytes()
    model.save(scratch)
    assert scratch.read_bytes() == before


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["settings", "vocabulary", "history"]), JSON))
def test_arbitrary_json_is_no_model(scratch, header):
    refusal(scratch, header, {})


# What a model says of a text.


def test_evaluation_counts_and_costs(model):
    found = model.evaluate(OTHER)
    tokens = tokenize(OTHER)
    indices = model.vocabulary.encode(tokens)
    assert found.words == len(tokens)
    assert found.unknown == model.vocabulary.unknown_words(tokens).total() >= 2
    assert found.nats == pytest.approx(
        loss(model.params, *stream(indices)) / len(tokens), rel=1e-12
    )
    assert found.perplexity == perplexity(found.nats) == model.perplexity(OTHER)
    assert all(type(x) in (int, float) for x in found)


def test_a_literal_unk_is_not_counted_as_unknown(model):
    assert model.evaluate("<unk> <unk>").unknown == 0
    assert model.evaluate("zebra <unk>").unknown == 1
    assert model.evaluate("zebra").nats == model.evaluate("<unk>").nats


@pytest.mark.parametrize("settings", [{}, {"dtype": np.float32, "activation": tanh}])
def test_dynamic_evaluation_learns_and_leaves_the_model(settings, monkeypatch):
    monkeypatch.setattr(language_model, "_piece_length", lambda *_: 101)
    model = LanguageModel(3, epochs=1, **settings).fit(TEXT)
    before = [matrix.copy("K") for matrix in model.params]
    found = model.evaluate(OTHER, dynamic=True)
    assert_same(model.params, before)
    params = Parameters(*(matrix.copy("K") for matrix in model.params))
    words, targets = stream(model.vocabulary.encode(tokenize(OTHER)))
    costs, _ = learn_online(
        params, words, targets, model.alpha, model.tau, activation=model.activation
    )
    rel = 1e-12 if model.dtype == np.float64 else 1e-5
    assert found.nats == pytest.approx(costs.mean(), rel=rel)
    assert found.nats != model.evaluate(OTHER).nats
    assert model.perplexity(OTHER, dynamic=True) == found.perplexity


def test_a_rate_of_zero_evaluates_as_none(model):
    static, dynamic = model.evaluate(OTHER), model.evaluate(OTHER, True, 0.0)
    assert dynamic.nats == pytest.approx(static.nats, rel=1e-12)


def test_dynamic_evaluation_has_the_rate_of_training_unless_told(model):
    usual = model.evaluate(OTHER, dynamic=True)
    assert model.evaluate(OTHER, dynamic=True, alpha=model.alpha) == usual
    assert model.evaluate(OTHER, dynamic=True, alpha=model.alpha / 9) != usual
    with pytest.raises(ValueError, match=r"^alpha is 0\.1 and dynamic False: give"):
        model.evaluate(OTHER, alpha=0.1)
    with pytest.raises(ValueError, match=r"^alpha is -1: expected"):
        model.evaluate(OTHER, dynamic=True, alpha=-1)


def test_updates_of_v_are_settled_where_they_would_be_in_one_piece(model):
    for size in (1, 30, 1000, 10_000, 10**6):
        V = np.empty((size, 0))
        params = model.params._replace(V=V)
        length = language_model._piece_length(params, None)
        assert length % 32 == 0
        assert 128 <= length <= 2016
        # of classes there are less logits, so that reports come as often
        halves = Classes(np.empty((2, 0)), np.array([0, size // 2, size]))
        assert length <= language_model._piece_length(params, halves) <= 2016
    assert (
        length
        == 128
        < language_model._piece_length(
            params, Classes(np.empty((1000, 0)), np.arange(1001) * 1000)
        )
    )


def test_texts_come_in_all_forms(model, tmp_path):
    path = tmp_path / "other.txt"
    path.write_text(OTHER)
    expected = model.evaluate(OTHER)
    for source in (path, str(path), [path], (str(path),)):
        assert model.evaluate(source) == expected
    double = model.evaluate([path, path])
    assert double == model.evaluate(OTHER + OTHER)
    for source in ("", "\n", [], 3, None, [OTHER, 3], tmp_path):
        with pytest.raises((ValueError, OSError)):
            model.evaluate(source)
    with pytest.raises(ValueError, match="NUL"):
        model.evaluate("dogs\0")


def test_a_sample_is_what_the_network_generates(model):
    vocabulary = model.vocabulary
    prompt = vocabulary.encode(["</s>", "the"])
    drawn = generate(model.params, np.random.default_rng(2), 40, prompt, 0.7)
    tokens = ["the", *vocabulary.decode(drawn)]
    assert "</s>" in tokens
    lines = " ".join(tokens).split("</s>")
    expected = "\n".join(line.strip() for line in lines)
    found = model.sample(np.random.default_rng(2), 40, 0.7, "the")
    assert found == expected
    assert found == model.sample(np.random.default_rng(2), 40, 0.7, "the")
    assert found != model.sample(np.random.default_rng(3), 40, 0.7, "the")


@pytest.mark.parametrize("words", [0, 1, 2, 33])
def test_a_sample_has_as_many_words_as_asked_for(model, characters, words):
    rng = np.random.default_rng(0)
    found = model.sample(rng, words)
    assert len(found.split()) + found.count("\n") == words
    found = characters.sample(rng, words)
    assert len(found.replace("<unk>", "?")) == words
    assert model.sample(rng, np.int64(words), prompt="the dogs").startswith("the dogs")


def test_a_temperature_of_zero_takes_the_most_probable(model):
    texts = {model.sample(np.random.default_rng(n), 9, 0) for n in range(5)}
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("prompt", "begin"),
    [
        ("", ""),
        ("  \t", ""),
        ("the  dogs", "the dogs"),
        ("the dogs\n", "the dogs\n"),
        ("\nthe\r\n\r\ndogs\rthe", "the\ndogs\nthe"),
        ("the </s> dogs", "the\ndogs"),
        ("zebra", "zebra"),
    ],
)
def test_a_sample_begins_as_asked_for(model, prompt, begin):
    assert model.sample(np.random.default_rng(0), 0, prompt=prompt) == begin
    tokens = begin.replace("\n", " </s> ").split()
    drawn = generate(
        model.params,
        np.random.default_rng(0),
        1,
        model.vocabulary.encode(["</s>", *tokens]),
    )
    (word,) = model.vocabulary.decode(drawn)
    found = model.sample(np.random.default_rng(0), 1, prompt=prompt)
    assert found.replace("\n", " </s> ").split() == [*tokens, word]


@pytest.mark.parametrize(
    ("prompt", "begin"),
    [("", ""), (" ", " "), ("the\r\n\rdo", "the\n\ndo"), ("\n", "\n"), ("x\n", "x\n")],
)
def test_a_sample_of_characters_begins_as_asked_for(characters, prompt, begin):
    assert characters.sample(np.random.default_rng(0), 0, prompt=prompt) == begin
    tokens = ["</s>" if c == "\n" else c for c in begin]
    drawn = generate(
        characters.params,
        np.random.default_rng(0),
        1,
        characters.vocabulary.encode(["</s>", *tokens]),
    )
    (next_token,) = characters.vocabulary.decode(drawn)
    found = characters.sample(np.random.default_rng(0), 1, prompt=prompt)
    assert found == begin + next_token.replace("</s>", "\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"words": -1}, r"^words is -1: expected an integer, 0 or more$"),
        ({"words": 2.5}, r"^words is 2\.5: expected an integer"),
        ({"temperature": -1}, r"^temperature is -1"),
        ({"temperature": math.nan}, r"^temperature is nan"),
    ],
)
def test_a_sample_names_what_is_wrong(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.sample(np.random.default_rng(0), **arguments)


def test_characters_are_tokens(characters):
    text = "".join(LINES[:99])
    assert set(characters.vocabulary.words) == {"</s>", "<unk>", *text} - {"\n"}
    found = characters.evaluate("the dogs\n\nbärk")
    assert (found.words, found.unknown) == (9 + 1 + 5, 1)
    indices = characters.vocabulary.encode(
        [*"the dogs", "</s>", "</s>", *"bärk", "</s>"]
    )
    expected = loss(characters.params, *stream(indices)) / len(indices)
    assert found.nats == pytest.approx(expected, rel=1e-12)
    assert found.words == len(index_text("the dogs\n\nbärk", True).indices)
    assert characters.perplexity(text) < len(characters.vocabulary)


# Classes, and the linear decay.


CLASSES = [
    {"epochs": 2, "classes": 5},
    {"epochs": 2, "classes": 5, "batch": 4, "chunk": 10},
]


def class_weights(model):
    """The parameters and the weights of the classes."""
    return Parameters(*model.params), model.word_classes


@pytest.mark.parametrize("settings", CLASSES)
def test_a_model_with_classes_learns_as_its_parts_do(settings):
    settings = {**settings, "alpha": 0.3, "decay": "linear", "optimizer": "sgd"}
    model = LanguageModel(10, **settings).fit(TEXT, OTHER)
    indices = model.vocabulary.encode(tokenize(TEXT))
    rng, N = np.random.default_rng(0), len(model.vocabulary)
    params = init_parameters(N, 10, rng)
    edges = class_edges(np.bincount(indices, minlength=N), 5)
    classes = init_classes(edges, 10, rng)
    assert (model.word_classes.edges == edges).all()
    for alpha in (0.3, 0.15):
        if model.batch == 1:
            text, layer = stream(indices), ClassOutput(params.V, classes)
            learn_online(params, *text, alpha, 4, output=layer)
        else:
            words, targets = (lanes(part, 4) for part in stream(indices))
            layer = partial(ClassLayer, classes=classes)
            learner = ChunkLearner(params, 4, 10, None, output=layer)
            for t in range(0, len(words), 10):
                learner.learn(words[t : t + 10], targets[t : t + 10], alpha)
    # pieces settle what waits at other words, which rounds otherwise
    np.testing.assert_allclose(model.word_classes.Q, classes.Q, rtol=1e-9, atol=1e-11)
    for found, expected in zip(model.params, params, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("settings", CLASSES)
def test_a_text_costs_what_its_classes_and_words_cost(settings):
    model = LanguageModel(10, **settings).fit(TEXT, OTHER)
    params, classes = class_weights(model)
    words, targets = stream(model.vocabulary.encode(tokenize(OTHER)))
    log_y = class_log_outputs(params, hidden_states(params, words), classes)
    costs = -np.take_along_axis(log_y, targets[:, np.newaxis], axis=1)
    found = model.evaluate(OTHER)
    assert found.nats == pytest.approx(costs.mean(), rel=1e-12)
    assert model.history[-1].valid == pytest.approx(found.nats, rel=1e-12) or (
        model.history[0].valid < model.history[-1].valid
    )
    drawn = model.sample(np.random.default_rng(5), 30)
    scores = partial(class_log_outputs, classes=classes)
    expected = generate(params, np.random.default_rng(5), 30, [0], scores=scores)
    assert tokenize(drawn)[:20] == model.vocabulary.decode(expected)[:20]


@pytest.mark.parametrize("settings", CLASSES)
def test_with_classes_dynamic_evaluation_leaves_the_model(settings, monkeypatch):
    monkeypatch.setattr(language_model, "_piece_length", lambda *_: 101)
    model = LanguageModel(10, **settings).fit(TEXT, OTHER)
    params, classes = class_weights(model)
    before = [array.copy() for array in (*params, *classes)]
    found = model.evaluate(OTHER, dynamic=True)
    for array, old in zip((*model.params, *model.word_classes), before, strict=True):
        assert (array == old).all()
    words, targets = stream(model.vocabulary.encode(tokenize(OTHER)))
    U, W, V, Q, edges = before
    layer = ClassOutput(V, Classes(Q, edges))
    params = Parameters(U, W, V)
    costs, _ = learn_online(params, words, targets, 0.1, 4, output=layer)
    assert found.nats == pytest.approx(costs.mean(), rel=1e-12)
    assert found.nats != model.evaluate(OTHER).nats


@pytest.mark.parametrize("settings", [{}, {"tau": 1, "activation": tanh}, *CLASSES])
def test_the_costs_of_the_words_sum_to_the_dynamic_evaluation(settings, monkeypatch):
    monkeypatch.setattr(language_model, "_piece_length", lambda *_: 96)
    model = LanguageModel(10, **{"epochs": 1, **settings}).fit(TEXT, OTHER)
    params, classes = class_weights(model)
    before = [array.copy("K") for array in (*params, *(classes or ()))]
    indices = model.vocabulary.encode(tokenize(OTHER))
    known = (settings.get("tau", 4), model.activation, classes)
    found = list(word_costs(params, indices, 0.3, *known))
    assert_same((*params, *(classes or ())), before)
    assert {len(costs) for costs in found[:-1]} == {96}
    evaluation = model.evaluate(OTHER, dynamic=True, alpha=0.3)
    total = sum(costs.sum() for costs in found)
    assert total == pytest.approx(evaluation.nats * evaluation.words, rel=1e-12)
    # and word by word they are those of one piece
    U, W, V, *more = before
    layer = ClassOutput(V, Classes(*more)) if classes else None
    tau, activation, _ = known
    expected, _ = learn_online(
        Parameters(U, W, V),
        *stream(indices),
        0.3,
        tau,
        activation=activation,
        output=layer,
    )
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("settings", CLASSES)
@pytest.mark.parametrize(("costs", "best"), [([3, 5, 2], 2), ([3, 5, 6], 0)])
def test_classes_go_back_to_the_best(settings, costs, best, monkeypatch):
    begun, ended, left = [], [], iter(costs)

    def text_loss(params, indices, activation, classes):
        ended.append([array.copy() for array in (*params, classes.Q)])
        return next(left) * len(indices)

    read_epoch = LanguageModel._read_epoch

    def recorded(self, run, *arguments):
        begun.append([array.copy() for array in (*run.params, run.classes.Q)])
        read_epoch(self, run, *arguments)

    monkeypatch.setattr(language_model, "text_loss", text_loss)
    monkeypatch.setattr(LanguageModel, "_read_epoch", recorded)
    model = LanguageModel(10, **{**settings, "epochs": 3}).fit(TEXT, OTHER)
    assert [epoch.valid for epoch in model.history] == costs
    for one, other in (
        (begun[1], ended[0]),
        (begun[2], ended[0]),
        (weights(model), ended[best]),
    ):
        assert all((a == b).all() for a, b in zip(one, other, strict=True))
    assert (ended[1][-1] != ended[0][-1]).any()


@pytest.mark.parametrize(("N", "C"), [(2**17, 2**9), (2**17, 2**14), (3000, 1)])
def test_a_text_with_classes_is_read_in_pieces(N, C, monkeypatch):
    rng = np.random.default_rng(0)
    params = init_parameters(N, 2, rng)
    classes = init_classes(class_edges(np.ones(N), C), 2, rng)
    text, lengths = rng.integers(0, N, 700), []

    def counted(params, words, *arguments):
        lengths.append(len(words))
        return class_loss(params, words, *arguments)

    monkeypatch.setattr(language_model, "class_loss", counted)
    found = text_loss(params, text, tanh, classes)
    whole = class_loss(params, *stream(text), classes, activation=tanh)
    assert found == pytest.approx(whole, rel=1e-12)
    width = max(C, N // C)
    assert lengths[0] == min(700, 2**20 // width)
    assert len(lengths) == -(-700 // lengths[0])


def test_a_text_cannot_be_read_with_classes_of_other_words():
    params = init_parameters(9, 2, np.random.default_rng(0))
    for edges in ([0, 4, 8], [0, 9, 9], [0, 4.5, 9], [0, 9], []):
        classes = Classes(np.zeros((2, 2)), np.array(edges))
        with pytest.raises(ValueError, match=r"^classes\.edges "):
            text_loss(params, [1, 2], sigmoid, classes)


@pytest.mark.parametrize("settings", CLASSES)
def test_classes_that_diverge_at_once_leave_the_first_weights(settings, tmp_path):
    model = LanguageModel(10, **settings, alpha=1e6)
    with pytest.raises(DivergenceError, match=r"^alpha is 1e\+06: learning diverged"):
        model.fit(TEXT, OTHER)
    rng = np.random.default_rng(0)
    assert_same(model.params, init_parameters(len(model.vocabulary), 10, rng))
    again = init_classes(model.word_classes.edges, 10, rng)
    assert (model.word_classes.Q == again.Q).all()
    assert model.training is None
    model.save(tmp_path / "m.npz")
    loaded = LanguageModel.load(tmp_path / "m.npz")
    assert_same(weights(loaded), weights(model))
    assert (loaded.word_classes.edges == again.edges).all()


def test_there_are_no_more_classes_than_words():
    with pytest.raises(ValueError, match=r"^classes is 90: expected at most \d+, the"):
        LanguageModel(classes=90).fit("a b\n" * 9)
    with pytest.raises(ValueError, match=r"^optimizer is 'adam': expected sgd, or"):
        LanguageModel(classes=3, batch=2, optimizer="adam")
    assert LanguageModel(classes=3, batch=2).optimizer == "adagrad"
    as_many = LanguageModel(5, classes=4, epochs=1).fit("a b\n" * 9)
    assert as_many.word_classes.edges.tolist() == [0, 1, 2, 3, 4]
    assert as_many.perplexity("a b\n") < 4


@pytest.mark.parametrize("settings", CLASSES)
def test_a_text_with_too_few_words_leaves_the_model(settings):
    model = LanguageModel(10, **settings).fit(TEXT, OTHER)
    before = weights(model), model.vocabulary, list(model.history)
    with pytest.raises(ValueError, match=r"^classes is 5: expected at most 4, the siz"):
        model.fit("a b\n" * 9)
    assert_same(weights(model), before[0])
    assert (model.vocabulary, model.history) == before[1:]


@pytest.mark.parametrize("settings", CLASSES)
def test_a_file_whose_classes_do_not_fit_is_refused(tmp_path, settings):
    path = tmp_path / "m.npz"
    LanguageModel(10, **settings).fit(TEXT, OTHER).save(path)
    header, arrays = read_arrays(path)
    Q, edges = arrays["Q"], arrays["edges"]
    wrong = [
        {"Q": Q[:-1]},
        {"Q": Q.astype(np.float32)},
        {"Q": Q * np.nan},
        {"Q": Q.T.copy()},
        {"Q": Q[np.newaxis]},
        {"Q": Q[:1], "edges": edges[[0, -1]], "training.Q": Q[:1]},
        {"Q": None},
        {"edges": None},
        {"edges": edges[::-1].copy()},
        {"edges": edges.astype(np.int32)},
        {"edges": edges + 1},
        {"training.Q": None},
        {"training.Q": Q[:, :-1].copy()},
        {"edges": edges[[0, 1, 1, 3, 4, 5]]},
        {"edges": edges[:0]},
        {"R": Q},
    ]
    for change in wrong:
        kept = {k: v for k, v in {**arrays, **change}.items() if v is not None}
        write_arrays(path, header, kept)
        with pytest.raises(ModelFileError, match=r"holds no model that fits"):
            LanguageModel.load(path)
    for value in (None, 4, 6, True, 0, "5"):
        settings_then = header["settings"] | {"classes": value}
        write_arrays(path, {**header, "settings": settings_then}, arrays)
        with pytest.raises(ModelFileError, match=r"holds no model that fits"):
            LanguageModel.load(path)


@pytest.mark.parametrize("settings", [{}, {"batch": 4, "chunk": 10}])
def test_a_file_of_one_class_has_no_more_axes(tmp_path, settings):
    path = tmp_path / "m.npz"
    model = LanguageModel(10, **settings, classes=1, epochs=1).fit(TEXT, OTHER)
    model.save(path)
    assert LanguageModel.load(path).evaluate(OTHER) == model.evaluate(OTHER)
    header, arrays = read_arrays(path)
    for name in ("Q", "training.Q"):
        write_arrays(path, header, {**arrays, name: np.ones((1, 10, 10))})
        with pytest.raises(ModelFileError, match=r"classes.Q has shape \(1, 10, 10\)"):
            LanguageModel.load(path)


@pytest.mark.parametrize("settings", [{}, {"classes": 3}])
def test_a_file_without_classes_holds_none(tmp_path, settings):
    path = tmp_path / "m.npz"
    LanguageModel(10, **settings, epochs=1).fit(TEXT, OTHER).save(path)
    header, arrays = read_arrays(path)
    other = {"classes": None if settings else 3}
    changed_header = {**header, "settings": header["settings"] | other}
    write_arrays(path, changed_header, arrays)
    with pytest.raises(ModelFileError, match="holds no model that fits"):
        LanguageModel.load(path)
    assert ("Q" in arrays) is ("edges" in arrays) is bool(settings)


@pytest.mark.parametrize("settings", [{}, {"batch": 4, "chunk": 10}])
def test_the_rate_falls_in_equal_steps(settings):
    model = LanguageModel(5, **settings, alpha=0.4, epochs=4, decay="linear")
    model.fit(TEXT, OTHER)
    rates = [epoch.alpha for epoch in model.history]
    np.testing.assert_allclose(rates, [0.4, 0.3, 0.2, 0.1], rtol=1e-12)
    assert model.training is None
    with pytest.raises(ValueError, match=r"^resume is True, but the training is over"):
        model.fit(TEXT, OTHER, resume=True)


def test_what_the_validation_text_says_does_not_steer_a_linear_decay(monkeypatch):
    found = []
    for costs in ([3.0, 5.0, 4.0], [5.0, 4.0, 3.0]):
        costs_left, seen = iter(costs), []
        monkeypatch.setattr(
            language_model, "text_loss", lambda *_, left=costs_left: next(left)
        )
        model = LanguageModel(5, epochs=3, decay="linear")

        def keep(progress, model=model, seen=seen):
            seen.append(model.training.params.W.copy())

        model.fit(TEXT, OTHER, progress=keep)
        best = seen[len(seen) * (1 + costs.index(3.0)) // 3 - 1]
        assert (best == model.params.W).all()
        found.append(seen)
    assert all((a == b).all() for a, b in zip(*found, strict=True))
