"""What a chapter defines without exporting: the naive forms that its checks use."""

import ast
from pathlib import Path
from typing import Any

import nbformat
import numpy as np

import rnn

BOOK = Path(__file__).resolve().parent.parent / "book"


def load(stem: str, name: str) -> Any:
    """What the chapter's cell that defines `name` calls by that name.

    The cell is executed by itself, among the names of the package and `np`: it must
    hold definitions only.
    """
    (path,) = BOOK.glob(f"[0-9][0-9]_{stem}.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    defining = [source for source in sources if name in _defined(source)]
    if len(defining) != 1:
        raise LookupError(
            f"{path.name} defines {name} in {len(defining)} cells: expected one"
        )
    namespace = {"np": np, **{public: getattr(rnn, public) for public in rnn.__all__}}
    exec(compile(defining[0], f"{path.name}, {name}", "exec"), namespace)
    return namespace[name]


def _defined(source: str) -> set[str]:
    """The functions and classes that a cell defines at its outermost level."""
    definitions = ast.FunctionDef | ast.ClassDef
    return {
        node.name for node in ast.parse(source).body if isinstance(node, definitions)
    }
