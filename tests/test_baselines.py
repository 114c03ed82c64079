"""The counting baselines on a treebank: run with RNN_DATA_DIR naming its folder.

The book's perplexities on that corpus are over all tokens, each line's `</s>` counted,
with the 10,000 types of the training text; these are the figures to start from.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from rnn.cross_entropy import (
    bigram_probabilities,
    count_bigrams,
    mean_cross_entropy,
    perplexity,
    unigram_probabilities,
)
from rnn.words import Vocabulary, stream, tokenize

FOLDER = Path(os.environ.get("RNN_DATA_DIR", "")) / "ptb"
TRAIN, VALID, TEST = (FOLDER / f"ptb.{part}.txt" for part in ("train", "valid", "test"))

pytestmark = pytest.mark.skipif(
    "RNN_DATA_DIR" not in os.environ or not TRAIN.exists(),
    reason="RNN_DATA_DIR names no folder with ptb/ptb.train.txt",
)


@pytest.fixture(scope="module")
def texts():
    """N, and the (words, targets) of the three texts, each read as one stream."""
    tokens = [tokenize(path.read_text()) for path in (TRAIN, VALID, TEST)]
    vocabulary = Vocabulary.from_tokens(tokens[0])
    return len(vocabulary), *(stream(vocabulary.encode(part)) for part in tokens)


def test_sizes(texts):
    vocab_size, *streams = texts
    assert vocab_size == 10_000
    assert [len(words) for words, _ in streams] == [929_589, 73_760, 82_430]


def test_unigram_perplexity(texts):
    vocab_size, (_, train), _, (_, test) = texts
    model = unigram_probabilities(train, vocab_size)
    assert perplexity(mean_cross_entropy(model[test])) == pytest.approx(639.3, abs=0.05)


def test_bigram_perplexity(texts):
    vocab_size, train, valid, test = texts
    prior = unigram_probabilities(train[1], vocab_size)
    counts = count_bigrams(*train, vocab_size)
    assert mean_cross_entropy(bigram_probabilities(counts, prior, *test)) == np.inf

    def measure(text, b):
        return perplexity(
            mean_cross_entropy(bigram_probabilities(counts, prior, *text, b))
        )

    b = min(2.0 ** np.arange(12), key=lambda b: measure(valid, b))
    assert b == 128
    assert measure(valid, b) == pytest.approx(240.2, abs=0.05)
    assert measure(test, b) == pytest.approx(219.1, abs=0.1)
