"""Words as indices.

Exported from book/01_words.ipynb. Edit that chapter, then run `make export`.
"""

import re
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = [
    "END",
    "Grammar",
    "Rule",
    "SMALL_LANGUAGE",
    "UNKNOWN",
    "Vocabulary",
    "bigram_expectations",
    "check_exercise",
    "check_indices",
    "normalize",
    "one_hot",
    "rule_expectations",
    "sample_sentence",
    "sample_text",
    "stream",
    "tokenize",
    "word_expectations",
]

#: The sentence end, which closes each line; its index is always 0.
END = "</s>"
#: The unknown word, which stands for all words that a vocabulary leaves out.
UNKNOWN = "<unk>"


def tokenize(text: str) -> list[str]:
    """The words of each line, then `</s>`: one list for the whole text.

    Lines end at a line feed, a carriage return, or both; words are what blank space
    separates. Lines without a word carry nothing. A literal `<unk>` or `</s>` in the
    text is that symbol.

    Raises:
        ValueError: `text` holds no words, a NUL character, or a word of more than
            10,000 characters.

    Example:
        >>> tokenize("dogs bark")
        ['dogs', 'bark', '</s>']
    """
    nul = text.find("\0")
    if nul >= 0:
        raise ValueError(f"text holds a NUL character at offset {nul}: expected words")
    tokens = []
    for number, line in enumerate(_lines(text), start=1):
        words = line.split()
        longest = max(map(len, words), default=0)
        if longest > 10_000:
            raise ValueError(
                f"text holds a word of {longest} characters in line {number}: expected "
                "words separated by blank space; separate them, or use "
                "normalize(text) on raw prose"
            )
        if words:
            tokens += [*words, END]
    if not tokens:
        raise ValueError("text holds no words: expected at least one")
    return tokens


def _lines(text: str) -> list[str]:
    """The lines of a text, ended by a line feed, a carriage return, or both."""
    return re.split(r"\r\n|\r|\n", text)


def normalize(text: str) -> str:
    """Raw prose in lower case, words and punctuation set apart by blanks, lines kept.

    A word is a run of letters, digits and underscores; an apostrophe or hyphen inside
    it belongs to it. Every other character stands alone, but `<unk>` and `</s>` stay
    whole.

    Example:
        >>> normalize("Don't bark, dogs!")
        "don't bark , dogs !"
    """
    pattern = re.compile(rf"{UNKNOWN}|{END}|\w+(?:['’-]\w+)*|[^\w\s]")
    return "\n".join(" ".join(pattern.findall(line)) for line in _lines(text.lower()))


