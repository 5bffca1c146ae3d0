"""Data module of labelled texts, which are tokenised once."""

import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from kd.data.arrays import Arrays
from kd.data.held_out import hold_out_test
from kd.data.memory import MemoryDataModule
from kd.data.split_folders import SPLITS
from kd.data.text_checks import check_texts, class_names
from kd.data.text_corpus import corpus_files, read_corpus
from kd.data.text_files import Columns, Document, Splits, read_texts, source_files
from kd.data.tokenise import Tokenizer, WordTokenizer, read_tokenizer, tokenizer_file
from kd.errors import UserError
from kd.io import tensors as tensor_file
from kd.io.tensors import Stored

log = logging.getLogger(__name__)
FORMAT = 3  # to be raised when reading or tokenising changes
MAX_TOKENS = 65_536


class Text(MemoryDataModule):
    """Texts with one label each, kept in memory as token numbers.

    They come from a table (CSV, TSV or JSON lines), from a folder with a table for each split
    (train.csv, test.csv), from root/{train,test}/<class>/*.txt or root/<class>/*.txt, or from
    Python's standard library (`kd.data.text_corpus`). Without a test split, a seeded, stratified
    part of the training texts becomes the test set.

    Without a tokenizer's file, tokens are the most frequent lower-case words of the training pool,
    validation texts included and test texts not.

    The tokenised texts are stored in one file of `cache_dir`, by the content of all files and the
    settings of reading.

    Args:
        root: table or folder; None: Python's documentation.
        text_column, label_column: of tables, which have a header.
        encoding: of the files.
        tokenizer: file tokenizer.json of the package tokenizers, or a folder with it; None: words.
        vocab_size: largest number of tokens, if they are words.
        max_length: tokens of a text; longer ones are cut.
        skip_empty: leave out empty texts instead of refusing them.
        cache_dir: folder of the tokenised texts.
        test_fraction: fraction of each class, in (0, 1), that becomes the test set; unused if there
            is a test split.
        test_seed: of that split.
        **common: as `MemoryDataModule`.

    Raises:
        ValueError: a number is out of range.
    """

    task: ClassVar[str] = "text_classification"

    def __init__(
        self,
        *,
        root: str | None = None,
        text_column: str = "text",
        label_column: str = "label",
        encoding: str = "utf-8",
        tokenizer: str | None = None,
        vocab_size: int = 8000,
        max_length: int = 64,
        skip_empty: bool = False,
        cache_dir: str = "~/.cache/kd",
        test_fraction: float = 0.2,
        test_seed: int = 0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if not 2 <= max_length <= MAX_TOKENS:
            raise ValueError(f"max_length must be in 2..{MAX_TOKENS}, got {max_length!r}")
        if not 5 <= vocab_size < 2**31:
            raise ValueError(f"vocab_size must be ≥ 5, got {vocab_size!r}")
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction must be in (0, 1), got {test_fraction!r}")
        if not 0 <= test_seed < 2**63:
            raise ValueError(f"test_seed must be ≥ 0 and below 2**63, got {test_seed!r}")
        _check_encoding(encoding)
        self.root = None if root is None else Path(root).expanduser().absolute()
        self.columns = Columns(text_column, label_column, encoding)
        self.tokenizer_path = None if tokenizer is None else Path(tokenizer).expanduser()
        self.words, self.max_length, self.skip_empty = vocab_size, max_length, skip_empty
        self.cache_dir = Path(cache_dir).expanduser()
        self.test_fraction, self.test_seed = test_fraction, test_seed
        self._tokenizer: Tokenizer | None = None

    def fetch(self) -> None:
        self._load_pool()

    def load(self) -> Arrays:
        given = None if self.tokenizer_path is None else tokenizer_file(self.tokenizer_path)
        key = self._key(given)
        stored = self._cached(key) or self._read(given)
        self._keep(key, stored)
        names, source = json.loads(stored.notes[0]), stored.notes[1]
        self._tokenizer = read_tokenizer(source, f"data.tokenizer={self.tokenizer_path}")
        fields = {name: tensor.long() for name, tensor in stored.tensors.items()}
        return Arrays(class_names=names, **fields)

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            raise RuntimeError(f"data {self.name!r}: call prepare_data() and setup() first")
        return self._tokenizer

    @property
    def pad_index(self) -> int:
        return self.tokenizer.pad_index

    @property
    def net_arguments(self) -> dict[str, Any]:
        facts = {"vocab_size": self.tokenizer.vocab_size, "max_length": self.max_length}
        return facts | {"pad_index": self.pad_index, "num_classes": self.num_classes}

    def random_input(self, count: int) -> Tensor:
        """Full texts [count, max_length], whose shapes are those of a cached teacher."""
        generator = torch.Generator().manual_seed(0)
        size = (count, self.max_length)
        ids = torch.randint(self.tokenizer.vocab_size, size, generator=generator)
        return torch.where(
            ids == self.pad_index, (self.pad_index + 1) % self.tokenizer.vocab_size, ids
        )

    def _read(self, given: str | None) -> Stored:
        """Read, check, split and tokenise the texts.

        Args:
            given: content of the tokenizer's file; None: words.
        """
        splits = check_texts(self._texts(), self.skip_empty)
        names = class_names(splits["train"])
        splits = splits if "test" in splits else self._hold_out(splits, names)
        if given is None:
            pool = (document.text for document in splits["train"])
            tokenizer: Tokenizer = WordTokenizer.of(pool, self.words)
        else:
            tokenizer = read_tokenizer(given, f"data.tokenizer={self.tokenizer_path}")
        tensors = {}
        for split, documents in splits.items():
            texts = [document.text for document in documents]
            tensors[f"{split}_inputs"] = tokenizer.encode(texts, self.max_length).int()
            tensors[f"{split}_targets"] = _labels(documents, names)
        self._report(splits, tensors, names, tokenizer)
        return Stored(tensors, [json.dumps(names), tokenizer.source])

    def _texts(self) -> Splits:
        if self.root is None:
            return {"train": read_corpus(corpus_files())}
        return read_texts(self.root, self.columns)

    def _hold_out(self, splits: Splits, names: list[str]) -> Splits:
        """Hold a test set out of the training texts."""
        pool = splits["train"]
        fields = {"train_inputs": torch.arange(len(pool)), "train_targets": _labels(pool, names)}
        places = {"train": [document.place for document in pool]}
        rows = hold_out_test(fields, places, self.test_fraction, self.test_seed)
        held = {s: [pool[row] for row in rows[f"{s}_inputs"].tolist()] for s in ("train", "test")}
        return splits | held

    def _report(
        self, splits: Splits, tensors: dict[str, Tensor], names: list[str], tokenizer: Tokenizer
    ) -> None:
        counts = ", ".join(f"{len(splits[s])} {s}" for s in SPLITS if s in splits)
        full = (tensors["train_inputs"][:, -1] != tokenizer.pad_index).float().mean().item()
        log.info(
            "data %r: %s texts of %d classes, %d tokens; %.0f %% of the training texts fill "
            "data.max_length=%d",
            *(self.name, counts, len(names), tokenizer.vocab_size, 100 * full, self.max_length),
        )

    def _key(self, given: str | None) -> str:
        """Identity of the files' content and of everything that turns it into tokens."""
        files: Iterable[Path]
        if self.root is None:
            files = [path for paths in corpus_files().values() for path in paths]
        else:
            files = [path for paths in source_files(self.root).values() for path in paths]
        state = hashlib.blake2b(digest_size=16)
        for path in files:
            state.update(f"{path}\0".encode("utf-8", "surrogateescape"))
            state.update(hashlib.blake2b(_content(path)).digest())
        settings = (self.columns, self.words, self.max_length, self.skip_empty)
        state.update(repr((FORMAT, settings, self.test_fraction, self.test_seed, given)).encode())
        return state.hexdigest()

    def _place(self, key: str) -> Path:
        name = "python" if self.root is None else self.root.stem
        return self.cache_dir / f"text-{name}-{key[:16]}.safetensors"

    def _cached(self, key: str) -> Stored | None:
        return tensor_file.read(self._place(key), key)

    def _keep(self, key: str, stored: Stored) -> None:
        place = self._place(key)
        if place.exists():
            return
        try:
            with tensor_file.first_writable([place]) as writable:
                if writable is None:
                    raise OSError("the folder cannot be written")
                tensor_file.write(writable, key, stored)
        except OSError as error:
            log.warning("texts are tokenised again next time: %s: %s", place, error)


def _labels(documents: Iterable[Document], names: list[str]) -> Tensor:
    numbers = {name: number for number, name in enumerate(names)}
    return torch.tensor([numbers[document.label] for document in documents], dtype=torch.int64)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _check_encoding(encoding: str) -> None:
    try:
        "".encode(encoding)
    except LookupError:
        raise ValueError(
            f"encoding must be one of Python's, such as utf-8, got {encoding!r}"
        ) from None
