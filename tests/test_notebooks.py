"""What nbval lets pass, and the anatomy that every chapter has."""

import json
import re

import export
import nbformat
import pytest

HEADINGS = [
    "Intuition",
    "Derivation",
    "Code",
    "Check",
    "Figure",
    "Exercises",
    "What we exported",
]
FORBIDDEN_TAGS = {
    "nbval-check-output",
    "nbval-ignore-output",
    "nbval-raises-exception",
    "nbval-skip",
    "raises-exception",
    "remove-cell",
    "remove-output",
    "skip-execution",
}
ADDRESS = re.compile(r"0x[0-9a-fA-F]{5,}")
DURATION = re.compile(
    r"\d\s*(?:ns|µs|us|ms|s|sec|secs|seconds?|minutes?)\b|\d\d:\d\d:\d\d"
)
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d_]*(?:\.\d+)?")
EMPTY_WORDS = re.compile(
    r"\b(?:simply|clearly|obviously|trivially|easy to see|needless to say)\b",
    re.IGNORECASE,
)


def cells_of(path, kind):
    return [
        cell
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == kind
    ]


def prose_of(path):
    return "\n\n".join(cell.source for cell in cells_of(path, "markdown"))


def tags_of(cell):
    return set(cell.metadata.get("tags", []))


def texts_of(cell):
    """Every text that a cell's stored outputs hold."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text
        else:
            yield from (
                text
                for kind, text in output.get("data", {}).items()
                if kind.startswith("text/")
            )


def digits(number):
    """The significant digits of a printed number."""
    return len(
        re.sub(r"[^\d]", "", number).strip("0" if "." not in number else "").lstrip("0")
    )


def test_every_cell_was_run_once_from_top_to_bottom(notebook):
    counts = [cell.execution_count for cell in cells_of(notebook, "code")]
    assert counts == list(range(1, len(counts) + 1)), "run `make execute`"


def test_no_cell_is_excused(notebook):
    for cell in cells_of(notebook, "code"):
        assert not tags_of(cell) & FORBIDDEN_TAGS
        assert not re.search(r"#\s*(?:NBVAL|PYTEST_VALIDATE)", cell.source)


def test_metadata_is_normal(notebook):
    stored = json.loads(notebook.read_text())
    assert set(stored["metadata"]) == {"kernelspec", "language_info"}
    for cell in stored["cells"]:
        assert set(cell["metadata"]) <= {"tags", "mystnb"}


def test_outputs_are_text_and_pictures(notebook):
    for cell in cells_of(notebook, "code"):
        for output in cell.outputs:
            assert output.output_type in {"stream", "display_data", "execute_result"}
            assert output.get("name", "stdout") == "stdout", (
                "a cell warns: cure the cause"
            )
            assert set(output.get("data", {})) <= {"text/plain", "image/png"}


def test_outputs_are_the_same_on_every_machine(notebook):
    for cell in cells_of(notebook, "code"):
        for text in texts_of(cell):
            assert not ADDRESS.search(text), text
            assert not DURATION.search(text), text
            assert "<script" not in text, text
            assert "np.float" not in text, text
            long = [number for number in NUMBER.findall(text) if digits(number) > 6]
            assert not long, f"more than six digits: {long}"


def test_figures_can_be_read_by_everybody(notebook):
    for cell in cells_of(notebook, "code"):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            about = cell.metadata.get("mystnb", {})
            assert len(about.get("image", {}).get("alt", "")) > 40
            assert len(about["figure"]["caption"]) > 40
            assert about["figure"]["name"].startswith("fig-")
            assert cell.source.rstrip().endswith("plt.show()")


def test_prose_refers_in_ways_that_the_build_checks(notebook):
    prose = prose_of(notebook)
    assert "eqref" not in prose
    assert "\\label" not in prose
    assert not EMPTY_WORDS.search(prose)


def test_a_chapter_has_its_sections_in_order(chapter):
    found = re.findall(r"^## (.+)$", prose_of(chapter), re.MULTILINE)
    named = [heading.replace("Figures", "Figure") for heading in found]
    assert [heading for heading in named if heading in HEADINGS] == HEADINGS


def test_a_chapter_states_goal_time_and_foundation(chapter):
    goal = prose_of(chapter).split("\n## ")[0]
    assert re.search(r"\*\*Time\*\*: about \d+ minutes", goal)
    assert "**Builds on**:" in goal
    assert "```{math}" in goal or "$$" in goal or ":::{math}" in goal or "{eq}`" in goal


def test_a_chapter_computes_the_example_done_by_hand(chapter):
    intuition = prose_of(chapter).split("## Intuition")[1].split("\n## ")[0]
    assert "dogs" in intuition or "hand" in intuition


def test_a_chapter_shows_a_figure(chapter):
    cells = cells_of(chapter, "code")
    assert any(
        "image/png" in output.get("data", {})
        for cell in cells
        for output in cell.outputs
    )


def test_the_last_check_runs_on_the_module(chapter):
    before, _ = split_at(chapter, "## Figure")
    check = [cell.source for cell in before if cell.cell_type == "code"][-3:]
    assert any(f"from rnn.{export.stem(chapter)} import" in source for source in check)


def test_exercises_come_with_checked_solutions(chapter):
    _, after = split_at(chapter, "## Exercises")
    exercises = sum(
        cell.source.count("{exercise}")
        for cell in after
        if cell.cell_type == "markdown"
    )
    code = [cell for cell in after if cell.cell_type == "code"]
    solutions = [cell for cell in code if "solution" in tags_of(cell)]
    stubs = [cell for cell in code if "not filled in yet" in "".join(texts_of(cell))]
    assert len(solutions) == len(stubs) == exercises >= 2
    for cell in solutions:
        assert "hide-cell" in tags_of(cell)
        assert "def solution_" in cell.source
        assert "right" in "".join(texts_of(cell))
        assert "wrong" not in "".join(texts_of(cell))


def split_at(path, heading):
    cells = nbformat.read(path, as_version=4).cells
    at = next(
        i
        for i, cell in enumerate(cells)
        if cell.cell_type == "markdown"
        and re.search(rf"^{heading}", cell.source, re.MULTILINE)
    )
    return cells[:at], cells[at:]


@pytest.mark.parametrize(
    ("text", "count"),
    [("3.14159", 6), ("0.00012", 2), ("1000000", 1), ("-12.3456", 6), ("1.0000", 5)],
)
def test_digits_are_counted(text, count):
    assert digits(text) == count
