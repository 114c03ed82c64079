"""The chapters pass on other processors, and fail when an output is wrong."""

import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

BOOK = Path(__file__).resolve().parent.parent / "book"
NBVAL = [
    "-m",
    "pytest",
    "-c",
    "/dev/null",
    "-q",
    "-p",
    "no:cacheprovider",
    "--nbval",
    "--nbval-current-env",
]


def nbval(notebook, **environment):
    return subprocess.run(
        [sys.executable, *NBVAL, str(notebook)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("core", ["Nehalem", "Haswell"])
def test_a_chapter_passes_on_other_processors(notebook, core):
    seed = str(random.SystemRandom().randrange(2**32))
    done = nbval(notebook, OPENBLAS_CORETYPE=core, PYTHONHASHSEED=seed)
    assert done.returncode == 0, f"PYTHONHASHSEED={seed}\n{done.stdout}"


def spoil(output):
    """Alter a stored text output by its last character; True if there was a text."""
    if output.output_type == "stream":
        output.text = output.text.rstrip("\n") + "~\n"
    elif "text/plain" in output.data:
        output.data["text/plain"] += "~"
    else:
        return False
    return True


def test_a_wrong_output_fails(notebook, tmp_path):
    book = shutil.copytree(BOOK, tmp_path / "book")
    shutil.copytree(BOOK.parent / "benchmarks", tmp_path / "benchmarks")
    spoilt = nbformat.read(book / notebook.name, as_version=4)
    code = [cell for cell in spoilt.cells if cell.cell_type == "code"]
    altered = {i for i, cell in enumerate(code) if sum(map(spoil, cell.outputs))}
    nbformat.write(spoilt, book / notebook.name)
    done = nbval(book / notebook.name)
    failed = {
        int(i) for i in re.findall(r"^FAILED .*::Cell (\d+)", done.stdout, re.MULTILINE)
    }
    assert altered
    assert failed == altered
