"""The small language: its rules, its sentences, and what they expect."""

from collections import Counter
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn.words import (
    END,
    SMALL_LANGUAGE,
    Grammar,
    Rule,
    bigram_expectations,
    rule_expectations,
    sample_sentence,
    sample_text,
    tokenize,
    word_expectations,
)

TINY = Grammar.from_text("S -> 3 dogs bark | 1 dogs who S")
# recursion on the left, in the middle and on the right, unit rules, a symbol twice
MIXED = Grammar.from_text("""
    S -> 2 X who S | X Y X | bark
    X -> 3 Y | 1 X dogs
    Y -> 2 foxes | 1 the Y the | 1 X
""")


def derivations(grammar, sentence):
    """The number of derivations of a sentence, from the pieces of right sides."""
    pieces = set()
    for rule in grammar.rules:
        pieces |= {(rule.right[k:]) for k in range(len(rule.right))}

    @cache
    def ways(symbols, span):
        if len(symbols) > 1:
            cuts = range(1, len(span))
            return sum(
                ways(symbols[:1], span[:k]) * ways(symbols[1:], span[k:]) for k in cuts
            )
        rules = grammar.choices.get(symbols[0])
        if rules is None:
            return int(span == symbols)
        return sum(
            ways(rule.right, span) for rule in rules if len(rule.right) <= len(span)
        )

    return ways((grammar.rules[0].left,), tuple(sentence))


def counted(grammar, rng, sentences):
    """Mean count in a sentence and standard error: words, pairs, nonterminals."""
    sums, squares = Counter(), Counter()
    for _ in range(sentences):
        words, used = sample_sentence(grammar, rng)
        row = [END, *words, END]
        for item, count in Counter(
            [*row[1:], *pairwise(row), *(rule.left for rule in used)]
        ).items():
            sums[item] += count
            squares[item] += count**2
    return {
        item: (
            total / sentences,
            np.sqrt(
                max(squares[item] / sentences - (total / sentences) ** 2, 0) / sentences
            ),
        )
        for item, total in sums.items()
    }


# rules


def test_the_language_is_small():
    assert len(SMALL_LANGUAGE.words) == 28
    assert len(SMALL_LANGUAGE.choices) == 31
    assert len(SMALL_LANGUAGE.rules) == 84
    assert {"dogs", "bark", "who", "the"} <= set(SMALL_LANGUAGE.words)
    assert derivations(SMALL_LANGUAGE, ["dogs", "bark"]) == 1


@pytest.mark.parametrize(
    "sentence",
    [
        "dogs bark",
        "the dog barks",
        "the girls see the dog",
        "dogs who chase boys bark",
        "dogs who boys see bark",
        "the dogs who the boy sees bark",
        "the dogs who the boy sees never chase the girl",
        "the fox who eats the fish often chases boys",
        "foxes who chase girls never eat the fish",
        "dogs chase boys who see foxes who bark",
        "girls who read the letter see the dogs who chase the boy who sees foxes",
    ],
)
def test_sentences_of_the_language(sentence):
    assert derivations(SMALL_LANGUAGE, sentence.split()) == 1


@pytest.mark.parametrize(
    "sentence",
    [
        # number and choice
        "dog barks",
        "the dogs who the boy sees barks",
        "the boy who read the book sleeps",
        "the girl never eats the book",
        "the bone who barks sleeps",
        "dogs see boys who bark",
        "dogs chase boys who sees foxes",
        # what a verb must have
        "dogs",
        "dogs bark the boy",
        "the boys see",
        # a clause in a clause of the subject
        "boys who the fox who sleeps chases read the book",
        "dogs who chase boys who sleep bark",
        "dogs who boys who sleep see bark",
        # a clause of the object in which it is the object
        "dogs chase boys who foxes chase",
        "boys see dogs who chase girls who boys see",
        # often and never in a clause
        "foxes who often chase girls eat the fish",
        "dogs chase boys who never sleep",
    ],
)
def test_what_is_no_sentence_of_the_language(sentence):
    assert derivations(SMALL_LANGUAGE, sentence.split()) == 0


