"""The corpora: any UTF-8 text file, and the English that every CPython carries.

Written by hand, without model code; the chapter `words` shows both in use.
"""

import os
import re
from importlib import import_module
from pathlib import Path

from .words import normalize

__all__ = ["python_reference", "read_text"]


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a UTF-8 file, without the byte order mark that some editors write.

    Line ends stay as they are; `tokenize` knows all three kinds.

    Raises:
        ValueError: The file holds a NUL byte, bytes that are not UTF-8, or no words;
            the message names the file, the offset of the first such byte (counted from
            0), and the remedy.
        OSError: The file cannot be read; the message names it.
    """
    data = Path(path).read_bytes()
    name = os.fspath(path)
    nul = data.find(b"\0")
    if nul >= 0:
        raise ValueError(
            f"{name} holds a NUL byte at byte {nul}: expected UTF-8 text; "
            "if it is UTF-16 text, save it as UTF-8, "
            "for instance with `iconv -f UTF-16 -t UTF-8`"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is not UTF-8: byte {error.start} is 0x{data[error.start]:02x} "
            f"({error.reason}); save it as UTF-8, "
            "for instance with `iconv -f LATIN1 -t UTF-8`"
        ) from error
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise ValueError(
            f"{name} holds no words: expected a text, found only blank space"
        )
    return text


def python_reference() -> str:
    """The prose of the Python language reference, normalized, one sentence a line.

    It is the text behind `help("assignment")` and its like, in `pydoc_data.topics`. A
    paragraph that several topics share is kept once. Grammar rules, code, headings and
    signatures are left out. The text differs from one version of Python to the next.

    Raises:
        ModuleNotFoundError: This Python came without `pydoc_data`.
    """
    try:
        topics: dict[str, str] = import_module("pydoc_data.topics").topics
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "this Python came without pydoc_data.topics, its help: install the full "
            "standard library, or read a text of your own with read_text(path)"
        ) from error
    pieces = (piece for topic in sorted(topics) for piece in _paragraphs(topics[topic]))
    kept = dict.fromkeys(piece for piece in pieces if _is_prose(piece))
    return normalize("".join(_sentences(piece) + "\n" for piece in kept))


def _paragraphs(text: str) -> list[str]:
    """The paragraphs and list items, each on one line, without marks and emphasis."""
    pieces = re.split(r"\n\s*\n|\n(?=\s*\* )", text)
    pieces = [re.sub(r"^\s*(?:\*|\d+\.)\s", "", piece).strip() for piece in pieces]
    hyphen = re.compile(
        r"(?<=\w-)\n\s*(?=\w)"
    )  # a word broken at its hyphen: built-⏎in
    emphasis = re.compile(r"(?<![\w*])\*{1,2}(\w[^*\n]*)\*{1,2}(?![\w*])")
    pieces = [emphasis.sub(r"\1", hyphen.sub("", piece)) for piece in pieces]
    return [" ".join(piece.split()) for piece in pieces]


def _is_prose(piece: str) -> bool:
    """Whether a paragraph ends like a sentence and three in four of it are words."""
    words = piece.split()
    plain = [
        word
        for word in words
        if re.fullmatch(r"\W{0,2}[A-Za-z]+(?:[-'’/][A-Za-z]+)*\W{0,3}", word)
    ]
    return (
        piece.endswith((".", ":", "!", "?", ".)"))
        and len(words) > 3
        and 4 * len(plain) >= 3 * len(words)
    )


def _sentences(piece: str) -> str:
    """The paragraph with each sentence on a line of its own."""
    return re.sub(r"(?<=[.!?])([\"”)]?) +(?=[\"“(]?[A-Z])", r"\1\n", piece)
