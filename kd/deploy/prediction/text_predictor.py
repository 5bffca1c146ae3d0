"""Predictors of texts: a run, a weights file or an exported model, all with one interface."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.data.tokenise import Tokenizer
from kd.deploy.live_teacher import LiveTeacher
from kd.deploy.prediction.text_lines import TextLine
from kd.deploy.runtimes.base import ModelFile
from kd.deploy.text_student import TextStudent, encoded, opened_tokenizer
from kd.errors import UserError

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class TextPredictor:
    """A classifier of texts.

    Attributes:
        source: its run or file, for messages.
        class_names: names of the K classes in the order of the logits.
        tokenizer: what turns texts into token ids.
        max_length: tokens after which a text is cut.
        logits: token ids [B, L] -> logits [B, K] of temperature 1.
        teacher: the same of the student's teacher; None: it is not asked for.
    """

    source: str
    class_names: Sequence[str]
    tokenizer: Tokenizer
    max_length: int
    logits: Callable[[Ids], Logits]
    teacher: Callable[[Ids], Logits] | None = None

    def batches(
        self, lines: Iterator[TextLine], size: int, progress: Callable[[int], None]
    ) -> Iterator[tuple[list[TextLine], Ids]]:
        """Yield texts and their token ids [b, L], b ≤ size.

        Args:
            lines: the texts.
            size: of a batch.
            progress: called after each batch with the number of its texts.
        """
        while part := list(islice(lines, size)):
            texts = [line.text for line in part]
            yield part, encoded(self.tokenizer, texts, self.max_length).numpy()
            progress(len(part))


def of_text_student(student: TextStudent, source: str) -> TextPredictor:
    """Return the predictor of a loaded student.

    Raises:
        UserError: its file does not have the tokenizer.
    """
    try:
        tokenizer = student.tokenizer
    except UserError as error:
        raise UserError(f"{source}: {error}; kd.load gives the student itself") from None

    @torch.no_grad()
    def logits(ids: Ids) -> Logits:
        return _array(student(torch.from_numpy(ids)))

    return TextPredictor(source, student.class_names, tokenizer, student.max_length, logits)


def of_text_file(model: ModelFile, source: str) -> TextPredictor:
    """Return the predictor of an exported model, whose description has the tokenizer."""
    about = model.description
    assert about is not None  # it names the task
    tokenizer = opened_tokenizer(about["tokenizer"], f"{source}: its tokenizer")
    (length,) = about["input_size"]
    return TextPredictor(source, about["class_names"], tokenizer, length, model.logits)


def with_teacher(predictor: TextPredictor, live: LiveTeacher) -> TextPredictor:
    """Add the teacher of a run."""

    def logits(ids: Ids) -> Logits:
        return _array(live(torch.from_numpy(ids)))

    return replace(predictor, teacher=logits)


def tried(predictor: TextPredictor) -> TextPredictor:
    """Refuse a model that does not take texts, or give the classes, that its file says.

    Raises:
        UserError: it does not.
    """
    ids: Any = predictor.tokenizer.encode(["a"], 1).numpy()
    predictor = replace(predictor, logits=_with_message(predictor))
    found = predictor.logits(ids).shape
    if found != (1, len(predictor.class_names)):
        raise UserError(
            f"{predictor.source}: a text gives outputs of shape {list(found)}, and its file names "
            f"{len(predictor.class_names)} classes"
        )
    return predictor


def _with_message(predictor: TextPredictor) -> Callable[[Ids], Logits]:
    """Return the model with a message for token ids that it does not take."""

    def logits(ids: Ids) -> Logits:
        try:
            return predictor.logits(ids)
        except MemoryError:
            raise
        except Exception as error:  # of a student, onnxruntime or any other runtime
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(
                f"{predictor.source}: it does not take the token ids of its tokenizer: {reason}"
            ) from None

    return logits


def _array(logits: Tensor) -> Logits:
    return np.asarray(logits.float().cpu().numpy(), dtype=np.float32)
