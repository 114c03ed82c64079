"""The texts that the book works on."""

import builtins
import hashlib
import os
import sys
import threading
import tracemalloc
from pathlib import Path

import hostile
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rnn._corpora import book_prose, index_text, python_reference, read_text
from rnn.words import END, UNKNOWN, normalize, tokenize


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


# What cuts of blocks, lines and words may break: line ends of all kinds, blanks, wide
# characters, the two symbols, a mark that looks like the byte order mark.
PIECES = [*"aé犬\U0001f415", "\u0301", "\ufeff", END, UNKNOWN, "/"]
BLANKS = ["\n", "\r", "\r\n", " ", "\n", "\r", "\r\n", "\t", "\x1c", "\x85", "\u2028"]
ANY = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXTS = st.lists(
    st.sampled_from(PIECES) | st.sampled_from(BLANKS) | ANY, max_size=30
).map("".join)
# The last is one block for the whole text.
BLOCK_SIZES = st.integers(1, 4) | st.integers(5, 50) | st.just(1 << 20)


def decoded(source, characters=False, **options):
    """The tokens of `source`, after a look at what `index_text` returns."""
    indices, types = index_text(source, characters, **options)
    assert isinstance(indices, np.ndarray)
    assert indices.dtype == np.int32
    tokens = [types[index] for index in indices]
    assert types == list(dict.fromkeys(tokens))
    return tokens


