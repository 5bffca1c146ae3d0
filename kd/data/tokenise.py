"""Tokenizers: words by frequency, or a file of the package tokenizers."""

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd.errors import UserError

PAD, UNKNOWN, CLS, MASK = "[PAD]", "[UNK]", "[CLS]", "[MASK]"
SPECIAL = (PAD, UNKNOWN, CLS, MASK)
_WORD = re.compile(r"\w+|[^\w\s]")
_PADS = (PAD, "<pad>", "<|padding|>")  # in files that do not say which token it is


def whole_characters(text: str) -> str:
    """Replace halves of characters, which JSON can hold and no file in UTF-8.

    Example:
        >>> whole_characters("so \\ud83d")
        'so \ufffd'
    """
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


class Tokenizer(ABC):
    """Splits texts into tokens and numbers them.

    Attributes:
        pad_index: number of the token that fills short texts on the right.
        vocab_size: number of tokens.
        source: the tokenizer as JSON text, which `read_tokenizer` takes.
    """

    pad_index: int
    vocab_size: int
    source: str

    @abstractmethod
    def numbers(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Token numbers of each text, at most `max_length` of them."""

    def encode(self, texts: Sequence[str], max_length: int) -> Tensor:
        """Convert texts to token numbers int64 [N, max_length], padded and cut on the right."""
        rows = torch.full((len(texts), max_length), self.pad_index, dtype=torch.int64)
        whole = [whole_characters(text) for text in texts]
        for row, numbers in zip(rows, self.numbers(whole, max_length), strict=True):
            row[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
        return rows


class WordTokenizer(Tokenizer):
    """Lower-case words and single punctuation marks; needs no further package.

    A text begins with [CLS]; words that are not among the tokens become [UNK]. No text has
    [MASK], which nets that guess hidden words put in their place.

    Args:
        words: the tokens behind the special ones, in order of their numbers.

    Example:
        >>> tokenizer = WordTokenizer.of(["To be, or not to be", "to do"], size=7)
        >>> tokenizer.words
        ['to', 'be', ',']
        >>> tokenizer.encode(["To go"], max_length=5)
        tensor([[2, 4, 1, 0, 0]])
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self._numbers = {word: n for n, word in enumerate(self.words, len(SPECIAL))}
        self.pad_index, self.vocab_size = 0, len(self.words) + len(SPECIAL)
        self.source = json.dumps({"words": self.words}, ensure_ascii=False)

    @classmethod
    def of(cls, texts: Iterable[str], size: int) -> "WordTokenizer":
        """Take the most frequent words of texts; of equally frequent ones, the first by alphabet.

        Args:
            texts: of the training pool.
            size: largest number of tokens, the special ones included.
        """
        counts = Counter(word for text in texts for word in _words(text))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(ranked[: max(0, size - len(SPECIAL))])

    def numbers(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        unknown, cls = SPECIAL.index(UNKNOWN), SPECIAL.index(CLS)
        return [
            [cls, *(self._numbers.get(word, unknown) for word in _words(text))][:max_length]
            for text in texts
        ]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


class FileTokenizer(Tokenizer):
    """A tokenizer of the package tokenizers, as `tokenizer.json` holds it.

    Args:
        source: content of the file.
        name: of the file, for messages.

    Raises:
        UserError: tokenizers is not installed, or the file is none of its files.
    """

    def __init__(self, source: str, name: str = "the tokenizer") -> None:
        self.source = source
        self._tokenizer = _parsed(source, name)
        self._tokenizer.no_padding()
        self.vocab_size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        self.pad_index = _pad_index(source, self._tokenizer, name)

    def numbers(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        self._tokenizer.enable_truncation(max_length)
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]


def _parsed(source: str, name: str) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise UserError(
            "data.tokenizer needs tokenizers, which is not installed; pip install 'kd[text]'"
        ) from error
    try:
        return tokenizers.Tokenizer.from_str(source)
    except Exception as error:  # the package raises no class of its own
        raise UserError(f"{name} is no file of tokenizers: {error}") from None


def _pad_index(source: str, tokenizer: Any, name: str) -> int:
    padding = json.loads(source).get("padding") or {}
    named = [padding.get("pad_token"), *_PADS]
    found = (tokenizer.token_to_id(token) for token in named if token)
    index = next((number for number in found if number is not None), None)
    if index is None:
        raise UserError(f"{name} has no token for padding, such as {' or '.join(_PADS)}")
    return int(index)


def read_tokenizer(source: str, name: str = "the tokenizer") -> Tokenizer:
    """Return the tokenizer of a JSON text: one of words, or a file of tokenizers.

    Raises:
        UserError: it is neither.
    """
    try:
        content = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is no JSON: {error}") from None
    words = content.get("words") if isinstance(content, dict) else None
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        return WordTokenizer(words)
    return FileTokenizer(source, name)


def tokenizer_file(path: Path) -> str:
    """Return the content of a tokenizer's file.

    Raises:
        UserError: it cannot be read.
    """
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.tokenizer={path} cannot be read: {error}") from None
