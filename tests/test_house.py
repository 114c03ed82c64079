"""What a newcomer sees first: README, verbs, introduction, glossary, reference."""

import re
import subprocess
import sys
from pathlib import Path

import export
import nbformat
import pytest

import rnn

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
INTRODUCTION = (ROOT / "book" / "introduction.md").read_text()


def verbs():
    return re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)


def prose(chapter):
    cells = nbformat.read(chapter, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_plain_make_lists_the_verbs():
    done = subprocess.run(
        ["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert re.findall(r"^make (\w+)", done.stdout, re.MULTILINE) == verbs()


def test_the_readme_has_a_line_for_every_verb():
    for verb in verbs():
        assert f"`make {verb}`" in README or f"make {verb} " in README


def test_the_python_of_the_readme_runs(capsys):
    exec(re.search(r"```python\n(.*?)```", README, re.DOTALL)[1], {})
    assert "dW transposed" in capsys.readouterr().out


def test_the_readme_lists_every_chapter_and_module(chapter):
    assert f"`rnn.{export.stem(chapter)}`" in README
    assert export.title(chapter) in README


def test_the_introduction_gives_every_chapter_its_time(chapter):
    minutes = re.search(r"\*\*Time\*\*: about (\d+) minutes", prose(chapter))[1]
    label = "ch-" + export.stem(chapter).replace("_", "-")
    row = next(
        line
        for line in INTRODUCTION.splitlines()
        if line.startswith(f"| {{ref}}`{label}`")
    )
    assert f"{minutes} min" in row


def test_the_reference_describes_every_public_name(chapter):
    api = (ROOT / "book" / "api.md").read_text()
    assert f"automodule:: rnn.{export.stem(chapter)}" in api
    for name in sys.modules[f"rnn.{export.stem(chapter)}"].__all__:
        if isinstance(getattr(rnn, name), rnn.Activation):
            assert f"autofunction:: rnn.{export.stem(chapter)}.{name}" in api


def test_every_term_used_is_in_the_glossary(notebook):
    glossary = (ROOT / "book" / "glossary.md").read_text()
    terms = {line.lower() for line in glossary.splitlines()}
    for used in re.findall(r"\{term\}`(?:[^`<]*<)?([^`>]+)>?`", prose(notebook)):
        assert used.lower() in terms, used


def test_an_unsupported_python_gets_a_clear_message(tmp_path):
    script = (
        "import runpy, sys; sys.version_info = (3, 10, 0); "
        "runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(ROOT / "tools" / "setup.py")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "runs on Python 3.11, 3.12, 3.13" in done.stderr
    assert "make book PYTHON=python3.13" in done.stderr


@pytest.mark.parametrize(
    "name", ["LICENSE", "requirements.lock", "_config.yml", "_toc.yml"]
)
def test_the_house_has_its_files(name):
    assert (ROOT / name).stat().st_size > 0


def test_every_requirement_is_pinned_with_hashes():
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=[a-z])", lock.split("\n", 2)[2])
    assert len(entries) > 100
    for entry in entries:
        assert re.match(r"[\w.\-\[\]]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry
