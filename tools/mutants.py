"""Mutation testing: change the modules in one place at a time; do their tests notice?

Usage: python tools/mutants.py [MODULE ..]   (all exported modules unless told)

Each module stands against its own quick tests: tests/test_MODULE.py and what TESTS adds
to them. A mutant that survives must be listed in tests/equivalent_mutants.txt with the
reason why it computes the same; the run fails if one is not.

Written here since the kept tools start an interpreter for every mutant: this one loads
NumPy, pytest and Hypothesis once and forks, on every core.
"""

import ast
import contextlib
import copy
import io
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # the forks fill the cores

import hypothesis  # noqa: F401  loaded before the forks, which share it
import mpmath  # noqa: F401
import numpy  # noqa: F401
import pytest
from export import ROOT, chapters, stem

TESTS = {
    "words": ["test_grammar"],
    "cross_entropy": ["test_baselines"],
    "bptt": ["test_gradient_properties"],
}
LISTED = ROOT / "tests" / "equivalent_mutants.txt"
#: pytest's exit codes; broken: the tests could not import the module.
PASSED, FAILED, BROKEN = 0, 1, 2
#: Tests that caught a mutant, the latest first: often they catch the next one, too.
CAUGHT_BY: list[str] = []
OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
NAMES = {
    "max": "min",
    "min": "max",
    "argmax": "argmin",
    "zeros": "ones",
    "zeros_like": "ones_like",
    "any": "all",
    "all": "any",
    "log1p": "log",
    "exp": "expm1",
    "sum": "mean",
    "add": "subtract",
    "subtract": "add",
    "ceil": "floor",
}


Way = tuple[
    tuple[str, int | None], ...
]  # down from a node: fields, and places in lists


class Mutant(NamedTuple):
    """One change: where, from what, to what, and the whole module with it."""

    module: str
    line: int
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.module}: {self.before}  ->  {self.after}"


def changed(node: ast.AST, **fields: object) -> ast.AST:
    """A copy of a node with other fields."""
    other = copy.deepcopy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def replacements(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that a node may be turned into."""
    match node:
        case ast.BinOp() | ast.AugAssign() | ast.BoolOp():
            yield changed(node, op=OPERATORS[type(node.op)]())
        case ast.Compare():
            for i, op in enumerate(node.ops):
                yield changed(
                    node, ops=[*node.ops[:i], OPERATORS[type(op)](), *node.ops[i + 1 :]]
                )
        case ast.UnaryOp():
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float() | complex()):
            yield ast.Constant(node.value + 1)
            yield ast.Constant(node.value - 1)
        case ast.Attribute(attr="T" | "real" | "imag"):
            yield node.value
        case ast.Attribute() if node.attr in NAMES:
            yield changed(node, attr=NAMES[node.attr])
        case ast.Call(func=ast.Name(id="reversed" | "sorted" | "abs")):
            yield node.args[0]
        case ast.If() | ast.IfExp():
            yield changed(node, test=ast.Constant(True))
            yield changed(node, test=ast.Constant(False))
        case ast.Return(value=ast.AST()):
            yield ast.Return(None)
    if isinstance(node, ast.Expr | ast.AugAssign | ast.Raise) and not is_text(node):
        yield ast.Pass()


def is_text(node: ast.AST) -> bool:
    """Whether a statement is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def sites(node: ast.AST, path: Way = ()) -> Iterator[tuple[ast.AST, Way]]:
    """Every node below a node, annotations left out, with the way that leads to it."""
    for field, value in ast.iter_fields(node):
        if field in {"annotation", "returns", "type_params"} or isinstance(
            node, ast.Import | ast.ImportFrom
        ):
            continue
        for i, child in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(child, ast.AST):
                step = (*path, (field, i if isinstance(value, list) else None))
                yield child, step
                yield from sites(child, step)


def mutants(module: str) -> Iterator[Mutant]:
    """All changes of a module, one at a time."""
    text = (ROOT / "rnn" / f"{module}.py").read_text()
    tree = ast.parse(text)
    for node, path in sites(tree):
        for new in replacements(node):
            changed = copy.deepcopy(tree)
            parent = changed
            for field, i in path[:-1]:
                parent = (
                    getattr(parent, field) if i is None else getattr(parent, field)[i]
                )
            field, i = path[-1]
            if i is None:
                setattr(parent, field, new)
            else:
                getattr(parent, field)[i] = new
            source = ast.unparse(ast.fix_missing_locations(changed))
            before, after = difference(ast.unparse(tree), source)
            if before != after:
                yield Mutant(module, getattr(node, "lineno", 0), before, after, source)


def difference(old: str, new: str) -> tuple[str, str]:
    """The lines in which two sources differ, stripped."""
    a, b = old.splitlines(), new.splitlines()
    start = next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y),
        min(len(a), len(b)),
    )
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    join = [
        " ; ".join(line.strip() for line in lines[start : len(lines) - end])
        for lines in (a, b)
    ]
    return join[0], join[1] or "(nothing)"