def test_recursion_at_the_right_edge_only():
    """Only from its last symbol can a rule lead back to what it rewrites."""
    reached = {left: {left} for left in SMALL_LANGUAGE.choices}
    for _ in SMALL_LANGUAGE.choices:
        for rule in SMALL_LANGUAGE.rules:
            for symbol in rule.right:
                reached[rule.left] |= reached.get(symbol, set())
    back = {
        rule.left
        for rule in SMALL_LANGUAGE.rules
        if any(rule.left in reached.get(symbol, ()) for symbol in rule.right)
    }
    assert back == {
        *("OBJECT", "SOMEONE-WHO", "ANIMAL-DOES.s", "ANIMAL-DOES.p"),
        *("PERSON-DOES.s", "PERSON-DOES.p"),
    }
    for rule in SMALL_LANGUAGE.rules:
        assert not any(
            rule.left in reached.get(symbol, ()) for symbol in rule.right[:-1]
        )


def test_probabilities_of_clauses():
    def shares(left):
        return {rule.right: rule.probability for rule in SMALL_LANGUAGE.choices[left]}

    assert shares("OBJECT") == pytest.approx(
        {("SOMEONE",): 6 / 7, ("SOMEONE-WHO",): 1 / 7}
    )
    for kind in ("ANIMAL", "PERSON"):
        for number in (".s", ".p"):
            plain = kind + number
            with_clause = (plain, "who", f"{kind}-CLAUSE{number}")
            assert shares(f"{kind}-SUBJECT{number}") == pytest.approx(
                {(plain,): 0.7, with_clause: 0.3}
            )
    assert rule_expectations(SMALL_LANGUAGE)["OBJECT"] == pytest.approx(
        1 / 3 / (1 - 1 / 21)
    )


def test_rules_from_text():
    grammar = Grammar.from_text("""
        S -> A# sees/see | 2.5 A# who sleeps/sleep

        A# -> 1 the dog/dogs |foxes
        B -> x
    """)
    assert grammar.choices["S"] == (
        Rule("S", ("A.s", "sees"), 1 / 7),
        Rule("S", ("A.s", "who", "sleeps"), 2.5 / 7),
        Rule("S", ("A.p", "see"), 1 / 7),
        Rule("S", ("A.p", "who", "sleep"), 2.5 / 7),
    )
    assert grammar.choices["A.p"] == (
        Rule("A.p", ("the", "dogs"), 0.5),
        Rule("A.p", ("foxes",), 0.5),
    )
    assert list(grammar.choices) == ["S", "A.s", "A.p", "B"]
    assert grammar.words == (
        "sees",
        "who",
        "sleeps",
        "see",
        "sleep",
        "the",
        "dog",
        "foxes",
        "dogs",
        "x",
    )
    assert grammar.rules[0].left == "S"


def test_lines_of_one_nonterminal_add_up():
    assert Grammar.from_text("S -> a\nS -> b | a") == Grammar(
        (Rule("S", ("a",), 2 / 3), Rule("S", ("b",), 1 / 3))
    )


def test_an_alternative_that_is_the_same_in_both_readings_has_twice_the_weight():
    grammar = Grammar.from_text("S -> 3 X | Y#\nX -> a\nY# -> b/c")
    assert grammar.choices["S"] == (
        Rule("S", ("X",), 6 / 8),
        Rule("S", ("Y.s",), 1 / 8),
        Rule("S", ("Y.p",), 1 / 8),
    )


def test_words_may_look_like_numbers_and_symbols():
    assert Grammar.from_text("S# -> 2nd | 2.5 20 | ./-x | the-dog/two-dogs").words == (
        *("2nd", "20", "./-x", "the-dog", "two-dogs"),
    )
    with pytest.raises(ValueError, match="none </s>"):
        Grammar.from_text("S -> dogs </s>")


def test_a_line_without_numbers_takes_the_first_of_two_forms():
    assert Grammar.from_text("S -> dog/dogs").words == ("dog",)


