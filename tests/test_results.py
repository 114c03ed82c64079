"""What a difference of two models is worth, and what was recorded of many."""

import json
import math
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn import (
    Parameters,
    block_means,
    class_log_outputs,
    hidden_states,
    init_classes,
    init_parameters,
    log_softmax,
    logits,
    paired_difference,
    tanh,
    without_classes,
)

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
RECORD = json.loads((FOLDER / "results.json").read_text())
RUNS = RECORD["runs"]

numbers = st.floats(-1e3, 1e3)


@given(st.lists(numbers, min_size=1, max_size=40), st.data())
def test_block_means(costs, data):
    length = data.draw(st.integers(1, len(costs)))
    means = block_means(costs, length)
    assert means.shape == (len(costs) // length,)
    for k, mean in enumerate(means):
        block = costs[k * length : (k + 1) * length]
        assert mean == pytest.approx(math.fsum(block) / length, abs=1e-9)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=40))
def test_paired_difference(pairs):
    """The definition, with sums written out."""
    D = [a - b for a, b in pairs]
    K, mean = len(D), math.fsum(D) / len(D)
    square = math.fsum((d - mean) ** 2 for d in D) / (K * (K - 1))
    found = paired_difference(*zip(*pairs, strict=True))
    assert found == pytest.approx((mean, math.sqrt(square)), rel=1e-9, abs=1e-9)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=20), numbers)
def test_what_both_share_does_not_count(pairs, shared):
    first, second = map(np.array, zip(*pairs, strict=True))
    found = paired_difference(first + shared, second + shared)
    assert found == pytest.approx(paired_difference(first, second), abs=1e-9)
    mean, error = paired_difference(second, first)
    assert (-mean, error) == pytest.approx(paired_difference(first, second), abs=1e-9)


def test_the_error_is_right_on_average():
    """The mean of S^2 over many texts is the variance of their means."""
    rng = np.random.default_rng(0)
    blocks = rng.gamma(2.0, 1.0, (20_000, 5))
    errors = [paired_difference(text, np.zeros(5))[1] for text in blocks]
    assert np.mean(np.square(errors)) == pytest.approx(2 / 5, rel=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: block_means([], 1), "length is 1: expected at most 0"),
        (lambda: block_means([[1.0, 2.0]], 1), r"costs has shape \(1, 2\)"),
        (lambda: block_means([1.0, math.nan], 1), "costs holds nan"),
        (lambda: block_means([1.0, 2.0], 3), "length is 3: expected at most 2"),
        (lambda: block_means([1.0, 2.0], 0), "length is 0"),
        (lambda: block_means([1.0, 2.0], 1.5), r"length is 1\.5"),
        (lambda: block_means([1.0, 2.0], True), "length is True"),
        (lambda: block_means("costs", 1), "costs"),
        (lambda: paired_difference([1.0], [2.0]), r"costs has shape \(1,\)"),
        (lambda: paired_difference(1.0, 2.0), r"costs has shape \(\)"),
        (lambda: paired_difference([1.0, 2.0], [1.0]), r"others has shape \(1,\)"),
        (lambda: paired_difference([1.0, 2.0], [1.0, math.inf]), "others holds inf"),
        (lambda: paired_difference([[1.0, 2.0]] * 2, [1.0, 2.0]), "costs has shape"),
    ],
)
def test_hostile(call, message):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        call()
    assert "\n" not in str(caught.value)


def with_classes(seed, edges, H=4, dtype=np.float64, scale=1.0):
    rng = np.random.default_rng(seed)
    params = init_parameters(edges[-1], H, rng, dtype)
    params = Parameters(*(matrix * dtype(scale) for matrix in params))
    return params, init_classes(edges, H, rng, dtype), rng.integers(0, edges[-1], 80)


