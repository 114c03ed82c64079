"""The equation index: which function computes an equation, and which tests guard it.

Usage: python tools/equations.py   (writes book/equations.md; `make export` calls it)

A result has a label `eq-..` in its chapter; the docstring of the function that computes
it begins with the label; a test marked `@pytest.mark.equation("eq-..")` guards it.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import nbformat
from export import ROOT, chapters, module_source, stem

PAGE = ROOT / "book" / "equations.md"
INTRODUCTION = """# Equation index

Every equation that a function computes, the function, and the tests that fail when
it is wrong. A label, with `eq-` before it, is the name by which docstrings and tests
call the equation; under *guarded by* stand the names of tests in the folder `tests`,
without `test_` and underscores. Generated from the chapters, the docstrings and the
tests.

| equation | label | computed by | guarded by |
| --- | --- | --- | --- |
"""


def equations() -> dict[str, str]:
    """Each label of a result and the module of its chapter, in reading order."""
    found = {}
    for chapter in chapters():
        for cell in nbformat.read(chapter, as_version=4).cells:
            if cell.cell_type == "markdown":
                labels = re.findall(r":label: (eq-[\w-]+)", cell.source)
                found.update(dict.fromkeys(labels, stem(chapter)))
    return found


def functions() -> dict[str, list[str]]:
    """Each label that a docstring begins with, and the functions, as module.name."""
    found = defaultdict(list)
    for chapter in chapters():
        for node in ast.parse(module_source(chapter)).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                summary = (ast.get_docstring(node) or "").split("\n\n")[0]
                for label in re.findall(r":eq:`([\w-]+)`", summary):
                    found[label].append(f"{stem(chapter)}.{node.name}")
    return found


def tests() -> dict[str, list[str]]:
    """Each label that a test is marked with, and the tests, as file::name."""
    found = defaultdict(list)
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        for name, label in marks(path):
            found[label].append(f"{path.stem}::{name}")
    return found


def marks(path: Path) -> Iterator[tuple[str, str]]:
    """The tests of a file and the labels that they are marked with."""
    for node in ast.parse(path.read_text()).body:
        for mark in getattr(node, "decorator_list", []):
            if "mark.equation" in ast.unparse(mark):
                for label in mark.args:
                    yield node.name, label.value


def page() -> str:
    """The text of the index."""
    computed, guarded = functions(), tests()
    rows = []
    chapter = ""
    for label, module in equations().items():
        if module != chapter:
            chapter = module
            rows.append(f"| **{{ref}}`ch-{module.replace('_', '-')}`** | | | |\n")
        names = ", ".join(
            f"{{py:obj}}`{name.split('.')[1]} <rnn.{name}>`" for name in computed[label]
        )
        checks = "; ".join(
            test.split("::test_")[1].replace("_", " ") for test in guarded[label]
        )
        rows.append(f"| {{eq}}`{label}` | {label[3:]} | {names} | {checks} |\n")
    return INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page())