@pytest.mark.parametrize(
    "text", ["S dogs bark", "S ->", "S -> 2 ", "S -> dogs |", "-> dogs", "S -> 0 dogs"]
)
def test_a_line_that_is_no_rule_is_refused(text):
    with pytest.raises(ValueError, match=r"^text holds the line '.*': expected"):
        Grammar.from_text(text)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([], r"^rules is empty: expected at least one rule$"),
        (
            [Rule("S", (), 1.0)],
            r"^rules holds Rule\(left='S', right=\(\), .*: "
            r"expected one symbol or more, none </s>$",
        ),
        ([Rule("S", ("a", END), 1.0)], r"^rules holds .*: expected one symbol or more"),
        (
            [Rule("S", ("a",), 0.0), Rule("S", ("b",), 1.0)],
            r"^rules holds .*: expected a positive probability$",
        ),
        (
            [Rule("S", ("a",), -1.0), Rule("S", ("b",), 2.0)],
            r"expected a positive probability$",
        ),
        ([Rule("S", ("a",), float("nan"))], r"expected a positive probability$"),
        (
            [Rule("S", ("a",), float("inf"))],
            r"^rules gives S the probability inf: expected 1$",
        ),
        ([Rule("S", ("a",), 0.5)], r"^rules gives S the probability 0.5: expected 1$"),
        (
            [Rule("S", ("a",), 1 + 1e-8)],
            r"^rules gives S the probability 1: expected 1$",
        ),
        (
            [Rule("S", ("S", "a"), 1.0)],
            r"^rules gives no finite expected length: expected less recursion$",
        ),
        (
            [Rule("S", ("S", "S"), 0.5), Rule("S", ("a",), 0.5)],
            r"^rules gives no finite expected length",
        ),
        (
            [
                Rule("S", ("a",), 1.0),
                Rule("X", ("X", "X"), 0.6),
                Rule("X", ("a",), 0.4),
            ],
            r"^rules gives no finite",
        ),
    ],
)
def test_rules_that_are_none_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        Grammar(rules)


def test_probabilities_may_be_rounded_and_recursion_strong():
    Grammar([Rule("S", ("a",), 1 + 1e-10)])
    Grammar.from_text("S -> 49 S S | 51 a")


def test_a_grammar_cannot_be_changed_and_can_be_compared():
    assert Grammar.from_text("S -> a") == Grammar([Rule("S", ("a",), 1.0)])
    assert hash(TINY) == hash(Grammar.from_text("S -> 3 dogs bark | 1 dogs who S"))
    with pytest.raises(AttributeError):
        TINY.rules = ()


# sentences


def test_the_same_rng_draws_the_same_text():
    first, second = (
        sample_text(SMALL_LANGUAGE, np.random.default_rng(5), 20) for _ in range(2)
    )
    assert first == second
    assert first.endswith("\n")
    assert len(first.splitlines()) == 20
    assert tokenize(first).count(END) == 20
    assert set(
        tokenize(sample_text(SMALL_LANGUAGE, np.random.default_rng(0), 2000))
    ) == {
        END,
        *SMALL_LANGUAGE.words,
    }


def test_the_rules_used_derive_the_sentence_from_the_left():
    rng = np.random.default_rng(3)
    for _ in range(50):
        words, used = sample_sentence(SMALL_LANGUAGE, rng)
        row = [SMALL_LANGUAGE.rules[0].left]
        for rule in used:
            at = next(
                i for i, symbol in enumerate(row) if symbol in SMALL_LANGUAGE.choices
            )
            assert row[at] == rule.left
            row[at : at + 1] = rule.right
        assert row == words


def test_a_sentence_starts_from_the_left_side_of_the_first_rule():
    grammar = Grammar.from_text("S -> the X barks\nX -> dog")
    words, used = sample_sentence(grammar, np.random.default_rng(0))
    assert words == ["the", "dog", "barks"]
    assert used == list(grammar.rules)


