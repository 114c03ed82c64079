"""The rendered book: strict, reproducible, and seen through a real browser.

The browser tests need Chromium (found on PATH or named by CHROMIUM) and are left out,
with a word, where there is none; REQUIRE_CHROMIUM=1 makes its absence a failure.
"""

import filecmp
import functools
import os
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = (
    os.environ.get("CHROMIUM")
    or shutil.which("chromium")
    or shutil.which("google-chrome")
)
PAGES = sorted(
    path.stem for kind in ("*.ipynb", "*.md") for path in (ROOT / "book").glob(kind)
)
FACTS = (ROOT / "tests" / "page_facts.js").read_text()
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]


def build(folder: Path) -> Path:
    """Render the whole book, strictly, into a folder."""
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ROOT]
    done = subprocess.run(
        [*command, "--path-output", folder, "-W", "-n", "--keep-going", "--all"],
        env={**os.environ, "SOURCE_DATE_EPOCH": "1767225600"},
        capture_output=True,
        text=True,
    )
    html = folder / "_build" / "html"
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (html / "index.html").exists()
    return html


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    return build(tmp_path_factory.mktemp("site"))


def test_two_builds_are_the_same_byte_for_byte(site, tmp_path):
    again = build(tmp_path)
    names = {path.relative_to(site) for path in site.rglob("*") if path.is_file()}
    assert names == {
        path.relative_to(again) for path in again.rglob("*") if path.is_file()
    }
    _, different, missing = filecmp.cmpfiles(site, again, names, shallow=False)
    assert (different, missing) == ([], [])


def test_every_page_is_there(site):
    assert (site / "index.html").exists()
    assert all((site / "book" / f"{page}.html").exists() for page in PAGES)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="session")
def address(site):
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def browser():
    if not CHROMIUM:
        if os.environ.get("REQUIRE_CHROMIUM"):
            pytest.fail("REQUIRE_CHROMIUM is set, but no Chromium was found")
        pytest.skip(
            "left out: no Chromium on this machine (install it, or name it by CHROMIUM)"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def seen(browser, address):
    """What there is to see on a page, in a window of some width and colour scheme."""

    @functools.cache
    def look(name, width, scheme):
        window = {"width": width, "height": 900}
        context = browser.new_context(viewport=window, color_scheme=scheme)
        page = context.new_page()
        asked, complaints = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda said: complaints.append((said.type, said.text)))
        page.on("pageerror", lambda error: complaints.append(("error", str(error))))
        page.goto(f"{address}/book/{name}.html", wait_until="networkidle")
        page.evaluate("typeof MathJax === 'undefined' || MathJax.startup.promise")
        facts = page.evaluate(FACTS)
        context.close()
        return {**facts, "asked": asked, "complaints": complaints}

    return look


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES)
class TestPage:
    def test_nothing_is_asked_of_the_outside(self, seen, address, name, width, scheme):
        asked = seen(name, width, scheme)["asked"]
        assert [url for url in asked if not url.startswith((address, "data:"))] == []

    def test_the_console_is_silent(self, seen, name, width, scheme):
        complaints = seen(name, width, scheme)["complaints"]
        assert [text for kind, text in complaints if kind in {"error", "warning"}] == []

    def test_every_formula_is_rendered(self, seen, name, width, scheme):
        facts = seen(name, width, scheme)
        assert facts["drawn"] >= facts["formulas"]
        assert facts["broken"] == []
        assert "\\(" not in facts["text"]

    def test_the_page_does_not_scroll_sideways(self, seen, name, width, scheme):
        assert seen(name, width, scheme)["width"] <= width

    def test_no_formula_within_a_line_is_cut_off(self, seen, name, width, scheme):
        assert seen(name, width, scheme)["cut"] == []

    def test_every_text_has_contrast(self, seen, name, width, scheme):
        assert seen(name, width, scheme)["faint"] == []

    def test_every_picture_is_loaded_and_described(self, seen, name, width, scheme):
        for picture in seen(name, width, scheme)["pictures"]:
            assert picture["loaded"]
            assert len(picture["alt"]) > 20
