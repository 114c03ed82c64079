"""Executing a chapter again changes no byte of its file."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent


def executed(notebook):
    """The bytes of a notebook after `make execute`."""
    command = [sys.executable, str(ROOT / "tools" / "execute.py"), str(notebook)]
    subprocess.run(command, check=True, capture_output=True)
    return notebook.read_bytes()


def without_pictures(text):
    """The notebook less its figures, in which another Python's reference shows."""
    stored = nbformat.reads(text.decode(), as_version=4)
    for cell in stored.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)
    return stored


def test_executing_again_changes_nothing(notebook, tmp_path):
    for folder in ("book", "benchmarks"):  # what a chapter reads
        shutil.copytree(ROOT / folder, tmp_path / folder)
    copy = tmp_path / "book" / notebook.name
    once = executed(copy)
    assert executed(copy) == once
    assert without_pictures(once) == without_pictures(notebook.read_bytes())