@pytest.mark.parametrize("sentences", [0, -1])
def test_a_text_has_a_sentence(sentences):
    with pytest.raises(
        ValueError, match=rf"^sentences is {sentences}: expected 1 or more$"
    ):
        sample_text(TINY, np.random.default_rng(0), sentences)
    assert len(sample_text(TINY, np.random.default_rng(0), 1).splitlines()) == 1


def test_every_rule_can_be_drawn_with_its_probability():
    class Fixed:
        """An rng that gives the numbers put in."""

        def __init__(self, *numbers):
            self.numbers = list(numbers)

        def random(self):
            return self.numbers.pop(0)

    assert sample_sentence(TINY, Fixed(0.0))[0] == ["dogs", "bark"]
    assert sample_sentence(TINY, Fixed(0.749))[0] == ["dogs", "bark"]
    assert sample_sentence(TINY, Fixed(0.751, 0.5))[0] == [
        "dogs",
        "who",
        "dogs",
        "bark",
    ]
    short = Grammar((Rule("S", ("a",), 0.5), Rule("S", ("b",), 0.5 - 5e-10)))
    assert sample_sentence(short, Fixed(1 - 2**-53))[0] == ["b"]


# expectations


def test_expectations_by_hand():
    assert rule_expectations(TINY) == pytest.approx({"S": 4 / 3})
    assert word_expectations(TINY) == pytest.approx(
        {END: 1, "dogs": 4 / 3, "bark": 1, "who": 1 / 3}
    )
    assert bigram_expectations(TINY) == pytest.approx(
        {
            (END, "dogs"): 1,
            ("dogs", "bark"): 1,
            ("bark", END): 1,
            ("dogs", "who"): 1 / 3,
            ("who", "dogs"): 1 / 3,
        }
    )


def test_a_symbol_twice_on_a_right_side_counts_twice():
    twice = Grammar.from_text("S -> X X a a\nX -> b | c")
    assert rule_expectations(twice) == pytest.approx({"S": 1, "X": 2})
    assert word_expectations(twice) == pytest.approx({END: 1, "a": 2, "b": 1, "c": 1})
    pairs = bigram_expectations(twice)
    assert pairs["b", "c"] == pytest.approx(0.25)
    assert pairs["b", "a"] == pytest.approx(0.5)
    assert pairs["a", "a"] == pytest.approx(1)
    assert pairs["a", END] == pytest.approx(1)


@pytest.mark.parametrize(
    "grammar", [TINY, MIXED, SMALL_LANGUAGE], ids=["tiny", "mixed", "small"]
)
def test_pairs_sum_to_words_on_both_sides(grammar):
    words, pairs = word_expectations(grammar), bigram_expectations(grammar)
    assert sum(pairs.values()) == pytest.approx(sum(words.values()))
    assert all(count > 0 for count in pairs.values())
    for side in (0, 1):
        sums = Counter()
        for pair, count in pairs.items():
            sums[pair[side]] += count
        assert sums == pytest.approx(words, abs=1e-12)
    assert all(isinstance(count, float) for count in (*words.values(), *pairs.values()))


@pytest.mark.parametrize(
    ("grammar", "sentences"),
    [(MIXED, 8_000), (SMALL_LANGUAGE, 8_000)],
    ids=["mixed", "small"],
)
def test_expectations_against_samples(grammar, sentences):
    found = counted(grammar, np.random.default_rng(11), sentences)
    expected = {
        **rule_expectations(grammar),
        **word_expectations(grammar),
        **bigram_expectations(grammar),
    }
    assert set(found) <= set(expected)
    for item, count in expected.items():
        mean, error = found.get(item, (0.0, 0.0))
        assert abs(mean - count) <= 5 * max(error, np.sqrt(count / sentences)), item


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 0.95))
def test_a_sentence_grows_like_one_over_one_minus_p(p):
    grammar = Grammar((Rule("S", ("a",), 1 - p), Rule("S", ("S", "b"), p)))
    assert sum(word_expectations(grammar).values()) == pytest.approx(1 + 1 / (1 - p))


