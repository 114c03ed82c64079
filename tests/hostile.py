"""Texts that break programs: files and places, and what a reader owes each of them.

`write_hostile(folder)` makes them all. A test reads each and compares with what is
expected: "text", a text that must be read, learned and evaluated, or the regular
expression of the one-line error that names the file.
"""

import contextlib
import gzip
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

TEXT = "text"
NO_WORDS = r"holds no words: expected a text, found only blank space$"
NO_CHARACTERS = r"holds no characters: expected a text, found only line ends$"

#: What the fifo sends.
FIFO = b"dogs bark\nthe foxes run\n" * 50


class Hostile(NamedTuple):
    """A hostile file; `characters` is what is expected when tokens are characters."""

    name: str
    path: Path
    expected: str
    characters: str


def _not_utf8(offset: int, byte: str) -> str:
    return rf"is not UTF-8: byte {offset} is 0x{byte} \(.+\); save it as UTF-8"


def _utf8(text: str) -> bytes:
    return text.encode()


# name: content, what is expected of its words, and of its characters if that differs
_FILES: dict[str, tuple[bytes, str] | tuple[bytes, str, str]] = {
    "empty": (b"", NO_WORDS, NO_CHARACTERS),
    "blank lines": (b"\n\r\n\r\n\n", NO_WORDS, NO_CHARACTERS),
    "spaces and tabs": (b"  \t \n\t\t\n \x0b\x0c", NO_WORDS, TEXT),
    "byte order mark only": (b"\xef\xbb\xbf", NO_WORDS, NO_CHARACTERS),
    "one word": (b"dogs", TEXT),
    "one character": (b"d", TEXT),
    "one long line": ((b"x" * 99 + b" ") * 10_000, TEXT),
    "one long word": (
        b"dogs " + b"x" * 1_000_000,
        r"holds a word of more than 10,000 characters at byte 5: expected words",
        TEXT,
    ),
    "word of 10,000": (b"dogs " + b"x" * 10_000 + b" bark", TEXT),
    "word of 10,001": (
        _utf8("é " + "x" * 10_001 + " bark"),
        r"holds a word of more than 10,000 characters at byte 3: expected words",
        TEXT,
    ),
    "10,000 wide characters": (_utf8("\U0001f415" * 10_000), TEXT),
    "NUL": (b"dogs\nbark\0\0", r"holds a NUL byte at byte 9: expected UTF-8"),
    "Latin-1": (b"caf\xe9 dogs", _not_utf8(3, "e9")),
    "UTF-8 cut at the end": (b"dogs \xe2\x80", _not_utf8(5, "e2")),
    "lone continuation": (b"dogs \x80", _not_utf8(5, "80")),
    "encoded surrogate": (b"dogs \xed\xa0\x80", _not_utf8(5, "ed")),
    "overlong encoding": (b"dogs \xc0\xaf", _not_utf8(5, "c0")),
    "beyond Unicode": (b"dogs \xf4\x90\x80\x80", _not_utf8(5, "f4")),
    "byte order mark": (b"\xef\xbb\xbfdogs bark\n", TEXT),
    "byte order mark inside": (_utf8("dogs \ufeffbark\n\ufeff\n"), TEXT),
    "UTF-16": ("dogs bark\n".encode("utf-16"), r"NUL byte at byte 3: .*UTF-16"),
    "UTF-32": ("dogs bark\n".encode("utf-32"), r"NUL byte at byte 2: .*UTF-8"),
    "CRLF": (b"dogs bark\r\nboys sleep\r\n\r\n", TEXT),
    "CR": (b"dogs bark\rboys sleep\r", TEXT),
    "mixed line ends": (b"a\nb\r\nc\rd\n\re\r\r\nf\n\n\rg", TEXT),
    "no line end": (b"dogs bark\nboys sleep", TEXT),
    "every word once": (" ".join(f"w{i}" for i in range(2_000)).encode(), TEXT),
    "only unknown words": (b"<unk> <unk>\n<unk>\n", TEXT),
    "only sentence ends": (b"</s> </s>\n</s>\n", TEXT),
    "sentence ends among words": (b"</s> dogs </s> bark </s>\n</s></s> </S>\n", TEXT),
    "right to left": (_utf8("\u202eكلب ينبح\u202c\nהכלבים נובחים\n"), TEXT),
    "joined emoji": (
        _utf8("dogs \U0001f469\u200d\U0001f4bb \U0001f3f3\ufe0f\u200d\U0001f308\n"),
        TEXT,
    ),
    "combining marks": (_utf8("caf\u00e9 cafe\u0301 Z" + "\u0351" * 300), TEXT),
    "other separators": (
        _utf8("a\u2028b\u2029c\x85d\x1ce\x1df\x1eg\x1fh\x0bi\x0cj\u00a0k\u3000l"),
        TEXT,
    ),
    "invisible characters": (_utf8("a\u200bb \u200b \u2060 \u00ad\n\u200e\n"), TEXT),
    "private and unassigned": (_utf8("\ue000 \U0010ffff \ufffe \ufdd0"), TEXT),
    "controls": (b"\x1b[31mred\x1b[0m \x07\x08\x7f \x01\x02\n\x1b]0;t\x07 x\n", TEXT),
    "numbers and punctuation": (b"3.14 -1e9 0x1F %s {} ; -- '' \\n\n" * 3, TEXT),
    "gzip": (gzip.compress(b"dogs bark\n", mtime=0), r"holds a NUL byte at byte 3"),
    "many words": (" ".join(map(str, range(50_000))).encode(), TEXT),
}


def _directory(path: Path) -> None:
    path.mkdir()


def _forbidden(path: Path) -> None:
    path.write_bytes(b"dogs bark\n")
    path.chmod(0)


def _fifo(path: Path) -> None:
    os.mkfifo(path)
    threading.Thread(target=_send, args=(path,), daemon=True).start()


def _send(path: Path) -> None:
    with contextlib.suppress(OSError):  # the reader may go, and the folder with it
        path.write_bytes(FIFO)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _missing(path: Path) -> None:
    assert not path.exists()


def _strange_name(path: Path) -> None:
    path.write_bytes(b"dogs\xff")


_PLACES: dict[str, tuple[Callable[[Path], None], str]] = {
    "directory": (_directory, r"Is a directory: '.*directory'"),
    "forbidden": (
        _forbidden,
        TEXT if os.geteuid() == 0 else r"Permission denied: '.*forbidden'",
    ),
    "fifo": (_fifo, TEXT),
    "link to itself": (_loop, r"symbolic links: '.*link to itself'"),
    "missing": (_missing, r"No such file or directory: '.*missing'"),
    "two\nlines": (_strange_name, r"two\\nlines' is not UTF-8: byte 4 is 0xff"),
}

NAMES = [*_FILES, *_PLACES]


def write_hostile(folder: Path) -> list[Hostile]:
    """Make every file and place in the folder, under its name.

    The fifo can be read once: a thread waits for its reader.
    """
    made = []
    for name, (content, *expected) in _FILES.items():
        path = folder / name
        path.write_bytes(content)
        made.append(Hostile(name, path, expected[0], expected[-1]))
    for name, (make, error) in _PLACES.items():
        make(folder / name)
        made.append(Hostile(name, folder / name, error, error))
    return made