@given(st.integers(0, 2**32 - 1), st.sampled_from([[0, 6], [0, 2, 6], [0, 1, 2, 6]]))
def test_without_classes_keeps_ratios_and_bounds_the_rest(seed, edges):
    params, classes, text = with_classes(seed, edges, scale=8.0)
    states = hidden_states(params, text)
    before = class_log_outputs(params, states, classes)
    new = without_classes(params, classes, text)
    after = log_softmax(logits(new, states))
    epsilon = 0.0
    for c, (a, b) in enumerate(pairwise(edges)):
        changes = (after - before)[:, a:b]
        np.testing.assert_allclose(changes, changes[:, :1] + 0 * changes, atol=1e-9)
        L = np.log(np.exp(states @ params.V[a:b].T).sum(axis=1))
        a_c = params.V[a] + classes.Q[c] - new.V[a]
        # what is left of L after the least squares has no part along the states
        assert abs(states.T @ (L - states @ a_c)).max() <= 1e-9 * len(states)
        epsilon = max(epsilon, abs(L - states @ a_c).max())
    assert abs(after - before).max() <= 2 * epsilon + 1e-9


def test_one_word_in_each_class_loses_nothing():
    params, classes, text = with_classes(1, np.arange(7), scale=8.0)
    new = without_classes(params, classes, text, tanh)
    states = hidden_states(params, text, activation=tanh)
    np.testing.assert_allclose(
        log_softmax(logits(new, states)),
        class_log_outputs(params, states, classes),
        atol=1e-11,
    )


def test_without_classes_keeps_the_type_and_what_it_was_given():
    params, classes, text = with_classes(2, [0, 3, 7], dtype=np.float32)
    copies = [matrix.copy() for matrix in (*params, classes.Q)]
    new = without_classes(params, classes, text)
    assert all(matrix.dtype == np.float32 for matrix in new)
    assert new.V.flags.c_contiguous
    for matrix, copy in zip((*params, classes.Q), copies, strict=True):
        np.testing.assert_array_equal(matrix, copy)
    few = without_classes(params, classes, text[:2])  # fewer steps than units
    assert np.isfinite(few.V).all()


@pytest.mark.parametrize(
    ("words", "edges", "message"),
    [
        ([], [0, 3, 7], "words is empty"),
        ([7], [0, 3, 7], "words holds the index 7"),
        ([[1, 2]], [0, 3, 7], r"words has shape \(1, 2\): expected \(T,\)"),
        ([1.5], [0, 3, 7], "words has shape"),
        ([1], [0, 3, 6], "edges"),
    ],
)
def test_hostile_words_and_classes(words, edges, message):
    params, classes, _ = with_classes(0, [0, 3, 7])
    classes = classes._replace(edges=np.array(edges))
    with pytest.raises(ValueError, match=message):
        without_classes(params, classes, words)


# What is recorded.


