"""A loaded student of texts: the net with its tokenizer."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from kd.data.tokenise import Tokenizer, read_tokenizer
from kd.deploy.student import Student
from kd.errors import UserError
from kd.io.student_metadata import StudentMetadata


class TextStudent(Student):
    """A trained net of texts and what is known about it, in eval mode at first.

    Args:
        net: token ids [B, L] -> logits [B, K].
        metadata: from the weights file.

    Attributes:
        max_length: tokens after which a text is cut.
        pad_index: token that fills short texts; None: unknown.

    Example:
        >>> student = kd.load("outputs/runs/mine")  # doctest: +SKIP
        >>> student("The match ended in a draw.").softmax(1)  # doctest: +SKIP
        tensor([[0.0112, 0.9888]])
    """

    task_name: ClassVar[str] = "text_classification"

    def __init__(self, net: nn.Module, metadata: StudentMetadata | None) -> None:
        super().__init__(net, metadata)
        assert metadata is not None  # it names the task
        (self.max_length,) = metadata["input_size"]
        self._source = metadata.get("tokenizer")
        self.accepts = (*(("texts",) if self._source else ()), "token ids [B, L]")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """What turns texts into token ids, as in training.

        Raises:
            UserError: the file does not have it, or it is damaged.
        """
        if self._source is None:
            raise UserError(
                "the file does not say how its texts became token ids (its data were given without "
                "a tokenizer); pass token ids int64 [B, L]"
            )
        return opened_tokenizer(self._source, "the tokenizer of the student's file")

    @property
    def pad_index(self) -> int | None:
        """Token that fills short texts; None: unknown."""
        assert self.metadata is not None
        return self.metadata.get("pad_index")

    def preprocess(self, texts: str | Sequence[str]) -> Tensor:
        """Convert texts to what the net takes, as in training.

        Args:
            texts: one or several.

        Returns:
            Token ids int64 [B, L], cut after `max_length` and padded to the longest text, on the
            CPU.

        Raises:
            UserError: the tokenizer is unknown, or there is no text.
        """
        found = (
            [texts]
            if isinstance(texts, str)
            else list(texts)
            if isinstance(texts, Iterable)
            else []
        )
        if not found or not all(isinstance(text, str) for text in found):
            raise UserError("preprocess takes a text or a list of texts, at least one")
        return encoded(self.tokenizer, found, self.max_length)

    def forward(self, texts: str | Sequence[str] | Tensor) -> Tensor:
        """Return the logits [B, K] of texts, or of their token ids int64 [B, L].

        Raises:
            UserError: other numbers than int64, ids that are no token's, or texts where the
                tokenizer is unknown.
        """
        if not isinstance(texts, Tensor):
            texts = self.preprocess(texts).to(next(self.parameters()).device)
        if texts.dtype != torch.int64 or texts.dim() != 2 or not texts.shape[1]:
            raise UserError(
                f"texts must be {' or '.join(self.accepts)} of type int64, got "
                f"{list(texts.shape)} of {texts.dtype}"
            )
        try:
            return cast(Tensor, self.net(texts))
        except IndexError:  # of an embedding on the CPU
            ids = f"{int(texts.min())} … {int(texts.max())}"
            raise UserError(
                f"token ids {ids} [{', '.join(map(str, texts.shape))}]: the net has no such token, "
                "or none at such a place; texts are converted with preprocess"
            ) from None

    def extra_repr(self) -> str:
        given = f"{' or '.join(self.accepts)}, L ≤ {self.max_length}"
        return f"input: {given}, classes: {len(self.class_names)}"


def encoded(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> Tensor:
    """Return texts as token ids [B, L], padded to the longest."""
    ids = tokenizer.encode(texts, max_length)
    return trimmed(ids, tokenizer.pad_index)


def trimmed(ids: Tensor, pad_index: int) -> Tensor:
    """Cut token ids [B, L] behind the end of the longest text; one token stays at least.

    Example:
        >>> trimmed(torch.tensor([[5, 7, 0, 0], [6, 0, 0, 0]]), pad_index=0)
        tensor([[5, 7],
                [6, 0]])
    """
    used = (ids != pad_index).any(0).nonzero()
    return ids[:, : int(used[-1]) + 1 if len(used) else 1]


def opened_tokenizer(source: str, name: str) -> Tokenizer:
    """Read a tokenizer that may come from a stranger.

    Raises:
        UserError: it is damaged, or its package is not installed.
    """
    try:
        return read_tokenizer(source, name)
    except (UserError, MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a panic of the package tokenizers is no Exception
        raise UserError(f"{name} is damaged: {_first_line(error)}") from None


def _first_line(error: Any) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
