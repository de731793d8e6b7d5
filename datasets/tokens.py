"""Texts as numbers: characters, words, or pieces learnt by byte pair encoding."""

from __future__ import annotations

import base64
import io
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from ..errors import DataError, UsageError

TokenKind = Literal["characters", "words", "bpe"]
UNKNOWN = "<unk>"
_NONE: Mapping[int, str] = {}
_JOINED = "\uffed"  # before a word that no space divides from the one before
_ATOMS = re.compile(r"\w+|[^\w\s]|\s")


class Tokens(Protocol):
    """A way to write texts as sequences of ids in [0, size).

    Attributes:
        kind: "characters", "words" or "bpe".
        specials: names of the first ids, 0 and up, which no text is encoded to, "<unk>" apart.
        names: the token of each id, as it is shown; `size` of them.
        size: how many ids there are.
    """

    kind: TokenKind
    specials: tuple[str, ...]
    names: Sequence[str]

    @property
    def size(self) -> int:
        """How many ids there are."""

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, int32 (T,).

        Raises DataError, naming them, for pieces that it cannot hold where there is no "<unk>".
        """

    def decode(self, ids: Sequence[int] | np.ndarray, said: Mapping[int, str] = _NONE) -> str:
        """The text of ids; special ones are left out, "<unk>" apart.

        `said` gives, by position in `ids`, what is written in place of that id's token.
        """

    def pieces(self, text: str) -> list[str]:
        """The parts of a text that its ids stand for, one an id, unknown ones as in the text."""

    def unknown(self, text: str) -> list[str]:
        """Pieces of a text that are not in the vocabulary, each once, in order."""

    def to_facts(self) -> dict[str, Any]:
        """JSON values that `tokens_from_facts` takes."""


def learn_tokens(
    texts: Iterable[str],
    kind: TokenKind,
    size: int = 0,
    *,
    specials: tuple[str, ...] = (),
    byte_fallback: bool = True,
    word_start: bool = False,
) -> Tokens:
    """Learns a vocabulary; the same texts in the same order give the same one.

    Args:
        texts: to learn from.
        kind: "characters" (sorted; of any text they lose nothing), "words" (words and marks; all
            spaces are kept; what is rare is "<unk>") or "bpe" (byte pair encoding by
            sentencepiece, without normalisation, newlines kept).
        size: most ids, special ones included; 0 for all characters or words.
        specials: names of the first ids, like ("<pad>", "<s>", "</s>", "<unk>").
        byte_fallback: bpe spells characters that were never seen as bytes; else they are unknown.
        word_start: bpe treats the beginning of a text like that of a word, as translation does;
            parts of a text that are put together again must be encoded without.

    Raises:
        DataError: there is no text.
        UsageError: a size that the kind cannot have.
    """
    if kind == "bpe":
        return _learn_pieces(texts, size, specials, byte_fallback, word_start)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text if kind == "characters" else words_of(text))
    if not counts:
        raise DataError("there is no text to learn a vocabulary from.")
    if kind == "words" and UNKNOWN not in specials:
        specials = (*specials, UNKNOWN)
    if size and size <= len(specials):
        raise UsageError(f"a vocabulary of {size} has no room for {kind}; enlarge it.")
    kept = sorted(counts, key=lambda piece: (-counts[piece], piece))
    if size:
        kept = kept[: size - len(specials)]
    if kind == "words":
        return Words(kept, specials)
    return Characters("".join(sorted(kept)), specials)


def tokens_from_facts(facts: Mapping[str, Any]) -> Tokens:
    """What `Tokens.to_facts` wrote; raises DataError where it is damaged."""
    try:
        kind, specials = facts["kind"], tuple(facts["specials"])
        if kind == "characters":
            return Characters(facts["alphabet"], specials)
        if kind == "words":
            return Words(facts["words"], specials)
        return Pieces(base64.b64decode(facts["model"], validate=True), specials)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"the vocabulary of this model is damaged ({error}).") from None


def encode_texts(tokens: Tokens, texts: Sequence[str]) -> list[np.ndarray]:
    """The ids of many texts; for bpe much faster than one by one."""
    if isinstance(tokens, Pieces):
        return tokens.encode_all(texts)
    return [tokens.encode(text) for text in texts]


# -------------------------------------------------------------------------------- characters


class Characters:
    """Each character is a token.

    Args:
        alphabet: characters by id, in order of their code points.
        specials: names of the ids before them.
    """

    kind: TokenKind = "characters"

    def __init__(self, alphabet: str, specials: tuple[str, ...] = ()):
        self.alphabet, self.specials = alphabet, specials
        self.names: Sequence[str] = (*specials, *alphabet)
        self._codes = _code_points(alphabet)
        self._filler = specials.index(UNKNOWN) if UNKNOWN in specials else -1

    @property
    def size(self) -> int:
        """How many ids there are."""
        return len(self.names)

    def encode(self, text: str) -> np.ndarray:
        """Ids int32 (characters,); see `Tokens.encode`."""
        codes = _code_points(text)
        place = np.searchsorted(self._codes, codes).clip(0, len(self._codes) - 1)
        known = self._codes[place] == codes
        if self._filler < 0 and not known.all():
            raise DataError(_not_known(self.unknown(text)))
        return np.where(known, place + len(self.specials), self._filler).astype(np.int32)

    def decode(self, ids: Sequence[int] | np.ndarray, said: Mapping[int, str] = _NONE) -> str:
        """The text of ids; see `Tokens.decode`."""
        numbers = np.asarray(ids, np.int64)
        if not said and self._filler < 0:
            kept = numbers[numbers >= len(self.specials)] - len(self.specials)
            return self._codes[kept].tobytes().decode("utf-32-le", "surrogatepass")
        return "".join(text for _, text in _written(self, numbers, said))

    def pieces(self, text: str) -> list[str]:
        """The characters."""
        return list(text)

    def unknown(self, text: str) -> list[str]:
        """Characters that are not in the alphabet, each once, in order."""
        known = set(self.alphabet)
        return [letter for letter in dict.fromkeys(text) if letter not in known]

    def to_facts(self) -> dict[str, Any]:
        """JSON values that `tokens_from_facts` takes."""
        return {"kind": self.kind, "specials": list(self.specials), "alphabet": self.alphabet}


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


# ------------------------------------------------------------------------------------- words


class Words:
    """Words and marks are tokens; spaces follow from them.

    Args:
        words: tokens by id, as `words_of` cuts them.
        specials: names of the ids before them; "<unk>" among them.
    """

    kind: TokenKind = "words"

    def __init__(self, words: Sequence[str], specials: tuple[str, ...] = (UNKNOWN,)):
        if UNKNOWN not in specials:
            raise ValueError(f"words need {UNKNOWN} among the special ids")
        self.words, self.specials = tuple(words), specials
        self.names: Sequence[str] = (*specials, *self.words)
        self._ids = {word: i for i, word in enumerate(self.words, len(specials))}
        self._filler = specials.index(UNKNOWN)

    @property
    def size(self) -> int:
        """How many ids there are."""
        return len(self.names)

    def encode(self, text: str) -> np.ndarray:
        """Ids int32 (words and marks,); see `Tokens.encode`."""
        found = [self._ids.get(word, self._filler) for word in words_of(text)]
        return np.asarray(found, np.int32)

    def decode(self, ids: Sequence[int] | np.ndarray, said: Mapping[int, str] = _NONE) -> str:
        """The text of ids; see `Tokens.decode`."""
        return text_of_words([text for _, text in _written(self, np.asarray(ids), said)])

    def pieces(self, text: str) -> list[str]:
        """Words and marks, without the sign that says that no space precedes them."""
        return [_bare(word) for word in words_of(text)]

    def unknown(self, text: str) -> list[str]:
        """Words and marks that are not in the vocabulary, each once, in order."""
        return list(dict.fromkeys(_bare(w) for w in words_of(text) if w not in self._ids))

    def to_facts(self) -> dict[str, Any]:
        """JSON values that `tokens_from_facts` takes."""
        return {"kind": self.kind, "specials": list(self.specials), "words": list(self.words)}


def words_of(text: str) -> list[str]:
    """Cuts a text into words, marks and spaces that `text_of_words` puts together again.

    A single space between two words is left out; a word or mark that follows another one without
    a space begins with a sign.
    """
    atoms = _ATOMS.findall(text)
    found: list[str] = []
    after_space = True  # the start of a text needs no sign
    for i, atom in enumerate(atoms):
        if not atom.isspace():
            found.append(atom if after_space else _JOINED + atom)
            after_space = False
            continue
        between = 0 < i < len(atoms) - 1 and not (atoms[i - 1] + atoms[i + 1]).isspace()
        between = between and not atoms[i - 1].isspace() and not atoms[i + 1].isspace()
        if atom != " " or not between:
            found.append(atom)
        after_space = True
    return found


def text_of_words(words: Iterable[str]) -> str:
    """The text that `words_of` cut."""
    written: list[str] = []
    after_word = False
    for word in words:
        if word.isspace():
            written.append(word)
            after_word = False
            continue
        bare = _bare(word)
        written.append(" " + bare if after_word and bare == word else bare)
        after_word = True
    return "".join(written)


def _bare(word: str) -> str:
    return word[1:] if len(word) > 1 and word[0] == _JOINED else word


# --------------------------------------------------------------------------------------- bpe


class Pieces:
    """Pieces of words by byte pair encoding (Sennrich 2016), as sentencepiece learns them.

    Args:
        model: sentencepiece's own file.
        specials: names of the ids before its pieces.
    """

    kind: TokenKind = "bpe"

    def __init__(self, model: bytes, specials: tuple[str, ...] = ()):
        self.model, self.specials = model, specials
        self._processor = _sentencepiece().SentencePieceProcessor(model_proto=model)
        count = self._processor.get_piece_size()
        own = [self._processor.id_to_piece(i) for i in range(count)]
        self.names: Sequence[str] = (*specials, *own)
        self._first = len(specials)
        self._filler = specials.index(UNKNOWN) if UNKNOWN in specials else self._first
        self._unknown = int(self._processor.unk_id())

    @property
    def size(self) -> int:
        """How many ids there are."""
        return len(self.names)

    def encode(self, text: str) -> np.ndarray:
        """Ids int32 (pieces,); see `Tokens.encode`."""
        return self._ours(self._processor.encode(text))

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """`encode` of each text, in one call."""
        return [self._ours(ids) for ids in self._processor.encode(list(texts), num_threads=1)]

    def decode(self, ids: Sequence[int] | np.ndarray, said: Mapping[int, str] = _NONE) -> str:
        """The text of ids; see `Tokens.decode`."""
        written: list[str] = []
        run: list[int] = []
        for place, number in enumerate(np.asarray(ids).tolist()):
            unknown = number in (self._filler, self._first + self._unknown)
            if place in said or unknown:
                written += [self._text(run), said.get(place, UNKNOWN)]
                run = []
            elif number >= self._first:
                run.append(number - self._first)
        return "".join([*written, self._text(run)])

    def pieces(self, text: str) -> list[str]:
        """Pieces; a low line at the start of one stands for a space."""
        return list(self._processor.encode(text, out_type=str))

    def unknown(self, text: str) -> list[str]:
        """Characters that have no piece of their own nor bytes, each once, in order."""
        ids = self._processor.encode(text)
        if self._unknown not in ids:
            return []
        pieces = zip(ids, self.pieces(text), strict=True)
        found = [letter for i, piece in pieces if i == self._unknown for letter in piece]
        return list(dict.fromkeys(found))

    def to_facts(self) -> dict[str, Any]:
        """JSON values that `tokens_from_facts` takes."""
        model = base64.b64encode(self.model).decode("ascii")
        return {"kind": self.kind, "specials": list(self.specials), "model": model}

    def sampled(self, texts: Sequence[str], dropout: float, seed: int) -> list[np.ndarray]:
        """Ids of texts where each merge is left out at random (Provilkov 2020).

        Args:
            texts: to encode.
            dropout: chance that a merge is left out, in [0, 1).
            seed: what is drawn follows from it alone.
        """
        found: list[list[int]] = []

        def draw() -> None:
            options = {"enable_sampling": True, "alpha": dropout, "nbest_size": -1}
            found.extend(self._processor.encode(list(texts), num_threads=1, **options))

        # Sentencepiece gives each thread a generator that begins at the seed of that moment.
        with _SEEDING:
            _sentencepiece().set_random_generator_seed(seed % (1 << 32))
            thread = threading.Thread(target=draw)
            thread.start()
            thread.join()
        return [self._ours(ids) for ids in found]

    def _ours(self, ids: list[int]) -> np.ndarray:
        numbers = np.asarray(ids, np.int32)
        if self._filler == self._first:
            return numbers + np.int32(self._first)
        return np.where(numbers == self._unknown, self._filler, numbers + self._first).astype(
            np.int32
        )

    def _text(self, ids: list[int]) -> str:
        return str(self._processor.decode(ids)) if ids else ""


_SEEDING = threading.Lock()


def _sentencepiece() -> Any:
    try:
        import sentencepiece
    except ImportError:
        raise UsageError("bpe needs sentencepiece: pip install 'eightbit[tasks]'.") from None
    return sentencepiece


def _learn_pieces(
    texts: Iterable[str], size: int, specials: tuple[str, ...], byte_fallback: bool, start: bool
) -> Pieces:
    lines = [line for text in texts for line in text.split("\n") if line.strip()]
    if not lines:
        raise DataError("there is no text to learn a vocabulary from.")
    most = size - len(specials)
    while True:
        try:
            return Pieces(_trained_model(lines, most, byte_fallback, start), specials)
        except RuntimeError as error:
            fits = re.search(r"set it to a value <= (\d+)", str(error))
            if fits is None or int(fits[1]) >= most:
                raise UsageError(
                    f"a vocabulary of {size} pieces has no room for the characters of these "
                    "texts; enlarge it."
                ) from None
            most = int(fits[1])  # few texts have fewer pieces


def _trained_model(lines: list[str], size: int, byte_fallback: bool, start: bool) -> bytes:
    written = io.BytesIO()
    _sentencepiece().SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        model_type="bpe",
        vocab_size=size,
        character_coverage=1.0,
        byte_fallback=byte_fallback,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=start,
        user_defined_symbols=["\n"],
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        unk_surface=UNKNOWN,
        max_sentence_length=1 << 24,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()


# ------------------------------------------------------------------------------------ shared


def _written(
    tokens: Characters | Words, ids: np.ndarray, said: Mapping[int, str]
) -> list[tuple[int, str]]:
    """(position, text) of each id that is written."""
    found = []
    for place, number in enumerate(ids.tolist()):
        if place in said:
            found.append((place, said[place]))
        elif number >= len(tokens.specials) or tokens.specials[number] == UNKNOWN:
            found.append((place, tokens.names[number]))
    return found


def _not_known(pieces: Sequence[str]) -> str:
    shown = ", ".join(repr(piece) for piece in pieces[:8])
    more = f" and {len(pieces) - 8} others" if len(pieces) > 8 else ""
    return f"the vocabulary does not hold {shown}{more}; take them out or replace them."