def test_unreachable_nonterminals_expect_nothing():
    grammar = Grammar.from_text("S -> a\nX -> b")
    assert rule_expectations(grammar) == {"S": 1, "X": 0}
    assert word_expectations(grammar) == {END: 1, "a": 1, "b": 0}
    assert bigram_expectations(grammar) == {(END, "a"): 1, ("a", END): 1}


# one derivation only


def test_ambiguity_is_found_where_it_is():
    assert derivations(Grammar.from_text("S -> 1 S S | 2 a"), "aaaa") == 5


def test_sentences_have_one_derivation():
    rng = np.random.default_rng(4)
    for _ in range(150):
        words, _ = sample_sentence(SMALL_LANGUAGE, rng)
        assert derivations(SMALL_LANGUAGE, words) == 1


def beginnings(grammar, k):
    """For each rule, the k tokens with which the rest of a sentence can begin.

    The rest begins with what comes from the right side and goes on with what may
    follow the left side; after `</s>` nothing comes.
    """

    def join(left, right):
        return {(a + b)[:k] if END not in a else a for a in left for b in right}

    def row(symbols, tail):
        result = {()}
        for symbol in symbols:
            result = join(result, first.get(symbol, {(symbol,)}))
        return join(result, tail)

    def grown(sets, items):
        size = sum(map(len, sets.values()))
        for left, found in items():
            sets[left] |= found
        return sum(map(len, sets.values())) > size

    first = {left: set() for left in grammar.choices}
    while grown(
        first, lambda: [(rule.left, row(rule.right, {()})) for rule in grammar.rules]
    ):
        pass
    follow = {left: set() for left in grammar.choices}
    follow[grammar.rules[0].left] = {(END,)}

    def followers():
        for rule in grammar.rules:
            for i, symbol in enumerate(rule.right):
                if symbol in grammar.choices:
                    yield symbol, row(rule.right[i + 1 :], follow[rule.left])

    while grown(follow, followers):
        pass
    return {rule: row(rule.right, follow[rule.left]) for rule in grammar.rules}


def undecided(grammar, k):
    """The nonterminals for which k tokens do not always tell the rule."""
    found = beginnings(grammar, k)
    return {
        a.left
        for rules in grammar.choices.values()
        for i, a in enumerate(rules)
        for b in rules[:i]
        if found[a] & found[b]
    }


def test_three_tokens_tell_the_rule():
    """The proof of one derivation only, made by the machine over all sentences."""
    assert undecided(SMALL_LANGUAGE, 3) == set()
    # `the dogs` may or may not go on with `who`
    assert undecided(SMALL_LANGUAGE, 2) == {
        *("OBJECT", "ANIMAL-SUBJECT.s", "ANIMAL-SUBJECT.p"),
        *("PERSON-SUBJECT.s", "PERSON-SUBJECT.p"),
    }
    assert undecided(Grammar.from_text("S -> 1 a S a | 2 a"), 3) == {"S"}


def test_memory_buys_much():
    """The limit, and the best bigram and unigram models, by their perplexity."""
    uses, words, pairs = (
        f(SMALL_LANGUAGE)
        for f in (rule_expectations, word_expectations, bigram_expectations)
    )
    length = sum(words.values())
    nats = sum(
        -uses[rule.left] * rule.probability * np.log(rule.probability)
        for rule in SMALL_LANGUAGE.rules
    )
    bigram = -sum(
        count * np.log(count / words[left]) for (left, _), count in pairs.items()
    )
    unigram = -sum(count * np.log(count / length) for count in words.values())
    limit, bigram, unigram = np.exp(np.array([nats, bigram, unigram]) / length)
    assert length == pytest.approx(LENGTH, abs=1e-12)
    assert limit == pytest.approx(LIMIT, abs=1e-6)
    assert bigram == pytest.approx(BIGRAM, abs=1e-6)
    assert unigram == pytest.approx(UNIGRAM, abs=1e-6)
    assert bigram > 1.8 * limit
    assert unigram > 3 * bigram


LENGTH, LIMIT, BIGRAM, UNIGRAM = 6.675, 2.983833, 5.395644, 18.461155
