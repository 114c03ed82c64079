"""Sphinx extension: the pages carry all they need and ask nothing of the network.

The package sphinx-mathjax-offline brings MathJax along; of its 31 MB one file suffices,
which draws formulas as SVG. Thebe, which would run cells on somebody's server, is
unplugged: its scripts are declared twice, an error on every page. What a cell prints
in pieces is joined, so that two builds are the same byte for byte.
"""

import shutil
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from nbclient import NotebookClient
from sphinx.application import Sphinx
from sphinx.config import Config

SCRIPT = "tex-svg.js"


def carry_mathjax(app: Sphinx, config: Config) -> None:
    """Put the script beside the book's other static files and name it to every page."""
    package = distribution("sphinx-mathjax-offline")
    found = package.locate_file(f"sphinx-mathjax-offline/static/mathjax/{SCRIPT}")
    folder = Path(app.srcdir) / "_build" / "mathjax"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(str(found), folder / SCRIPT)
    config.html_static_path = [*config.html_static_path, "_build/mathjax"]
    config.mathjax_path = SCRIPT


def unplug_thebe(app: Sphinx, config: Config) -> None:
    """Keep sphinx_thebe, which Jupyter Book always loads, out of the pages."""
    for listener in list(app.events.listeners["env-before-read-docs"]):
        if listener.handler.__name__ == "init_thebe_core":
            app.disconnect(listener.id)


def join_pieces() -> None:
    """Let every execution join the pieces; MyST-NB's own way leaves their seams."""
    plain = NotebookClient.__init__

    def joining(self: NotebookClient, *given: Any, **named: Any) -> None:
        plain(self, *given, **{"coalesce_streams": True, **named})

    NotebookClient.__init__ = joining


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("config-inited", carry_mathjax)
    app.connect("config-inited", unplug_thebe)
    join_pieces()
    return {"parallel_read_safe": True, "parallel_write_safe": True}