def characters_of(text):
    """The characters of each line and its end, by the plain route."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if not lines[-1]:
        lines.pop()
    return [token for line in lines for token in (*line, END)]


def test_indices_are_places_among_the_types():
    indices, types = index_text("dogs bark\ndogs sleep")
    assert indices.tolist() == [0, 1, 2, 0, 3, 2]
    assert types == ["dogs", "bark", END, "sleep"]
    assert decoded("ab\n\na", characters=True) == ["a", "b", END, END, "a", END]
    assert decoded("</s>\r\n", characters=True) == [*"</s>", END]


@settings(max_examples=200)
@given(TEXTS, BLOCK_SIZES)
@example("a b\nc\r\rd \r\n e", 1)  # each kind of line end after each kind of cut
@example("a b\nc\r\rd \r\n e", 2)
def test_the_words_of_a_string_are_those_of_tokenize(text, block_size):
    if not text.strip():
        with pytest.raises(ValueError, match=r"^text holds no words: expected a text"):
            index_text(text, _block_size=block_size)
    else:
        assert decoded(text, _block_size=block_size) == tokenize(text)


@settings(max_examples=200)
@given(TEXTS, BLOCK_SIZES)
@example("a b\nc\r\rd \r\n", 1)
@example("a b\nc\r\rd \r\n\r", 2)
def test_the_characters_of_a_string_are_those_of_its_lines(text, block_size):
    if not text.strip("\r\n"):
        with pytest.raises(ValueError, match=r"^text holds no characters: expected a"):
            index_text(text, characters=True, _block_size=block_size)
    else:
        tokens = decoded(text, characters=True, _block_size=block_size)
        assert tokens == characters_of(text)


@given(st.lists(TEXTS, min_size=1, max_size=3), BLOCK_SIZES, st.booleans())
def test_files_are_read_one_after_the_other(folder, texts, block_size, characters):
    paths = []
    for number, text in enumerate(texts):
        paths.append(folder / f"{number}.txt")
        text += "x"  # no file without words, each without a line end
        paths[-1].write_bytes(text.encode())
    texts = [f"{text}x".removeprefix("\ufeff") for text in texts]
    plain = characters_of if characters else tokenize
    expected = [token for text in texts for token in plain(text)]
    assert decoded(paths, characters, _block_size=block_size) == expected
    assert decoded(tuple(map(str, paths)), characters) == expected


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("texts")


@given(TEXTS, BLOCK_SIZES, st.binary(min_size=1, max_size=3), TEXTS)
def test_what_is_not_utf8_has_its_place_in_every_block(
    folder, before, block_size, bad, after
):
    data = before.encode() + b"\xff" + bad.replace(b"\0", b"\1") + after.encode()
    path = write(folder, data)
    offset = len(before.encode())
    with pytest.raises(ValueError, match=rf"not UTF-8: byte {offset} is 0xff"):
        index_text(path, _block_size=block_size)


@given(TEXTS, BLOCK_SIZES)
def test_nul_has_its_place_in_every_block(folder, before, block_size):
    path = write(folder, before.encode() + b"\0")
    with pytest.raises(
        ValueError, match=rf"mine\.txt holds a NUL byte at byte {len(before.encode())}:"
    ):
        index_text(path, _block_size=block_size)
    with pytest.raises(ValueError, match="holds a NUL character") as mine:
        index_text(before + "\0", _block_size=block_size)
    with pytest.raises(ValueError, match="holds a NUL character") as theirs:
        tokenize(before + "\0")
    assert str(mine.value) == str(theirs.value)


@settings(max_examples=20)
@given(TEXTS, BLOCK_SIZES, st.sampled_from([9_999, 10_000, 10_001, 10_050]))
def test_a_long_word_has_its_place_in_every_block(folder, before, block_size, length):
    text = f"{before}\n{'é' * length}\nx"
    path = write(folder, b"\xef\xbb\xbf" + text.encode())
    if length <= 10_000:
        assert decoded(path, _block_size=block_size) == tokenize(text)
        return
    offset = 3 + len(f"{before}\n".encode())
    with pytest.raises(
        ValueError,
        match=rf"mine\.txt holds a word of more than 10,000 .* at byte {offset}:",
    ):
        index_text(path, _block_size=block_size)
    with pytest.raises(
        ValueError,
        match=rf"^text holds a word of more .* at character {len(before) + 1}:",
    ):
        index_text(text, _block_size=block_size)


@given(TEXTS, BLOCK_SIZES)
def test_a_lone_surrogate_has_its_place(before, block_size):
    with pytest.raises(
        ValueError, match=rf"^text holds a lone surrogate at offset {len(before)}:"
    ):
        index_text(before + "\udc80", _block_size=block_size)


def test_a_string_is_a_file_when_it_is_one_line_that_names_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, b"dogs bark\n")
    (tmp_path / "boys").mkdir()
    (tmp_path / "two\nlines").write_bytes(b"foxes")
    assert decoded("mine.txt") == ["dogs", "bark", END]
    assert decoded("mine.txt\n") == ["mine.txt", END]
    assert decoded("two\nlines") == ["two", END, "lines", END]
    assert decoded("boys") == ["boys", END]
    assert decoded(".") == [".", END]
    assert decoded("a/" * 3_000) == ["a/" * 3_000, END]
    with pytest.raises(FileNotFoundError, match=r"other\.txt"):
        index_text(Path("other.txt"))
    with pytest.raises(FileNotFoundError, match=r"other\.txt"):
        index_text(["mine.txt", "other.txt"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "^source is an object of type NoneType: expected a text"),
        (b"dogs", "^source is an object of type bytes: expected a text"),
        (3, "^source is an object of type int: expected a text"),
        ({"dogs"}, "^source is an object of type set: expected a text"),
        (["a.txt", 3], "^source holds an object of type int: expected a text"),
        ([], "^source is an empty list: expected at least one path"),
        ((), "^source is an empty list: expected at least one path"),
    ],
)
def test_another_source_is_refused(source, message):
    with pytest.raises(ValueError, match=message):
        index_text(source)


def test_an_empty_file_among_others_is_named(tmp_path):
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_bytes(b"dogs bark\n")
    second.write_bytes(b"\n")
    with pytest.raises(ValueError, match=r"second\.txt holds no words"):
        index_text([first, second])
    with pytest.raises(ValueError, match=r"second\.txt holds no characters"):
        index_text([first, second], characters=True)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a broken file")
def test_an_error_of_reading_names_the_file():
    with pytest.raises(OSError, match="'/proc/self/mem'"):  # its first page is unmapped
        index_text(Path("/proc/self/mem"))


def test_an_endless_word_is_not_collected(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    refused = threading.Event()

    def send():
        with path.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 65_536)
            except BrokenPipeError:
                refused.set()

    writer = threading.Thread(target=send, daemon=True)
    writer.start()
    with pytest.raises(ValueError, match=r"fifo holds a word of more .* at byte 0:"):
        index_text(path)
    writer.join(60)
    assert refused.is_set()


@pytest.mark.parametrize("line_end", ["\n", " "])
def test_no_copy_of_the_indices_is_made(tmp_path, line_end):
    path = write(tmp_path, f"dogs bark at foxes{line_end}".encode() * 100_000)
    tracemalloc.start()
    try:
        indices, _ = index_text(path, _block_size=1 << 12)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(indices) >= 400_001
    assert peak < 6 * len(indices)  # bytes: 4 an index, and the blocks


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    made = hostile.write_hostile(tmp_path_factory.mktemp("hostile"))
    return {place.name: place for place in made}


def plain_count(data):
    """How many tokens a text has, counted line by line."""
    text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    lines = text.removesuffix("\n").split("\n")
    words = sum(len(line.split()) + 1 for line in lines if line.split())
    return words, sum(len(line) + 1 for line in lines)


def one_line(error):
    return str(error.value).isprintable()


@pytest.mark.parametrize("name", hostile.NAMES)
def test_a_hostile_text_is_read_or_refused(places, name):
    place = places[name]
    if place.expected == hostile.TEXT:
        indices, types = index_text(place.path)
        fifo = place.path.is_fifo()
        data = hostile.FIFO if fifo else place.path.read_bytes()
        assert len(indices) == plain_count(data)[0]
        assert sorted(set(indices.tolist())) == list(range(len(types)))
        assert fifo or [types[index] for index in indices] == tokenize(
            read_text(place.path)
        )
        return
    with pytest.raises((ValueError, OSError), match=place.expected) as error:
        index_text(place.path)
    assert name in str(error.value).replace("\\n", "\n")
    assert one_line(error)
    if "word of more" not in place.expected:
        with pytest.raises((ValueError, OSError), match=place.expected) as error:
            read_text(place.path)
        assert one_line(error)


@pytest.mark.parametrize(
    "name",
    [name for name in hostile.NAMES if name != "fifo"],  # it sends once
)
def test_the_characters_of_a_hostile_text_are_read_or_refused(places, name):
    place = places[name]
    if place.characters == hostile.TEXT:
        indices, types = index_text(place.path, characters=True)
        assert len(indices) == plain_count(place.path.read_bytes())[1]
        assert all(len(token) == 1 or token == END for token in types)
        return
    with pytest.raises((ValueError, OSError), match=place.characters) as error:
        index_text(place.path, characters=True)
    assert one_line(error)


def test_the_prose_of_the_book_is_frozen():
    """Another text would change what chapter `language_model` prints and says."""
    found = hashlib.sha256(book_prose().encode()).hexdigest()
    assert found == "f4d714c1b700597715782593ef2b07ad5be67bf9f4288ccbb638b2ea51903efa"
    assert normalize(book_prose()) == book_prose()
