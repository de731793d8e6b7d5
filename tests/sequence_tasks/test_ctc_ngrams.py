"""N-grams against a recursion over the counts, sums to 1, and ARPA files of other programs."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from eightbit.errors import DataError, UsageError
from eightbit.sequence_tasks._ctc.ngrams import NGrams, Smoothing, read_arpa, train_ngrams

ROOT = Path(os.environ.get("EIGHTBIT_DATA", "missing"))
SMOOTHINGS: tuple[Smoothing, ...] = ("kneser-ney", "absolute")

# As SRILM lays it out: a heading, tabs, back-off weights only where they are not 0, <s> at -99.
SRILM = """
made by hand

\\data\\
ngram 1=5
ngram 2=4
ngram 3=1

\\1-grams:
-0.6\t</s>
-99\t<s>\t-0.2
-0.7\ta\t-0.3
-0.4\tb
-1.5\t<unk>

\\2-grams:
-0.3\t<s> a\t-0.1
-0.25\ta b
-0.5\tb </s>
-0.8\tb a\t0.05

\\3-grams:
-0.05\t<s> a b

\\end\\
"""


def random_texts(seed: int, count: int = 40) -> list[str]:
    rng = np.random.default_rng(seed)
    words = ["to", "be", "or", "not", "it", "is"]
    odds = rng.dirichlet(np.ones(len(words)))
    return [" ".join(rng.choice(words, rng.integers(0, 7), p=odds)) for _ in range(count)]


def slow_probability(
    texts: Sequence[str], order: int, words: Sequence[str], smoothing: Smoothing
) -> Callable[[tuple[str, ...], str], float]:
    """The interpolated probability, straight from its definition and the texts."""
    rows = [["<s>", *text.split(), "</s>"] for text in texts]

    def windows(size: int) -> Counter[tuple[str, ...]]:
        pieces = [tuple(r[i : i + size]) for r in rows for i in range(len(r) - size + 1)]
        return Counter(piece for piece in pieces if piece != ("<s>",))

    def count_of(size: int) -> dict[tuple[str, ...], int]:
        plain = windows(size)
        if size == order or smoothing == "absolute":
            return dict(plain)
        longer = set(windows(size + 1))
        return {
            piece: count if piece[0] == "<s>" else len({p[0] for p in longer if p[1:] == piece})
            for piece, count in plain.items()
        }

    tables = {size: count_of(size) for size in range(1, order + 1)}

    @cache
    def discount(size: int, count: int) -> float:
        n = [sum(c == k for c in tables[size].values()) for k in range(6)]
        if smoothing == "absolute":
            return n[1] / (n[1] + 2 * n[2]) if n[1] and n[2] else 0.75
        usual = {1: 0.5, 2: 1.0, 3: 1.5}
        if min(n[1:5]) > 0:
            y = n[1] / (n[1] + 2 * n[2])
            own = {k: k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3)}
            if all(0 < own[k] <= k for k in own):
                usual = own
        return usual[min(count, 3)]

    @cache
    def probability(history: tuple[str, ...], word: str) -> float:
        history = history[max(0, len(history) - order + 1) :]
        size = len(history) + 1
        lower = probability(history[1:], word) if history else 1 / len(words)
        table = {p[-1]: c for p, c in tables[size].items() if p[:-1] == history}
        total = sum(table.values())
        if total == 0:
            return lower
        kept = table[word] - discount(size, table[word]) if word in table else 0.0
        return (kept + sum(discount(size, c) for c in table.values()) * lower) / total

    return probability


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_trained_probabilities_equal_the_definition(smoothing: Smoothing, order: int) -> None:
    texts = random_texts(order)
    model = train_ngrams(texts, order, smoothing, ["to", "be", "or", "not", "it", "is", "never"])
    words = [*model.words, "</s>", "<unk>"]
    assert "never" in words
    slow = slow_probability(texts, order, words, smoothing)
    histories: set[tuple[str, ...]] = {()} | {
        tuple(row[:i][-3:])
        for row in (["<s>", *text.split()] for text in texts)
        for i in range(1, len(row) + 1)
    }
    for history in sorted(histories)[:60]:
        for word in words:
            # Seven decimals of log10 are kept, at each of up to four orders.
            found = model.log_prob(history, word)
            assert found == pytest.approx(math.log(slow(history, word)), abs=1e-6)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_sum_to_1_after_every_history(smoothing: Smoothing, order: int) -> None:
    model = train_ngrams(random_texts(7), order, smoothing, ["to", "be", "or", "mine"])
    words = [*model.words, "</s>", "<unk>"]
    histories = {ngram[:k] for ngram in model.log10 for k in range(len(ngram) + 1)}
    histories |= {(a, b) for a in words for b in words} | {("<s>", "mine", "what", "be")}
    histories = {h for h in histories if "</s>" not in h}
    assert len(histories) > 20
    for history in histories:
        total = sum(math.exp(model.log_prob(history, word)) for word in words)
        assert total == pytest.approx(1, abs=1e-5), history


def test_words_never_seen_share_what_the_lowest_order_leaves() -> None:
    model = train_ngrams(["a b", "a a"], 2, vocabulary=["a", "b", "c", "d"])
    assert model.words == ("a", "b", "c", "d")
    assert model.log_prob((), "c") == model.log_prob((), "d") == model.log_prob((), "strange")
    assert -math.inf < model.log_prob((), "c") < model.log_prob((), "b")
    closed = train_ngrams(["a x", "a a"], 2, vocabulary=["a"])
    assert closed.words == ("a",)
    assert closed.log_prob(("a",), "x") == closed.log_prob(("a",), "<unk>") > -2


def test_a_model_predicts_what_it_saw() -> None:
    texts = ["the cat sat"] * 5 + ["the dog ran"] * 5
    for smoothing in SMOOTHINGS:
        model = train_ngrams(texts, 3, smoothing)
        assert model.log_prob(("the", "cat"), "sat") > model.log_prob(("the", "cat"), "ran") + 2
        assert model.perplexity(["the cat sat"]) < model.perplexity(["sat the cat"]) / 3


def test_perplexity_is_that_of_every_word_and_every_end() -> None:
    model = read_arpa(SRILM)
    # "a b": P(a | <s>), P(b | <s> a), P(</s> | a b) = weight(a b) P(</s> | b); "": P(</s> | <s>).
    ten = -0.3 - 0.05 - 0.5 + (-0.2 - 0.6)
    assert model.perplexity(["a b", ""]) == pytest.approx(10 ** (-ten / 4))
    assert model.sentence_log_prob("a b") == pytest.approx((-0.3 - 0.05 - 0.5) * math.log(10))


def test_an_arpa_file_backs_off_as_the_format_says() -> None:
    model = read_arpa(SRILM, "srilm.arpa")
    assert (model.order, model.words) == (3, ("a", "b"))
    by_hand = {
        (("<s>",), "a"): -0.3,
        (("<s>",), "b"): -0.2 - 0.4,
        (("<s>", "a"), "b"): -0.05,
        (("<s>", "a"), "a"): -0.1 - 0.3 - 0.7,
        (("b", "a"), "b"): 0.05 - 0.25,
        (("b", "a"), "b and more"): 0.05 - 0.3 - 1.5,
        (("a", "b"), "a"): -0.8,
        (("never", "b"), "</s>"): -0.5,
        (("b", "a", "never"), "a"): -0.7,
    }
    for (history, word), value in by_hand.items():
        found = model.log_prob(history, word)
        assert found == pytest.approx(value * math.log(10)), (history, word)
    without = read_arpa(SRILM.replace("-1.5\t<unk>\n", "").replace("1=5", "1=4"))
    assert without.log_prob((), "strange") == pytest.approx(-100 * math.log(10))


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_a_written_model_is_read_as_the_same(smoothing: Smoothing) -> None:
    model = train_ngrams(random_texts(3), 3, smoothing, ["to", "été", "never", "wide\u3000word"])
    text = model.write_arpa()
    assert read_arpa(text) == model
    assert text.startswith("\\data\\\nngram 1=") and text.endswith("\n\\end\\\n")
    assert "\t<s>\t" in text and "-99.0\t<s>" in text
    # Windows line ends, and the spelling of CMU's tools.
    other = text.replace("\n", "\r\n").replace("<unk>", "<UNK>").replace("<s>", "<S>")
    assert read_arpa(other) == model


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_bigram_matrix_holds_what_log_prob_says(order: int) -> None:
    model = train_ngrams(random_texts(5), order, vocabulary=["to", "be", "or", "not", "mine"])
    words = ["or", "strange", "to", "mine", "stranger", "be"]
    start, following, end = model.bigram_matrix(words)
    assert start.dtype == following.dtype == end.dtype == np.float32
    assert start.shape == end.shape == (6,) and following.shape == (6, 6)
    for i, word in enumerate(words):
        assert start[i] == pytest.approx(model.log_prob(("<s>",), word), abs=1e-5)
        assert end[i] == pytest.approx(model.log_prob((word,), "</s>"), abs=1e-5)
        for j, other in enumerate(words):
            assert following[i, j] == pytest.approx(model.log_prob((word,), other), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("\\data\\", "data"), r"x\.arpa is no ARPA file: it has no line \\data\\"),
        (("ngram 1=5\nngram 2=4\nngram 3=1\n", ""), r"lists no n-grams: lines like 'ngram 1=200'"),
        (("ngram 2=4", "ngram 3=4"), "line 6: the count of 2-grams is wanted"),
        (("\\2-grams:", "\\3-grams:"), r"line 16: \\2-grams: is wanted, not"),
        (("ngram 2=4", "ngram 2=5"), "4 2-grams end here and 5 were promised"),
        (("\\end\\", ""), r"x\.arpa is cut: it has no line \\end\\"),
        (("-0.25\ta b", "-0.25\ta"), "line 18: a logarithm and 2 words are wanted, not"),
        (("-0.25\ta b", "x\ta b"), "line 18: 'x' is no logarithm"),
        (("-0.25\ta b", "nan\ta b"), "line 18: 'nan' is no logarithm"),
        (("-0.25\ta b", "0.25\ta b"), "line 18: the logarithm of a probability is 0.25, above 0"),
        (("-0.25\ta b", "-0.25\ta c"), "line 18: 'c' is not among the 1-grams"),
        (("-0.25\ta b", "-0.25\t<s> a"), "line 18: '<s> a' is listed twice"),
        (("<s> a b", "<s> a b\t-0.5"), "line 23: 3-grams are the longest and have no back-off"),
    ],
)
def test_a_damaged_arpa_file_is_refused_with_its_line(
    change: tuple[str, str], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        read_arpa(SRILM.replace(*change), "x.arpa")
    with pytest.raises(DataError, match=re.escape("x.arpa")):
        read_arpa("", "x.arpa")


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(UsageError, match="order of a model of language is 0; it must be 1 or mor"):
        train_ngrams(["a"], 0)
    with pytest.raises(DataError, match="needs at least one text"):
        train_ngrams([])
    with pytest.raises(UsageError, match="<s> cannot be a word of a text; take it out"):
        train_ngrams(["<s> a"])


def an4_sentences(part: str) -> list[tuple[str, str]]:
    """Speaker and text of each line."""
    path = ROOT / "an4" / f"an4_{part}.transcription"
    if not path.exists():
        pytest.skip(f"the transcripts of AN4 are not at {path}; EIGHTBIT_DATA names their folder")
    rows = []
    for line in path.read_text().splitlines():
        match = re.fullmatch(r"(?:<s>)?(.*?)(?:</s>)?\s*\(\S+-(\w+)-b\)", line)
        assert match, line
        rows.append((match[2], match[1].strip()))
    return rows


def test_real_transcripts_are_better_predicted_with_context() -> None:
    train = [text for _, text in an4_sentences("train")]
    test = [text for _, text in an4_sentences("test")]
    perplexity = [train_ngrams(train, order).perplexity(test) for order in (1, 2, 3)]
    assert perplexity[1] < 0.6 * perplexity[0] and perplexity[2] < perplexity[1]


def test_equal_models_are_equal_whatever_the_order_of_texts() -> None:
    texts = random_texts(11)
    models: list[NGrams] = [train_ngrams(some, 3) for some in (texts, texts[::-1])]
    assert models[0] == models[1] and models[0].write_arpa() == models[1].write_arpa()
