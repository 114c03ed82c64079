"""What several test files share."""

from pathlib import Path

import export
import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent

# The same examples in every run, and no verdict on how fast the machine is.
hypothesis.settings.register_profile(
    "book",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("book")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`chapter` runs a test for each chapter, `notebook` for each page of code."""
    if "chapter" in metafunc.fixturenames:
        metafunc.parametrize("chapter", export.chapters(), ids=lambda path: path.stem)
    if "notebook" in metafunc.fixturenames:
        metafunc.parametrize(
            "notebook",
            sorted((ROOT / "book").glob("*.ipynb")),
            ids=lambda path: path.stem,
        )
