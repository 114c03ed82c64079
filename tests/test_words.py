"""Text to tokens to indices to 1-of-N, and back."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn.words import (
    END,
    UNKNOWN,
    Vocabulary,
    check_exercise,
    check_indices,
    normalize,
    one_hot,
    stream,
    tokenize,
)

WORDS = st.sampled_from(["dogs", "bark", "the", "fox", END, UNKNOWN, "é", "</S>"])
TOKENS = st.lists(WORDS, min_size=1, max_size=40)


# tokenize


def test_a_line_is_its_words_and_the_end():
    assert tokenize("dogs bark") == ["dogs", "bark", END]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_in_three_ways(end):
    assert tokenize(f"dogs bark{end}foxes{end}") == ["dogs", "bark", END, "foxes", END]


@pytest.mark.parametrize(
    "blank", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x85", "\u00a0", "\t"]
)
def test_other_blanks_separate_words_not_lines(blank):
    assert tokenize(f"dogs{blank}bark") == ["dogs", "bark", END]


def test_blank_lines_carry_nothing():
    assert tokenize("\n \t\n\ndogs\n\r\n  \nbark\n\n") == ["dogs", END, "bark", END]


def test_symbols_in_the_text_are_symbols():
    assert tokenize("the <unk> barks </s> boys") == [
        "the",
        UNKNOWN,
        "barks",
        END,
        "boys",
        END,
    ]


@pytest.mark.parametrize("text", ["", " ", "\n", "\r\n\t \u2028\n"])
def test_a_text_without_words_is_refused(text):
    with pytest.raises(
        ValueError, match=r"^text holds no words: expected at least one$"
    ):
        tokenize(text)


@pytest.mark.parametrize("text", ["\0", "\0 dogs", "dogs\n\0"])
def test_nul_is_refused_with_its_offset(text):
    with pytest.raises(
        ValueError,
        match=rf"^text holds a NUL character at offset {text.index(chr(0))}: "
        "expected words$",
    ):
        tokenize(text)


def test_a_word_may_have_ten_thousand_characters_and_no_more():
    assert tokenize("dogs\n" + "x" * 10_000) == ["dogs", END, "x" * 10_000, END]
    with pytest.raises(
        ValueError,
        match=r"^text holds a word of 10001 characters in line 3: .*normalize\(text\)",
    ):
        tokenize("dogs\n\nbark " + "x" * 10_001 + "\n")


def test_a_line_of_a_million_characters():
    tokens = tokenize("dogs bark " * 100_000)
    assert len(tokens) == 200_001
    assert tokens.count(END) == 1


@given(st.lists(TOKENS.filter(lambda line: END not in line), min_size=1))
def test_tokenize_inverts_joining(lines):
    text = "\n".join(" ".join(line) for line in lines)
    assert tokenize(text) == [token for line in lines for token in (*line, END)]


@given(st.text(max_size=200).filter(lambda text: text.strip() and "\0" not in text))
def test_tokenize_keeps_every_character_that_is_not_blank(text):
    words = [token for token in tokenize(text) if token != END]
    assert "".join(words) == "".join(text.replace(END, "").split())


# normalize


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("Dogs bark.", "dogs bark ."),
        ("Don't stop, well-fed FOX!", "don't stop , well-fed fox !"),
        ("the dogs’ bone isn’t here", "the dogs ’ bone isn’t here"),
        ("- a -b c- 'd' e--f", "- a - b c - ' d ' e - - f"),
        ("<unk> <UNK> </s> <x>", "<unk> <unk> </s> < x >"),
        ("a\r\nB\rc\n\nd", "a\nb\nc\n\nd"),
        ("x_1 = 2.5", "x_1 = 2 . 5"),
        ("a\u2028b", "a b"),
        ("", ""),
    ],
)
def test_normalize(raw, normal):
    assert normalize(raw) == normal


@given(st.text(max_size=100))
def test_normalize_twice_is_normalize_once(text):
    assert normalize(normalize(text)) == normalize(text)


# check_indices


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint64])
def test_indices_pass_as_they_are(dtype):
    given_indices = np.array([[0, 2], [1, 0]], dtype)
    assert check_indices("words", given_indices, 3) is given_indices


def test_a_list_becomes_an_array():
    assert check_indices("words", [0, 2], 3).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([], r"^words is empty: expected at least one word index$"),
        (np.zeros((0, 2), int), r"^words is empty"),
        (1, r"^words has shape \(\) and type int64: expected an array of word indices"),
        (
            [0.0],
            r"^words has shape \(1,\) and type float64: "
            r"expected an array of .* \(integers\)$",
        ),
        ([True], r"^words has shape \(1,\) and type bool: expected"),
        (["dogs"], r"^words has shape \(1,\) and type <U4: expected"),
        ([0, 3], r"^words holds the index 3 at \[1\]: expected 0 to 2$"),
        ([[0, 1], [-1, 0]], r"^words holds the index -1 at \[1, 0\]: expected 0 to 2$"),
        (
            np.array([7], np.uint8),
            r"^words holds the index 7 at \[0\]: expected 0 to 2$",
        ),
        ([0, 4, -1, 3], r"^words holds the index 4 at \[1\]"),  # the first of several
        ([[0, 1], [2]], r"^words has rows of different lengths: expected an array"),
    ],
)
def test_what_is_no_index_is_refused(indices, message):
    with pytest.raises(ValueError, match=message):
        check_indices("words", indices, 3)


# Vocabulary


def test_the_hand_example():
    vocabulary = Vocabulary.from_tokens(tokenize("dogs bark"))
    assert vocabulary.words == (END, "dogs", "bark")
    assert vocabulary.encode(tokenize("dogs bark")).tolist() == [1, 2, 0]
    assert vocabulary.decode([1, 2, 0]) == ["dogs", "bark", END]
    assert len(vocabulary) == 3
    assert "bark" in vocabulary
    assert END in vocabulary
    assert "cats" not in vocabulary
    assert UNKNOWN not in vocabulary


def test_frequency_ranks_and_first_appearance_breaks_ties():
    tokens = ["a", "b", "b", "c", "c", "d", "d", "d", "e"]
    assert Vocabulary.from_tokens(tokens).words == (END, "d", "b", "c", "a", "e")


def test_the_end_comes_first_however_rare_or_frequent():
    assert Vocabulary.from_tokens(["a", "a"]).words == (END, "a")
    assert Vocabulary.from_tokens([END, END, "a"]).words == (END, "a")
    assert Vocabulary.from_tokens([END]).words == (END,)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (2, (END, UNKNOWN)),
        (3, (END, UNKNOWN, "a")),  # 3 b + 2 c + 1 d = 6 unknown, 4 a
        (4, (END, "a", "b", UNKNOWN)),  # 3 unknown, as many as b
        (5, (END, "a", "b", "c", UNKNOWN)),
        (6, (END, "a", "b", "c", "d")),
        (7, (END, "a", "b", "c", "d")),
        (None, (END, "a", "b", "c", "d")),
    ],
)
def test_size_counts_every_entry(size, words):
    tokens = [*"aaaabbbccd", END]
    found = Vocabulary.from_tokens(tokens, size=size).words
    if size == 5:  # five entries are enough for all words, and none is cut
        words = (END, "a", "b", "c", "d")
    assert found == words


@pytest.mark.parametrize(
    ("min_count", "words"),
    [
        (1, (END, "a", "b", "c", "d")),
        (2, (END, "a", "b", "c", UNKNOWN)),
        (3, (END, "a", "b", UNKNOWN)),
        (4, (END, UNKNOWN, "a")),
        (5, (END, UNKNOWN)),
    ],
)
def test_min_count(min_count, words):
    assert Vocabulary.from_tokens([*"aaaabbbccd"], min_count=min_count).words == words


def test_min_count_and_size_together():
    tokens = [*"aaaabbbccd"]
    assert Vocabulary.from_tokens(tokens, size=5, min_count=2).words == (
        END,
        "a",
        "b",
        "c",
        UNKNOWN,
    )
    assert Vocabulary.from_tokens(tokens, size=4, min_count=2).words == (
        END,
        "a",
        "b",
        UNKNOWN,
    )
    assert Vocabulary.from_tokens(tokens, size=6, min_count=2).words == (
        END,
        "a",
        "b",
        "c",
        UNKNOWN,
    )


def test_unknown_in_the_text_is_ranked_by_its_count():
    assert Vocabulary.from_tokens(["a", UNKNOWN, UNKNOWN, "b", "b"]).words == (
        END,
        "b",
        UNKNOWN,
        "a",
    )
    assert Vocabulary.from_tokens([*"aab", UNKNOWN], size=3).words == (
        END,
        "a",
        UNKNOWN,
    )
    assert Vocabulary.from_tokens([*"aabb", UNKNOWN], size=3).words == (
        END,
        UNKNOWN,
        "a",
    )
    assert Vocabulary.from_tokens([*"aab", UNKNOWN], size=4).words == (
        END,
        "a",
        "b",
        UNKNOWN,
    )


def test_unknown_stands_behind_words_as_frequent_and_before_rarer_ones():
    as_frequent, rarer = [*"aabc"], [*"aabcd"]  # b, c and d are left out
    assert Vocabulary.from_tokens(as_frequent, size=3).words == (END, "a", UNKNOWN)
    assert Vocabulary.from_tokens(rarer, size=3).words == (END, UNKNOWN, "a")


def test_unknown_when_asked_for():
    assert Vocabulary.from_tokens([*"aab"], unknown=True).words == (
        END,
        "a",
        "b",
        UNKNOWN,
    )
    assert Vocabulary.from_tokens([*"aab"], size=3, unknown=True).words == (
        END,
        "a",
        UNKNOWN,
    )
    assert Vocabulary.from_tokens([*"aab"], unknown=False).words == (END, "a", "b")


def test_tokens_may_be_an_iterator():
    assert Vocabulary.from_tokens(iter(["a", "b"])).encode(
        iter(["b", "a"])
    ).tolist() == [2, 1]
    assert Vocabulary((END,)).unknown_words(iter(["b"])) == {"b": 1}


def test_a_text_may_consist_of_the_end_alone():
    assert Vocabulary.from_tokens([END]).encode([END]).tolist() == [0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"tokens": "dogs bark"},
            r"^tokens is a string: expected a list of tokens, "
            r"tokenize\(text\) makes one$",
        ),
        ({"tokens": []}, r"^tokens is empty: expected at least one token$"),
        (
            {"tokens": ["a"], "size": 1},
            r"^size is 1: expected 2 or more, for </s> and <unk>$",
        ),
        ({"tokens": ["a"], "min_count": 0}, r"^min_count is 0: expected 1 or more$"),
    ],
)
def test_a_vocabulary_of_nothing_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.from_tokens(**arguments)


def test_a_vocabulary_from_counts():
    counts = {"b": 1, UNKNOWN: 1, END: 9, "a": 3, "c": 1}
    kept = dict(counts)
    assert Vocabulary.from_counts(counts).words == (END, "a", "b", "c", UNKNOWN)
    assert Vocabulary.from_counts(counts, 3).words == (END, "a", UNKNOWN)
    assert Vocabulary.from_counts(counts, min_count=4).words == (END, UNKNOWN)
    assert counts == kept


@given(
    TOKENS,
    st.none() | st.integers(2, 9),
    st.integers(1, 4),
    st.sampled_from([None, False, True]),
)
def test_counts_make_the_vocabulary_of_their_tokens(tokens, size, min_count, unknown):
    options = size, min_count, unknown
    counted = Vocabulary.from_counts(Counter(tokens), *options)
    assert counted == Vocabulary.from_tokens(tokens, *options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"counts": {}}, r"^counts is empty or holds a count below 1"),
        ({"counts": {"a": 2, "b": 0}}, r"^counts is empty or holds a count below 1"),
        ({"counts": {"a": -1, "b": 2}}, r"^counts is empty or holds a count below 1"),
        ({"counts": {"a": 1}, "size": 1}, r"^size is 1: expected 2 or more"),
        ({"counts": {"a": 1}, "min_count": 0}, r"^min_count is 0: expected 1 or more"),
    ],
)
def test_counts_of_nothing_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.from_counts(**arguments)


@pytest.mark.parametrize("tokens", ["dogs", []])
def test_encode_and_count_refuse_what_is_no_list(tokens):
    for method in (Vocabulary((END, UNKNOWN)).encode, Vocabulary((END,)).unknown_words):
        with pytest.raises(ValueError, match=r"^tokens is "):
            method(tokens)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), r"^words begins with \(\): expected </s> first$"),
        (("dogs", END), r"^words begins with \('dogs',\): expected </s> first$"),
        (
            (END, "dogs", "a", "dogs"),
            r"^words holds 'dogs' more than once: expected each word once$",
        ),
        ((END, END), r"^words holds '</s>' more than once"),
    ],
)
def test_words_begin_with_the_end_and_are_different(words, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(words)


def test_a_vocabulary_cannot_be_changed_and_can_be_compared():
    vocabulary = Vocabulary([END, "dogs"])
    assert vocabulary.words == (END, "dogs")
    assert vocabulary == Vocabulary((END, "dogs"))
    assert hash(vocabulary) == hash(Vocabulary((END, "dogs")))
    with pytest.raises(AttributeError):
        vocabulary.words = (END,)


def test_words_outside_become_unknown_and_are_counted():
    vocabulary = Vocabulary((END, "dogs", UNKNOWN))
    tokens = ["cats", "dogs", "cats", "mew", END, UNKNOWN]
    assert vocabulary.encode(tokens).tolist() == [2, 1, 2, 2, 0, 2]
    assert vocabulary.unknown_words(tokens) == Counter(cats=2, mew=1)


def test_words_outside_are_refused_without_unknown():
    vocabulary = Vocabulary((END, "dogs"))
    message = (
        r"^tokens holds 2 words outside the vocabulary, 1 without repeats \('cats'\): "
        r"make the vocabulary from a text that has them, or with unknown=True$"
    )
    with pytest.raises(ValueError, match=message):
        vocabulary.encode(["cats", "dogs", "cats"])
    with pytest.raises(
        ValueError, match=r"5 without repeats \('a', 'b', 'c', 'd', 'e'\):"
    ):
        vocabulary.encode([*"abcde"])
    with pytest.raises(
        ValueError, match=r"6 without repeats \('a', 'b', 'c', 'd', 'e', \.\.\):"
    ):
        vocabulary.encode([*"abcdef"])
    with pytest.raises(ValueError, match=r"'<unk>'"):
        vocabulary.encode([UNKNOWN])


@pytest.mark.parametrize("indices", [[2], [-1], [[0, 1]], [], [0.0]])
def test_decode_refuses_what_is_no_row_of_indices(indices):
    with pytest.raises(ValueError, match=r"^indices "):
        Vocabulary((END, "dogs")).decode(indices)


def test_decode_tells_the_shape_that_came():
    with pytest.raises(
        ValueError, match=r"^indices has shape \(1, 2\): expected one row, \(T,\)$"
    ):
        Vocabulary((END, "dogs")).decode([[0, 1]])


@given(TOKENS)
def test_decode_inverts_encode(tokens):
    vocabulary = Vocabulary.from_tokens(tokens)
    indices = vocabulary.encode(tokens)
    assert indices.dtype == np.int64
    assert indices.shape == (len(tokens),)
    assert vocabulary.decode(indices) == tokens
    assert vocabulary.encode(vocabulary.decode(indices)).tolist() == indices.tolist()
    assert not vocabulary.unknown_words(tokens)


@given(TOKENS, st.integers(2, 9), st.integers(1, 4))
def test_a_reduced_vocabulary_is_a_part_by_falling_frequency(tokens, size, min_count):
    vocabulary = Vocabulary.from_tokens(tokens, size=size, min_count=min_count)
    assert len(vocabulary) <= size
    assert set(vocabulary.words) <= {*tokens, END, UNKNOWN}
    seen = Counter(vocabulary.decode(vocabulary.encode(tokens)))
    counts = [seen[word] for word in vocabulary.words[1:]]
    assert counts == sorted(counts, reverse=True)
    for word, count in Counter(tokens).items():
        assert word not in vocabulary or count >= min_count or word in (END, UNKNOWN)
    assert sum(seen.values()) == len(tokens)


def test_a_million_tokens():
    rng = np.random.default_rng(0)
    tokens = [f"w{i}" for i in rng.zipf(1.3, 1_000_000) % 50_000]
    vocabulary = Vocabulary.from_tokens(tokens, size=10_000)
    indices = vocabulary.encode(tokens)
    assert len(vocabulary) == 10_000
    unknown = vocabulary.words.index(UNKNOWN)
    assert (indices == unknown).sum() == vocabulary.unknown_words(tokens).total() > 0


@pytest.mark.skipif(
    "RNN_DATA_DIR" not in os.environ,
    reason="RNN_DATA_DIR names no folder with the Penn Treebank",
)
def test_the_penn_treebank_has_ten_thousand_words():
    (train,) = Path(os.environ["RNN_DATA_DIR"]).rglob("ptb.train.txt")
    tokens = tokenize(train.read_text(encoding="utf-8"))
    vocabulary = Vocabulary.from_tokens(tokens)
    assert len(tokens) == 929_589
    assert len(vocabulary) == 10_000
    assert UNKNOWN in vocabulary


# one_hot, stream


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128, np.int64])
def test_one_hot(shape, dtype):
    indices = np.random.default_rng(0).integers(0, 5, shape)
    vectors = one_hot(indices, 5, dtype)
    assert vectors.shape == (*shape, 5)
    assert vectors.dtype == dtype
    assert np.array_equal(vectors, indices[..., np.newaxis] == np.arange(5))


def test_one_hot_is_of_float64_unless_told():
    assert one_hot([0], 1).dtype == np.float64
    assert one_hot([1, 2, 0], 3).tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize("indices", [[3], [-1], [0.5], [], 0])
def test_one_hot_refuses_what_is_no_index(indices):
    with pytest.raises(ValueError, match=r"^indices "):
        one_hot(indices, 3)


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 8), st.integers(0, 99))
def test_a_word_picks_a_column(T, H, N, seed):
    rng = np.random.default_rng(seed)
    U, words = rng.normal(size=(H, N)), rng.integers(0, N, T)
    assert np.array_equal(U[:, words], U @ one_hot(words, N).T)


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 2)])
def test_stream_moves_time_by_one(shape):
    indices = np.arange(1, 1 + np.prod(shape)).reshape(shape)
    words, targets = stream(indices)
    assert np.array_equal(targets, indices)
    assert words.shape == shape
    assert words.dtype == indices.dtype
    assert not words[0].any()
    assert np.array_equal(words[1:], indices[:-1])


def test_the_stream_of_the_hand_example():
    words, targets = stream([1, 2, 0])
    assert words.tolist() == [0, 1, 2]
    assert targets.tolist() == [1, 2, 0]
    assert [x.tolist() for x in stream([5])] == [[0], [5]]


@pytest.mark.parametrize("indices", [[-1], [0.5], [], 0])
def test_stream_refuses_what_is_no_index(indices):
    with pytest.raises(ValueError, match=r"^indices "):
        stream(indices)


# check_exercise


def says(capsys, function, *cases, **settings):
    assert check_exercise(function, *cases, **settings) is None
    return capsys.readouterr().out.strip()


def named(value, raises=None):
    def my_answer(*args):
        if raises:
            raise raises
        return value(*args) if callable(value) else value

    return my_answer


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, 1),
        (1, 1.0),
        (1 + 1e-10, 1.0),
        (1e12 + 1, 1e12),
        (2j, 2j),
        (np.float64(2), 2),
        (np.array([1.0, 2.0]), np.array([1.0, 2.0])),
        ([1.0, 2.0], np.array([1.0, 2.0])),
        ((np.zeros(2), 1), (np.zeros(2), 1)),
        ([np.zeros(2), "a"], (np.zeros(2), "a")),
        ("dogs", "dogs"),
        ({"a": 1}, {"a": 1}),
        (True, True),
        (None, None),
        (np.inf, np.inf),
    ],
)
def test_a_right_answer(capsys, value, expected):
    assert says(capsys, named(value), ((), expected)) == "my_answer: right, 1 case"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.001, 1),
        (1 + 1e-8, 1.0),
        (1e-8, 0.0),
        (None, 1.0),
        ("1", 1.0),
        (np.nan, 1.0),
        (np.array([1.0, 2.5]), np.array([1.0, 2.0])),
        (np.array([[1.0, 2.0]]), np.array([1.0, 2.0])),
        (1.0, np.array([1.0, 1.0])),
        ((1.0,), (1.0, 2.0)),
        ((1.0, 3.0), (1.0, 2.0)),
        (1.0, (1.0, 2.0)),
        (None, [1.0]),
        ("bark", "dogs"),
        (np.array(["dogs", "bark"]), "dogs"),
        ([[1.0], [1.0, 2.0]], np.array([1.0, 2.0])),
        (1, None),
    ],
)
def test_a_wrong_answer(capsys, value, expected):
    said = says(capsys, named(value), ((), expected))
    assert said.startswith("my_answer() gives ")
    assert ", expected " in said


def test_the_first_wrong_case_is_shown(capsys):
    double = named(lambda x: 2 * x)
    assert says(capsys, double, ((1,), 2), ((2.5,), 5)) == "my_answer: right, 2 cases"
    assert (
        says(capsys, double, ((1,), 2), ((2,), 5), ((3,), 7))
        == "my_answer(2,) gives 4, expected 5"
    )
    array = np.array([1 / 3, 2.0])
    assert says(capsys, double, ((array,), array)) == (
        "my_answer([0.333333, 2.      ],) gives [0.666667, 4.      ], "
        "expected [0.333333, 2.      ]"
    )
    assert (
        says(capsys, named((np.float64(1), "a")), ((), (2.0, "a")))
        == "my_answer() gives (1., 'a'), expected (2.0, 'a')"
    )


def test_a_stub_is_not_filled_in_yet(capsys):
    assert says(capsys, named(...), ((), 1)) == "my_answer: not filled in yet"


def test_an_error_is_reported_not_raised(capsys):
    failing = named(None, ValueError("too bad"))
    assert (
        says(capsys, failing, ((1, "a"), 1))
        == "my_answer(1, 'a') raises ValueError: too bad"
    )


def test_the_tolerance_can_be_set(capsys):
    assert (
        says(capsys, named(1.01), ((), 1.0), tolerance=0.1)
        == "my_answer: right, 1 case"
    )


def test_an_answer_that_changes_its_arguments_leaves_the_cases_alone(capsys):
    def my_answer(array):
        array += 1
        return array

    case = ((np.zeros(2),), np.ones(2))
    assert says(capsys, my_answer, case, case) == "my_answer: right, 2 cases"
    assert not case[0][0].any()


@pytest.mark.parametrize("given", [np.array(1.0), np.array([1.0]), 1.0, None])
def test_what_is_no_pair_is_told_not_raised(capsys, given):
    said = says(capsys, named(given), ((), (1.0, 2.0)))
    assert "expected (1.0, 2.0)" in said
    right = says(capsys, named(np.array([1.0, 2.0])), ((), (1.0, 2.0)))
    assert right == "my_answer: right, 1 case"
