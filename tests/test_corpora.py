"""The texts that the book works on."""

import builtins
import sys

import pytest

from rnn._corpora import python_reference, read_text
from rnn.words import normalize, tokenize


def write(tmp_path, data):
    path = tmp_path / "mine.txt"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"dogs bark\n", "dogs bark\n"),
        ("“é” \U0001f415".encode(), "“é” \U0001f415"),
        (b"\xef\xbb\xbfdogs", "dogs"),
        (b"a\r\nb\rc\n", "a\r\nb\rc\n"),
    ],
)
def test_a_text_is_read_as_it_is(tmp_path, data, text):
    path = write(tmp_path, data)
    assert read_text(path) == text
    assert read_text(str(path)) == text


@pytest.mark.parametrize(
    ("data", "offset", "byte"),
    [
        (b"dogs\xff bark", 4, "0xff"),
        (b"\xef\xbb\xbfab\xe9 x", 5, "0xe9"),
        (b"dogs\xc3", 4, "0xc3"),
        (b"\xff\xfed", 0, "0xff"),
        (b"a\xed\xa0\x80", 1, "0xed"),
    ],
)
def test_what_is_not_utf8_is_refused_with_its_place(tmp_path, data, offset, byte):
    with pytest.raises(
        ValueError,
        match=rf"mine\.txt is not UTF-8: byte {offset} is {byte} \(.+\); "
        "save it as UTF-8.*iconv",
    ):
        read_text(write(tmp_path, data))


@pytest.mark.parametrize(
    "data", [b"\0", b"dogs\0bark\0", "dogs".encode("utf-16-le"), b"\xff\0"]
)
def test_nul_is_refused_with_its_place(tmp_path, data):
    offset = data.index(0)
    with pytest.raises(
        ValueError,
        match=rf"mine\.txt holds a NUL byte at byte {offset}: "
        "expected UTF-8 text; .*UTF-16",
    ):
        read_text(write(tmp_path, data))


@pytest.mark.parametrize(
    "data", [b"", b" \n\r\n\t", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"]
)
def test_a_file_without_words_is_refused(tmp_path, data):
    with pytest.raises(
        ValueError,
        match=r"mine\.txt holds no words: expected a text, found only blank space$",
    ):
        read_text(write(tmp_path, data))


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
        read_text(tmp_path / "missing.txt")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        read_text(tmp_path)


def test_the_reference_is_normal_prose():
    text = python_reference()
    assert text == python_reference()
    assert text == normalize(text)
    lines = text.splitlines()
    assert 2_000 < len(lines) < 5_000
    assert 45_000 < len(tokenize(text)) < 90_000
    assert "::=" not in text
    assert ">>>" not in text
    assert "***" not in text
    assert "= = =" not in text
    assert "- - -" not in text
    assert sum(
        line.endswith((".", ":", ") ", ")", '"', "”", "!", "?")) for line in lines
    ) > 0.99 * len(lines)


def topics(monkeypatch, **texts):
    module = type(sys)("pydoc_data.topics")
    module.topics = texts
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", module)
    return python_reference()


def test_the_reference_keeps_prose_only(monkeypatch):
    later = """Dogs
****

Dogs bark at
the *old* foxes. Foxes run:

   for fox in foxes:
      fox.run(fast=True)

object.bark(self, value)

   Makes the built-
   in dog bark.
"""
    earlier = """   dog_stmt ::= "dog" [target]

* The boys sleep here.

  * "Girls" never see **them**!
  * Another item without a blank line.

1. One last word here.
"""
    assert topics(monkeypatch, b=later, a=earlier).splitlines() == [
        "the boys sleep here .",
        '" girls " never see them !',
        "another item without a blank line .",
        "one last word here .",
        "dogs bark at the old foxes .",
        "foxes run :",
        "makes the built-in dog bark .",
    ]


def test_a_paragraph_of_several_topics_is_kept_once(monkeypatch):
    assert topics(
        monkeypatch,
        x="Dogs bark at foxes.\n\nBoys sleep at night.",
        y="Dogs bark at\nfoxes.",
    ) == ("dogs bark at foxes .\nboys sleep at night .\n")


@pytest.mark.parametrize(
    ("paragraph", "kept"),
    [
        ("Dogs bark at foxes.", True),
        ("Dogs bark at foxes:", True),
        ("Do dogs bark at foxes?", True),
        ("Dogs bark (at foxes.)", True),
        ("Dogs bark at foxes", False),
        ("Dogs bark here.", False),  # three words
        ("Dogs bark at 4.", True),  # three in four
        ("Dogs bark 4 4.", False),
        ("Dogs don't out-bark the dog/fox.", True),
    ],
)
def test_what_counts_as_prose(monkeypatch, paragraph, kept):
    assert bool(topics(monkeypatch, x=paragraph).strip()) == kept


def test_sentences_stand_on_lines_of_their_own(monkeypatch):
    paragraph = (
        'Dogs bark (loud.) Boys say "sleep." Then they e.g. see foxes. '
        '"Foxes" run! Do they? (Yes.)'
    )
    text = topics(monkeypatch, x=paragraph)
    assert text.splitlines() == [
        "dogs bark ( loud . )",
        'boys say " sleep . "',
        "then they e . g . see foxes .",
        '" foxes " run !',
        "do they ?",
        "( yes . )",
    ]


def test_a_python_without_the_reference_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"without pydoc_data\.topics.*read_text\(path\)"
    ):
        python_reference()


def test_reading_opens_no_other_file(tmp_path, monkeypatch):
    path = write(tmp_path, b"dogs")
    monkeypatch.setattr(builtins, "open", None)
    assert read_text(path) == "dogs"
