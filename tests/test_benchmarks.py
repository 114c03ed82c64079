"""The benchmarks and what is recorded of them agree; no time is asserted."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from rnn.minibatch import step_cost

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
RECORD = json.loads((FOLDER / "speed.json").read_text())
README = (FOLDER / "README.md").read_text()


@pytest.fixture(scope="module", autouse=True)
def _importable():
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


@pytest.fixture
def bench():
    import bench

    return bench


def test_every_section_is_recorded(bench):
    assert set(RECORD) == set(bench.SECTIONS) == set(bench.CLAIMS)


def test_every_claim_is_recorded_with_figure_and_goal(bench):
    for section, claims in bench.CLAIMS.items():
        recorded = RECORD[section]["claims"]
        assert len(recorded) == len(claims)
        for claim, found in zip(claims, recorded, strict=True):
            for field, value in claim._asdict().items():
                assert found[field] == value
            if RECORD[section]["machine"]["PyTorch"]:  # without it, some are null
                assert math.isfinite(found["figure"])
            assert found["holds"] == claim.holds(found["figure"])


def test_the_readme_has_a_row_for_every_claim(bench):
    for section, claims in bench.CLAIMS.items():
        for claim, found in zip(claims, RECORD[section]["claims"], strict=True):
            rows = [row.split("|") for row in README.splitlines()]
            (row,) = [row for row in rows if row[1:2] == [f" {claim.name} "]]
            written = float(row[2].strip(" *").replace(",", ""))
            assert written == pytest.approx(found["figure"], rel=5e-3), claim.name


def test_every_record_names_the_machine():
    for section in RECORD.values():
        machine = section["machine"]
        for name in ("processor", "cores", "Python", "NumPy", "BLAS", "date"):
            assert machine[name]


@pytest.mark.parametrize(
    ("figure", "goal", "at_least", "holds"),
    [
        (1.0, 1.0, False, True),
        (1.1, 1.0, False, False),
        (3.0, 3.0, True, True),
        (2.9, 3.0, True, False),
        (None, 1.0, False, None),
        (1.0, None, False, None),
    ],
)
def test_what_holds(bench, figure, goal, at_least, holds):
    assert bench.Claim("x", goal, at_least).holds(figure) is holds


@pytest.mark.parametrize(("figures", "status"), [([1.0], 0), ([3.0], 1), ([None], 0)])
def test_a_section_named_is_merged_and_gives_the_status(
    bench, tmp_path, monkeypatch, capsys, figures, status
):
    monkeypatch.setattr(bench, "FILE", tmp_path / "speed.json")
    bench.FILE.write_text('{"other": 1}')
    monkeypatch.setattr(
        bench, "SECTIONS", {"one": lambda: bench.Result(figures, {}), "two": None}
    )
    monkeypatch.setattr(bench, "CLAIMS", {"one": [bench.Claim("a ratio", 2)]})
    assert bench.main(["one"], record=False) == status
    assert json.loads(bench.FILE.read_text()) == {"other": 1}
    assert bench.main(["one"], record=True) == status
    written = json.loads(bench.FILE.read_text())
    assert written["other"] == 1
    assert written["one"]["claims"][0]["figure"] == figures[0]
    word = {0: "holds", 1: "falls short"}[status] if figures[0] else "not measured"
    assert word in capsys.readouterr().out


def test_an_unknown_section_is_refused(bench, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench.py", "limits"])
    with pytest.raises(SystemExit):
        bench.parse()
    assert "limits" in capsys.readouterr().err


def test_without_pytorch_its_claims_are_not_measured(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "torch_step", raising=False)
    figures = bench.torch().figures
    assert figures == [None] * len(bench.CLAIMS["torch"])
    assert bench.torch_online(bench.Case.make(2, (3,), 5)) == {}


def test_the_fits():
    from measure import exponent, fitted, unequal

    assert unequal([2.0, 8.0, 4.0]) == pytest.approx(1)  # 4 for all: 2 times off

    sizes = [10, 20, 40, 80]
    assert exponent(sizes, [7 * n**2 for n in sizes]) == pytest.approx(2)
    counts = [(n**2, 5) for n in sizes]
    seconds = [3e-9 * n**2 + 5 * 2e-7 for n in sizes]
    assert fitted(counts, seconds) == pytest.approx([3e-9, 2e-7])


def test_the_counts_predict_what_they_were_fitted_to(bench):
    points = [{"N": 10, "H": 2, "seconds": 72 + 5.0}, {"N": 20, "H": 2, "seconds": 284}]
    error = bench.predict(points, np.array([1, 0.5]))  # 3 * 2 * 12 + 5, 3 * 2 * 22 + 10
    assert [p["predicted"] for p in points] == [77, 142]
    assert error == 0.5


def test_what_is_measured_is_what_the_book_counts(bench):
    case = bench.Case.make(4, (3, 2), 6)
    assert [array.shape for array in case.params] == [(4, 6), (4, 4), (6, 4)]
    assert case.words.shape == case.targets.shape == (3, 2)
    assert all(array.dtype == np.float32 for array in case.params)
    assert step_cost(6, 4) == 3 * 4 * (6 + 4)


def test_pytorch_learns_the_same(bench):
    pytest.importorskip("torch", reason="PyTorch is optional")
    from torch_step import TorchStep, forms

    from rnn.hidden_state import sigmoid, tanh
    from rnn.minibatch import workers

    for activation in (sigmoid, tanh):
        for form in forms(str(activation)):
            if "compiled" in form:
                continue  # takes a compiler and half a minute
            case = bench.Case.make(5, (4, 3), 11, np.float64)
            with workers() as pool:
                learner, _ = case.learner(pool, activation)
                for _ in range(3):
                    learner.learn(case.words, case.targets, 0.5)
            theirs = TorchStep(*case, str(activation), form, 0.5, learner.limit)
            for _ in range(3):
                theirs.step()
            for ours, matrix in zip(
                learner.params, (theirs.U_T.T, theirs.W, theirs.V), strict=True
            ):
                assert np.abs(ours - matrix.detach().numpy()).max() <= 1e-6