class Suspects:
    """A plugin of pytest: tests that caught others first; a failed one is noted.

    Args:
        note: the file for the name of the test that failed.
    """

    def __init__(self, note: Path) -> None:
        self.note, self.rank = note, {name: n for n, name in enumerate(CAUGHT_BY)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Called with the tests that will run."""
        items.sort(key=lambda item: self.rank.get(item.nodeid, len(self.rank)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called after each test."""
        if report.failed:
            self.note.write_text(report.nodeid)


def survives(mutant: Mutant, limit: float = 0) -> bool:
    """Run the module's tests on a package with the change; True if all pass.

    Args:
        mutant: the change.
        limit: seconds of processor time after which the mutant is caught, since it
            doesn't end; 0 for no limit.

    Raises:
        RuntimeError: The tests could not be run, which says nothing of the mutant.
    """
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(
            ROOT / "rnn",
            Path(folder, "rnn"),
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        Path(folder, "rnn", f"{mutant.module}.py").write_text(mutant.source)
        child = os.fork()
        if child == 0:
            os._exit(run_tests(folder, mutant.module, limit))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        note = Path(folder, "caught by")
        if note.exists() and (name := note.read_text()) not in CAUGHT_BY[:1]:
            CAUGHT_BY[:] = [name, *(other for other in CAUGHT_BY if other != name)]
    if code not in (PASSED, FAILED, BROKEN, -signal.SIGPROF):
        raise RuntimeError(f"pytest ended with {code} on {mutant}")
    return code == PASSED


def run_tests(folder: str, module: str, limit: float) -> int:
    """In the forked child: pytest's exit code for the package in a folder."""
    signal.setitimer(signal.ITIMER_PROF, limit)
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    tests = [
        str(ROOT / "tests" / f"{name}.py")
        for name in [f"test_{module}", *TESTS.get(module, [])]
    ]
    options = [
        "-x",
        "-q",
        "-o",
        "addopts=",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
    ]
    options += [
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-p",
        "no:nbval",
        "--hypothesis-seed=0",
    ]
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        suspects = Suspects(Path(folder, "caught by"))
        return int(pytest.main([*options, *filter(os.path.exists, tests)], [suspects]))


def listed() -> set[str]:
    """The mutants known to compute the same: the lines of the list with an arrow."""
    if not LISTED.exists():
        return set()
    return {line for line in LISTED.read_text().splitlines() if "  ->  " in line}


def main(modules: list[str]) -> int:
    """Try every mutant, print a line a module; 1 if one survives that is not listed."""
    equivalent, unlisted = listed(), 0
    for module in modules:
        start = time.monotonic()
        tried = list(mutants(module))
        source = (ROOT / "rnn" / f"{module}.py").read_text()
        if not survives(Mutant(module, 0, "", "", source)):
            sys.exit(f"{module}: its tests fail without any mutant")
        survive = partial(survives, limit=10 + 2 * (time.monotonic() - start))
        alive = new = 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for mutant, lives in zip(tried, pool.map(survive, tried), strict=True):
                alive += lives
                if lives and str(mutant) not in equivalent:
                    new += 1
                    print(f"    line {mutant.line}: {mutant}", flush=True)
        unlisted += new
        print(
            f"{module:15} {len(tried) - alive} of {len(tried)} killed, "
            f"{alive - new} listed as computing the same, {new} survive  "
            f"({time.monotonic() - start:.0f} s)",
            flush=True,
        )
    return 1 if unlisted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [stem(chapter) for chapter in chapters()]))
