"""The package is what the chapters say: nothing stale, twice or out of order."""

import ast
import subprocess
import sys
from collections import Counter
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import export
import flit_core.buildapi
import pytest

import rnn

ROOT = Path(__file__).resolve().parent.parent
HANDWRITTEN = {"__main__", *export.PLUMBING}
TREE = {chapter: export.module_source(chapter) for chapter in export.chapters()}


def test_every_module_is_what_its_chapter_exports(tmp_path):
    export.main(tmp_path)
    for made in tmp_path.iterdir():
        assert (ROOT / "rnn" / made.name).read_bytes() == made.read_bytes(), (
            "run `make export`"
        )


def test_exporting_twice_changes_nothing(tmp_path, capsys):
    export.main(tmp_path)
    capsys.readouterr()
    export.main(tmp_path)
    assert capsys.readouterr().out == ""


def test_no_module_lacks_a_chapter():
    modules = {path.stem for path in (ROOT / "rnn").glob("*.py")}
    assert modules - {"__init__"} - HANDWRITTEN == {
        export.stem(chapter) for chapter in TREE
    }


def test_chapters_are_numbered_from_one_without_gaps():
    assert [int(chapter.stem[:2]) for chapter in TREE] == list(range(1, len(TREE) + 1))


def test_table_of_contents_follows_the_numbers():
    toc = (ROOT / "_toc.yml").read_text()
    places = [toc.index(f"book/{chapter.stem}\n") for chapter in TREE]
    assert places == sorted(places)


def test_a_chapter_imports_only_from_earlier_ones(chapter):
    earlier = {export.stem(other) for other in TREE if other < chapter}
    earlier |= set(export.PLUMBING)
    for node in ast.walk(ast.parse(TREE[chapter])):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.module in earlier, f"{chapter.name} imports from {node.module}"


def test_the_whole_chapter_uses_only_earlier_chapters_and_itself(chapter):
    allowed = {export.stem(other) for other in TREE if other <= chapter}
    allowed |= HANDWRITTEN
    for source in export.code_cells(chapter):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "rnn."
            ):
                assert node.module.removeprefix("rnn.") in allowed


def test_no_name_is_exported_twice():
    names = Counter(
        name for source in TREE.values() for name in export.defined_names(source)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_the_package_gathers_every_public_name():
    for source in TREE.values():
        assert set(export.defined_names(source)) <= set(rnn.__all__)
    assert all(hasattr(rnn, name) for name in rnn.__all__)


def test_a_module_says_which_chapter_to_edit(chapter):
    assert f"book/{chapter.name}" in ast.get_docstring(ast.parse(TREE[chapter]))


def test_a_function_of_an_exported_cell_is_documented(chapter):
    for node in ast.parse(TREE[chapter]).body:
        if isinstance(
            node, ast.FunctionDef | ast.ClassDef
        ) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.parametrize(
    "command",
    [("ruff", "check"), ("ruff", "format", "--check"), ("mypy",)],
    ids=["lint", "format", "types"],
)
def test_modules_and_notebooks_are_clean(command):
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_has_three_modules_written_by_hand():
    assert sorted(HANDWRITTEN) == ["__main__", "_corpora", "_files"]


def test_the_wheel_needs_little_and_holds_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with ZipFile(tmp_path / flit_core.buildapi.build_wheel(str(tmp_path))) as wheel:
        names = wheel.namelist()
        metadata = next(name for name in names if name.endswith("METADATA"))
        needs = (
            Parser().parsestr(wheel.read(metadata).decode()).get_all("Requires-Dist")
        )
    needs = [need for need in needs if "extra" not in need]
    assert needs == ["numpy>=2.0", "pooch>=1.8", "threadpoolctl>=3.5", "tqdm>=4.66"]
    package = [*(ROOT / "rnn").glob("*.py"), ROOT / "rnn" / "prose.txt"]
    assert {f"rnn/{path.name}" for path in package} <= set(names)