@pytest.fixture
def results(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import results

    yield results
    sys.modules.pop("results")


def test_every_run_is_recorded_as_it_stands(results):
    assert set(RUNS) == set(results.RUNS)
    assert results.missing(list(results.RUNS)) == []
    for name, run in results.RUNS.items():
        assert RUNS[name]["recipe"] == run.recipe
        assert RUNS[name]["kind"] == run.kind.__name__


@pytest.mark.parametrize("name", RUNS)
def test_a_record_fits_together(name):
    run = RUNS[name]
    best = min(valid for _, _, valid in run["epochs"])
    assert run["valid"] == pytest.approx(best, abs=1e-5)
    for costs in (run["static"], run["dynamic"], run["mixture"]["static"]):
        assert len(costs["blocks"]) == 164
        assert np.mean(costs["blocks"]) == pytest.approx(costs["mean"], abs=0.01)
    assert run["mixture"]["static"]["mean"] < run["static"]["mean"]
    assert 0 < run["mixture"]["weight"] < 1
    for field in ("processor", "cores", "Python", "NumPy", "BLAS", "date"):
        assert run["machine"][field]


def test_the_counted_models_are_the_published_ones():
    """Published: 141.2 for Kneser-Ney of order 5; the others are exact."""
    test = {
        name: math.exp(model["static"]["mean"])
        for name, model in RECORD["counted"].items()
    }
    assert test["uniform"] == pytest.approx(10_000, rel=1e-12)
    assert test["unigram"] == pytest.approx(639.3, abs=0.05)
    assert test["bigram"] == pytest.approx(208.67, abs=0.01)
    assert test["Kneser-Ney, order 5"] == pytest.approx(141, abs=2)


class Small:
    """A treebank of a few lines, and runs of two epochs."""

    def __init__(self, results, folder, monkeypatch):
        rng = np.random.default_rng(0)
        for part, lines in (("train", 300), ("valid", 60), ("test", 60)):
            rows = rng.integers(0, 9, (lines, 6))
            text = "".join(" ".join(f"w{i}" for i in row) + "\n" for row in rows)
            (folder / f"ptb.{part}.txt").write_text(
                "<unk>\n" * (part == "train") + text
            )
        for name, value in {
            "FILE": folder / "results.json",
            "MODELS": folder / "models",
            "BLOCK": 50,
            "corpus_path": lambda name, _: folder / f"{name}.txt",
            "RUNS": {name: self.run(run) for name, run in results.RUNS.items()},
        }.items():
            monkeypatch.setattr(results, name, value)
        results.treebank.cache_clear()
        results.kneser_ney_given.cache_clear()

    @staticmethod
    def run(run):
        small = {"hidden_size": 4, "epochs": 2}
        if "classes" in run.settings:
            small["classes"] = 3
        return run._replace(settings=run.settings | small)


@pytest.fixture
def small(results, tmp_path, monkeypatch):
    Small(results, tmp_path, monkeypatch)
    yield results
    results.treebank.cache_clear()
    results.kneser_ney_given.cache_clear()


def test_recording(small):
    name = "tau = 1"
    assert name in small.missing(list(small.RUNS))
    small.record("counted", small.counted(None))
    small.record("runs", {name: small.train(name, None)})
    assert name not in small.missing(list(small.RUNS))
    found = json.loads(small.FILE.read_text())
    assert found["runs"][name]["settings"] == small.RUNS[name].settings
    assert len(found["runs"][name]["epochs"]) == 2
    assert math.exp(found["counted"]["uniform"]["valid"]) == pytest.approx(11)


def test_an_interrupted_run_goes_on(small, monkeypatch):
    """The same figures, after a stop in each epoch."""
    name = "exact"
    whole = small.train(name, None)
    for path in small.MODELS.iterdir():
        path.unlink()
    save, stops = small.LanguageModel.save, 0

    def stopping(model, path):
        nonlocal stops
        save(model, path)
        stops += 1
        raise KeyboardInterrupt

    for _ in range(2):
        monkeypatch.setattr(small.LanguageModel, "save", stopping)
        with pytest.raises(KeyboardInterrupt):
            small.train(name, None)
    monkeypatch.setattr(small.LanguageModel, "save", save)
    resumed = small.train(name, None)
    assert stops == 2
    for field in ("epochs", "valid", "static", "dynamic", "mixture"):
        assert json.dumps(resumed[field]) == json.dumps(whole[field])


def test_a_model_with_other_settings_is_not_taken(small, monkeypatch):
    name = "exact"
    small.train(name, None)
    runs = small.RUNS
    run = runs[name]._replace(settings=runs[name].settings | {"hidden_size": 5})
    monkeypatch.setitem(runs, name, run)
    assert name in small.missing([name])
    small.train(name, None)
    assert small.LanguageModel.load(small.model_file(name)).hidden_size == 5


def test_without_memory_w_stays_zero(small):
    small.train("W = 0", None)
    model = small.Memoryless.load(small.MODELS / "W=0.npz")
    assert not model.params.W.any()
    assert model.params.U.any()


def test_classes_of_equal_frequency(small):
    model = small.ByFrequency(4, classes=2, epochs=1)
    model.fit("a " * 100 + "b c d e f\n" * 20)
    # </s> and a, with 21 and 100 of 221 words, make one half
    assert model.word_classes.edges.tolist()[1] in (1, 2)
    rooted = small.LanguageModel(4, classes=2, epochs=1)
    rooted.fit("a " * 100 + "b c d e f\n" * 20)
    assert rooted.word_classes.edges.tolist() != model.word_classes.edges.tolist()
