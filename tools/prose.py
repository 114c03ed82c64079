"""The book's own prose as a plain text: the English that a chapter learns from.

Usage: python tools/prose.py > FILE   (rnn/prose.txt was made so, once; it is frozen)

Sentences of the chapters, one a line, without headings, tables, blocks of formulas and
of code. A formula, name of code or reference within a sentence is an unknown word,
`<unk>`.
"""

import re
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import nbformat
from export import ROOT, chapters, stem

from rnn.words import UNKNOWN, normalize

PAGES = ["introduction.md", "glossary.md", "other_notation.ipynb"]
BLOCK = re.compile(r"^(`{3,}|:{3,}|\${2}).*?^\s*\1", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"\$[^$]+\$|(?:\{[\w:]+\})?`+[^`]+`+")
LEFT_OUT = re.compile(r"[$`|\\{}=_^*]|https?:")


def markdown(path: Path) -> Iterator[str]:
    """The prose cells of a page."""
    if path.suffix == ".md":
        yield path.read_text()
    else:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                yield cell.source


def sentences(text: str) -> Iterator[str]:
    """The sentences that can be read by themselves, each on one line."""
    text = BLOCK.sub("\n\n", text)
    text = re.sub(r"\{term\}`(?:([^`<]+) <[^`>]*>|([^`]+))`", r"\1\2", text)
    text = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"(\*\*?)(?=\S)([^*]+?)(?<=\S)\1", r"\2", text)
    text = INLINE.sub(f" {UNKNOWN} ", text)
    text = re.sub(rf"{UNKNOWN}(?:\W*{UNKNOWN})+", UNKNOWN, text)
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:[-#|:]|\d+\.) )", text):
        piece = " ".join(paragraph.split())
        piece = re.sub(r"^(?:[-:]|\d+\.) ", "", piece)
        if piece.startswith(("#", "|", "(")):
            continue
        for sentence in re.split(r"(?<=[.!?]) (?=[A-Z\"“(])", piece):
            ended = sentence.endswith((".", "!", "?", ":"))
            readable = sentence.count(UNKNOWN) <= 2 and not LEFT_OUT.search(sentence)
            if ended and len(sentence.split()) > 3 and readable:
                yield sentence


def main() -> None:
    """Print the prose of the introduction, the chapters before, and the glossary."""
    paths = [ROOT / "book" / name for name in PAGES]
    before = takewhile(lambda path: stem(path) != "language_model", chapters())
    pages = [paths[0], *before, *paths[1:]]
    found = [s for path in pages for text in markdown(path) for s in sentences(text)]
    sys.stdout.write(normalize("\n".join(dict.fromkeys(found)) + "\n"))


if __name__ == "__main__":
    main()