def check_indices(name: str, indices: ArrayLike, size: int) -> NDArray[Any]:
    """The argument as a non-empty array of word indices, each from 0 to `size` - 1.

    Raises:
        ValueError: It is empty, has rows of different lengths, is a single number, not
            of integers, or out of range; the message begins with `name`.
    """
    try:
        array = np.asarray(indices)
    except ValueError as error:
        message = f"{name} has rows of different lengths: expected an array"
        raise ValueError(message) from error
    if array.size == 0:
        raise ValueError(f"{name} is empty: expected at least one word index")
    if array.ndim == 0 or array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} has shape {array.shape} and type {array.dtype}: "
            "expected an array of word indices (integers)"
        )
    outside = (array < 0) | (array >= size)
    if outside.any():
        where = tuple(map(int, np.argwhere(outside)[0]))
        raise ValueError(
            f"{name} holds the index {array[where]} at {list(where)}: "
            f"expected 0 to {size - 1}"
        )
    return array


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model knows; a word's index is its place among them.

    Args:
        words: The words in the order of their indices, each once, `</s>` first.

    Raises:
        ValueError: `words` does not begin with `</s>`, or holds a word twice.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))
        if self.words[:1] != (END,):
            begin = self.words[:1]
            raise ValueError(f"words begins with {begin}: expected {END} first")
        if len(self._index) < len(self.words):
            counts = Counter(self.words)
            twice = next(word for word in self.words if counts[word] > 1)
            raise ValueError(
                f"words holds {twice!r} more than once: expected each word once"
            )

    @cached_property
    def _index(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._index

    @classmethod
    def from_tokens(
        cls,
        tokens: Iterable[str],
        size: int | None = None,
        min_count: int = 1,
        unknown: bool | None = None,
    ) -> "Vocabulary":
        """The vocabulary of a text: `</s>`, then the words by falling frequency.

        Words of equal frequency stand in the order of their first appearance. `<unk>`
        is an entry when it occurs among the tokens, when `size` or `min_count` leaves a
        word out, or when asked for; its frequency is its own and that of all the words
        left out, and it stands behind words as frequent as itself.

        Args:
            tokens: The tokens of the text, as `tokenize` gives them.
            size: The most entries that the vocabulary may have, `</s>` and `<unk>`
                counted.
            min_count: How often a word must occur to be an entry.
            unknown: True puts `<unk>` in even if nothing needs it.

        Raises:
            ValueError: `tokens` is empty or a string, `size` below 2, or `min_count`
                below 1.
        """
        return cls.from_counts(Counter(_token_list(tokens)), size, min_count, unknown)

    @classmethod
    def from_counts(
        cls,
        counts: Mapping[str, int],
        size: int | None = None,
        min_count: int = 1,
        unknown: bool | None = None,
    ) -> "Vocabulary":
        """The vocabulary of a text whose tokens were counted, as `from_tokens`.

        Args:
            counts: How often each token occurs, by first appearance.
            size: As for `from_tokens`.
            min_count: As for `from_tokens`.
            unknown: As for `from_tokens`.

        Raises:
            ValueError: `counts` is empty or holds a count below 1, `size` is below 2,
                or `min_count` below 1.
        """
        if size is not None and size < 2:
            raise ValueError(
                f"size is {size}: expected 2 or more, for {END} and {UNKNOWN}"
            )
        if min_count < 1:
            raise ValueError(f"min_count is {min_count}: expected 1 or more")
        if min(counts.values(), default=0) < 1:
            raise ValueError("counts is empty or holds a count below 1: count tokens")
        counts = Counter(counts)
        counts.pop(END, None)
        unknown_count = counts.pop(UNKNOWN, 0)
        ranked = counts.most_common()
        kept = [(word, count) for word, count in ranked if count >= min_count]
        with_unknown = bool(unknown) or unknown_count > 0 or len(kept) < len(ranked)
        if size is not None and 1 + len(kept) + with_unknown > size:
            with_unknown = True
            kept = kept[: size - 2]
        words = [word for word, _ in kept]
        if with_unknown:
            unknown_count += counts.total() - sum(count for _, count in kept)
            words.insert(sum(count >= unknown_count for _, count in kept), UNKNOWN)
        return cls((END, *words))

    def encode(self, tokens: Iterable[str]) -> NDArray[np.int64]:
        """The indices of the tokens, words outside the vocabulary read as `<unk>`.

        Raises:
            ValueError: Words are outside and the vocabulary has no `<unk>`; or `tokens`
                is empty or a string.
        """
        tokens = _token_list(tokens)
        unknown = self._index.get(UNKNOWN)
        if unknown is None:
            self._refuse(self.unknown_words(tokens))
        indices = [self._index.get(token, unknown) for token in tokens]
        return np.array(indices, dtype=np.int64)

    def decode(self, indices: ArrayLike) -> list[str]:
        """The tokens of the indices, the inverse of `encode`.

        Raises:
            ValueError: `indices` is not one row of integers, each below the size.
        """
        array = check_indices("indices", indices, len(self))
        if array.ndim != 1:
            raise ValueError(f"indices has shape {array.shape}: expected one row, (T,)")
        return [self.words[index] for index in array]

    def unknown_words(self, tokens: Iterable[str]) -> Counter[str]:
        """How often each word outside the vocabulary occurs among the tokens."""
        return Counter(token for token in _token_list(tokens) if token not in self)

    def _refuse(self, outside: Counter[str]) -> None:
        """Raise an error if there are words outside a vocabulary without `<unk>`."""
        if outside:
            first = ", ".join(repr(word) for word in list(outside)[:5])
            more = ", .." if len(outside) > 5 else ""
            raise ValueError(
                f"tokens holds {outside.total()} words outside the vocabulary, "
                f"{len(outside)} without repeats ({first}{more}): make the "
                "vocabulary from a text that has them, or with unknown=True"
            )


def _token_list(tokens: Iterable[str]) -> list[str]:
    """The tokens as a list, after a look at the two usual mistakes."""
    if isinstance(tokens, str):
        raise ValueError(
            "tokens is a string: expected a list of tokens, tokenize(text) makes one"
        )
    tokens = list(tokens)
    if not tokens:
        raise ValueError("tokens is empty: expected at least one token")
    return tokens


def one_hot(
    indices: ArrayLike, vocab_size: int, dtype: DTypeLike = np.float64
) -> NDArray[Any]:
    """w_i(t) = 1 where i is the index of the word at t, else 0, :eq:`eq-one-hot`.

    Args:
        indices: Word indices of shape (T, ...).
        vocab_size: N; every index is from 0 to N - 1.
        dtype: The type of the numbers returned.

    Returns:
        The 1-of-N words, of shape (T, ..., N).

    Raises:
        ValueError: `indices` is empty, not of integers, or out of range.
    """
    array = check_indices("indices", indices, vocab_size)
    words = np.zeros((*array.shape, vocab_size), dtype)
    np.put_along_axis(words, array[..., np.newaxis], 1, axis=-1)
    return words


def stream(indices: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """The inputs w(t) and the targets d(t) = w(t+1) of a text read as one stream.

    Args:
        indices: The text's word indices, of shape (T, ...), time first.

    Returns:
        The words, which begin with `</s>` and lack the last index, and the targets,
        which are the indices themselves; both of the shape of `indices`.

    Raises:
        ValueError: `indices` is empty, not of integers, or holds a negative one.
    """
    targets = check_indices("indices", indices, np.iinfo(np.int64).max)
    begin = np.zeros_like(targets[:1])
    return np.concatenate([begin, targets[:-1]]), targets


class Rule(NamedTuple):
    """A rule of a grammar: `left` is rewritten as `right` with this probability."""

    left: str
    right: tuple[str, ...]
    probability: float


@dataclass(frozen=True)
class Grammar:
    """A probabilistic context-free grammar; the first rule's left side is the start.

    A symbol that is the left side of a rule is a nonterminal, every other symbol is a
    word.

    Raises:
        ValueError: There is no rule, a right side is empty or holds `</s>`, the
            probabilities of a nonterminal are not positive or don't sum to one, or
            sentences have no finite expected length.
    """

    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(self.rules))
        if not self.rules:
            raise ValueError("rules is empty: expected at least one rule")
        for rule in self.rules:
            if not rule.right or END in rule.right:
                raise ValueError(
                    f"rules holds {rule}: expected one symbol or more, none {END}"
                )
            if not rule.probability > 0:
                raise ValueError(f"rules holds {rule}: expected a positive probability")
        for left, rules in self.choices.items():
            total = sum(rule.probability for rule in rules)
            if not abs(total - 1) < 1e-9:
                raise ValueError(
                    f"rules gives {left} the probability {total:.6g}: expected 1"
                )
        nonterminals, _ = _expected_symbols(self, slice(None))
        if not np.abs(np.linalg.eigvals(nonterminals)).max() < 1:
            raise ValueError(
                "rules gives no finite expected length: expected less recursion"
            )

    @cached_property
    def choices(self) -> dict[str, tuple[Rule, ...]]:
        """The rules of each nonterminal."""
        lefts = dict.fromkeys(rule.left for rule in self.rules)
        return {
            left: tuple(rule for rule in self.rules if rule.left == left)
            for left in lefts
        }

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of the language, in the order of the rules, without `</s>`."""
        symbols = dict.fromkeys(symbol for rule in self.rules for symbol in rule.right)
        return tuple(symbol for symbol in symbols if symbol not in self.choices)

    @classmethod
    def from_text(cls, text: str) -> "Grammar":
        """A grammar from lines such as `NAME -> 2 the dogs | dogs/dog`.

        Alternatives are separated by `|`; a number in front, such as 2 or 0.5, is the
        weight of an alternative, 1 if there is none, and its share of the weights is
        its probability. A line that holds `#` stands for two: with `#` read as `.s` and
        the first of every `a/b`, and with `#` read as `.p` and the second. The lines
        of one left side are taken together; an alternative that comes more than once
        among them has the sum of its weights. So in a line with `#` and without it on
        the left, an alternative that is the same in both readings has twice the weight.

        Raises:
            ValueError: A line is no such rule, or the rules are no grammar.
        """
        weights: dict[str, dict[tuple[str, ...], float]] = {}
        for line in filter(str.strip, text.splitlines()):
            readings = ((".s", r"\1"), (".p", r"\2")) if "#" in line else (("", r"\1"),)
            for number, form in readings:
                left, _, alternatives = line.replace("#", number).partition("->")
                alternatives = re.sub(r"([\w-]+)/([\w-]+)", form, alternatives)
                choices = weights.setdefault(left.strip(), {})
                for alternative in alternatives.split("|"):
                    weighted = re.sub(r"^(?!\s*\d+\.?\d*\s)", "1 ", alternative)
                    weight, *symbols = weighted.split()
                    if not (left.strip() and symbols and float(weight) > 0):
                        raise ValueError(
                            f"text holds the line {line!r}: expected NAME -> symbols"
                        )
                    right = tuple(symbols)
                    choices[right] = choices.get(right, 0.0) + float(weight)
        return cls(
            tuple(
                Rule(left, right, weight / sum(choices.values()))
                for left, choices in weights.items()
                for right, weight in choices.items()
            )
        )


def _expected_symbols(
    grammar: Grammar, part: slice
) -> tuple[NDArray[Any], NDArray[Any]]:
    """A and B: how often a nonterminal (row) gives each nonterminal, and each word.

    Only a part of each right side is counted: all of it, its first or its last symbol.
    """
    place = {symbol: i for i, symbol in enumerate((*grammar.choices, *grammar.words))}
    counts = np.zeros((len(grammar.choices), len(place)))
    for left, right, probability in grammar.rules:
        for symbol in right[part]:
            counts[place[left], place[symbol]] += probability
    return counts[:, : len(counts)], counts[:, len(counts) :]


#: The grammar of the book's own language, of animals, persons and what they do.
SMALL_LANGUAGE = Grammar.from_text("""
SENTENCE        -> ANIMAL-SUBJECT# ANIMAL-ACTS# | PERSON-SUBJECT# PERSON-ACTS#

ANIMAL-SUBJECT# -> 7 ANIMAL# | 3 ANIMAL# who ANIMAL-CLAUSE#
ANIMAL-CLAUSE#  -> barks/bark | chases/chase SOMEONE | eats/eat the FOOD | SOMEONE-VERB
ANIMAL-ACTS#    -> 2 ANIMAL-DOES# | often ANIMAL-DOES# | never ANIMAL-DOES#
ANIMAL-DOES#    -> barks/bark | chases/chase OBJECT | eats/eat the FOOD
ANIMAL.s        -> the ANIMAL-NAME.s
ANIMAL.p        -> the ANIMAL-NAME.p | ANIMAL-NAME.p
ANIMAL-NAME#    -> dog/dogs | fox/foxes

PERSON-SUBJECT# -> 7 PERSON# | 3 PERSON# who PERSON-CLAUSE#
PERSON-CLAUSE#  -> sleeps/sleep | sees/see SOMEONE | reads/read the TEXT | SOMEONE-VERB
PERSON-ACTS#    -> 2 PERSON-DOES# | often PERSON-DOES# | never PERSON-DOES#
PERSON-DOES#    -> sleeps/sleep | sees/see OBJECT | reads/read the TEXT
PERSON.s        -> the PERSON-NAME.s
PERSON.p        -> the PERSON-NAME.p | PERSON-NAME.p
PERSON-NAME#    -> boy/boys | girl/girls

SOMEONE         -> ANIMAL# | PERSON#
SOMEONE-VERB    -> ANIMAL# chases/chase | PERSON# sees/see
SOMEONE-WHO     -> ANIMAL# who ANIMAL-DOES# | PERSON# who PERSON-DOES#
OBJECT          -> 6 SOMEONE | SOMEONE-WHO
FOOD            -> bone | fish
TEXT            -> book | letter
""")


def sample_sentence(
    grammar: Grammar, rng: np.random.Generator
) -> tuple[list[str], list[Rule]]:
    """A random sentence's words, without `</s>`, and the rules used, leftmost first."""
    words: list[str] = []
    used: list[Rule] = []
    pending = [grammar.rules[0].left]
    while pending:
        symbol = pending.pop()
        if symbol not in grammar.choices:
            words.append(symbol)
            continue
        rules = grammar.choices[symbol]
        thresholds = list(accumulate(rule.probability for rule in rules))[:-1]
        used.append(rules[bisect(thresholds, rng.random())])
        pending.extend(reversed(used[-1].right))
    return words, used


def sample_text(grammar: Grammar, rng: np.random.Generator, sentences: int) -> str:
    """Random sentences, one a line; `tokenize` adds their `</s>`.

    Raises:
        ValueError: `sentences` is below 1.
    """
    if sentences < 1:
        raise ValueError(f"sentences is {sentences}: expected 1 or more")
    drawn = (sample_sentence(grammar, rng)[0] for _ in range(sentences))
    return "".join(" ".join(words) + "\n" for words in drawn)


def rule_expectations(grammar: Grammar) -> dict[str, float]:
    """(I - A^T) u = e, :eq:`eq-expected-uses`, solved for u.

    Returns:
        The expected number of times that a sentence uses each nonterminal.
    """
    A, _ = _expected_symbols(grammar, slice(None))
    start = np.eye(len(A))[0]
    uses = np.linalg.solve(np.eye(len(A)) - A.T, start)
    return dict(zip(grammar.choices, uses.tolist(), strict=True))


def word_expectations(grammar: Grammar) -> dict[str, float]:
    """c = B^T u, :eq:`eq-expected-words`.

    Returns:
        The expected number of times that a sentence holds each word; `</s>` is one of
        them and occurs once.
    """
    _, B = _expected_symbols(grammar, slice(None))
    counts = B.T @ np.array(list(rule_expectations(grammar).values()))
    return {END: 1.0, **dict(zip(grammar.words, counts.tolist(), strict=True))}


def bigram_expectations(grammar: Grammar) -> dict[tuple[str, str], float]:
    """c_ab of each pair of neighbours in a sentence, :eq:`eq-expected-bigrams`.

    The first word counts as the right neighbour of the `</s>` before it, the last as
    the left neighbour of the `</s>` after it, so that the values sum to the expected
    length of a sentence with its `</s>`. Pairs that never occur are left out.
    """
    uses = rule_expectations(grammar)
    first, last = _edge_words(grammar, slice(1)), _edge_words(grammar, slice(-1, None))
    start = grammar.rules[0].left
    END_only = np.eye(len(grammar.words) + 1)[0]
    counts = np.outer(END_only, first[start]) + np.outer(last[start], END_only)
    for left, right, probability in grammar.rules:
        for before, after in pairwise(right):
            counts += uses[left] * probability * np.outer(last[before], first[after])
    words = (END, *grammar.words)
    return {
        (words[i], words[j]): float(counts[i, j]) for i, j in np.argwhere(counts > 0)
    }


def _edge_words(grammar: Grammar, part: slice) -> dict[str, NDArray[Any]]:
    """(I - A) F = B: the distribution of each symbol's first, or last, word.

    A column of zeros for `</s>` stands in front.
    """
    A, B = _expected_symbols(grammar, part)
    rows = np.concatenate([np.linalg.solve(np.eye(len(A)) - A, B), np.eye(B.shape[1])])
    symbols = (*grammar.choices, *grammar.words)
    return dict(zip(symbols, np.pad(rows, ((0, 0), (1, 0))), strict=True))


def check_exercise(
    function: Any, *cases: tuple[tuple[Any, ...], Any], tolerance: float = 1e-9
) -> None:
    """Say whether a function gives what is expected in every case; raise nothing.

    Args:
        function: What the reader wrote.
        cases: Pairs of the arguments, a tuple, and what is expected.
        tolerance: The greatest difference of numbers, absolute and relative, that
            passes.
    """
    name = function.__name__
    for args, expected in cases:
        try:
            given = function(*deepcopy(args))
        except Exception as error:
            print(f"{name}{_show(args)} raises {type(error).__name__}: {error}")
            return
        if given is ...:
            print(f"{name}: not filled in yet")
            return
        if not _agree(given, expected, tolerance):
            print(
                f"{name}{_show(args)} gives {_show(given)}, expected {_show(expected)}"
            )
            return
    print(f"{name}: right, {len(cases)} case{'s' if len(cases) != 1 else ''}")


def _agree(given: Any, expected: Any, tolerance: float) -> bool:
    """Whether two values are the same: numbers to the tolerance, items one by one."""
    if isinstance(expected, np.ndarray | np.number | int | float | complex):
        try:
            given, expected = np.asarray(given), np.asarray(expected)
        except ValueError:  # rows of different lengths
            return False
        if given.shape != expected.shape or given.dtype.kind not in "biufc":
            return False
        return bool(np.isclose(given, expected, rtol=tolerance, atol=tolerance).all())
    if isinstance(expected, tuple | list):
        if isinstance(given, np.ndarray):
            given = given.tolist()  # of a single number, no list
        if not isinstance(given, tuple | list) or len(given) != len(expected):
            return False
        return all(
            _agree(a, b, tolerance) for a, b in zip(given, expected, strict=True)
        )
    return isinstance(given, type(expected)) and bool(given == expected)


def _show(value: Any) -> str:
    """A value as it is written, arrays as nested lists of six digits."""
    if isinstance(value, np.ndarray | np.number):
        text = np.array2string(np.asarray(value), precision=6, separator=", ")
        return text.replace("\n", "")
    if isinstance(value, tuple):
        comma = "," if len(value) == 1 else ""
        return "(" + ", ".join(map(_show, value)) + comma + ")"
    return repr(value)
