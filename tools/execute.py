"""Run chapters and store their outputs in place; running them again changes no byte.

Usage: python tools/execute.py CHAPTER.ipynb ..

Metadata is normalised: one kernel specification, no Python version, no timings, nothing
that an editor left behind.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT = ("tags", "mystnb")  # of a cell's metadata


def execute(chapter: Path) -> None:
    """Run one chapter from a fresh kernel and write it back."""
    notebook = nbformat.read(chapter, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,  # a text that came in pieces is one text
        resources={"metadata": {"path": str(chapter.parent)}},
    )
    client.execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {key: cell.metadata[key] for key in KEPT if key in cell.metadata}
        )
    nbformat.write(notebook, chapter)
    print(f"executed {chapter}", flush=True)


if __name__ == "__main__":
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(execute, map(Path, sys.argv[1:])))
