"""The interface of what differs between the tasks when a student is exported."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from kd.deploy.exporting.compare import Comparison
from kd.deploy.exporting.compare_boxes import BoxComparison
from kd.deploy.exporting.description import Description, Precision
from kd.deploy.exporting.exported_net import ExportedModule
from kd.deploy.exporting.formats import FORMATS
from kd.deploy.exporting.request import Request
from kd.deploy.finished_run import FinishedRun
from kd.deploy.runtimes.base import ModelFile
from kd.deploy.student import Student
from kd.errors import UserError


class TaskExport(ABC):
    """How the students of one task become files.

    Attributes:
        students: in words, for messages.
        precisions: by format, those that the task's students are written in.
        refusals: by a format or precision that is missing there, the reason.
        keeps: what `safetensors` leaves to `kd.load`.
    """

    students: ClassVar[str]
    precisions: ClassVar[Mapping[str, tuple[str, ...]]]
    refusals: ClassVar[Mapping[str, str]] = {}
    keeps: ClassVar[str] = "preprocessing"

    def check_request(self, request: Request) -> None:
        """Refuse a format or precision that the task's students are not written in.

        Raises:
            UserError: says why, and what works.
        """
        if request.precision in self.precisions.get(request.format, ()):
            return
        missing = request.format if request.format not in self.precisions else request.precision
        given = f"format={request.format} precision={request.precision}"
        works = ", ".join(f"{name} ({'/'.join(p)})" for name, p in self.precisions.items())
        why = self.refusals.get(missing, "they are not written so")
        raise UserError(f"{given}: students of {self.students}: {why}; what works: {works}")

    @abstractmethod
    def test_inputs(self, run: FinishedRun) -> Tensor:
        """Return the test samples as the file takes them.

        Raises:
            UserError: the data do not have them.
        """

    @abstractmethod
    def about(self, run: FinishedRun) -> dict[str, Any]:
        """Return the fields of the description that the task decides.

        Raises:
            UserError: the student's file does not say what a file needs.
        """

    @abstractmethod
    def net(self, student: Student, dtype: torch.dtype) -> ExportedModule:
        """Return the module that is exported, of a student that may be changed."""

    @abstractmethod
    def example(self, description: Description) -> Tensor:
        """Return two samples as the file takes them."""

    @abstractmethod
    def compared(
        self, run: FinishedRun, file: ModelFile, precision: Precision
    ) -> Comparison | BoxComparison:
        """Compare a file with the run's student on the whole test set."""

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn errors of exporters and runtimes into messages, where the task has one."""
        try:
            yield
        except (OSError, UserError, MemoryError, AssertionError, AttributeError):
            raise
        except Exception as error:  # of torch or onnxruntime, of many kinds
            line = next(iter(str(error).splitlines()), type(error).__name__)
            if message := self.failure(line[:200]):
                raise UserError(message) from None
            raise

    def failure(self, reason: str) -> str:
        """Return the message for an error of an exporter or a runtime; empty: it is a defect."""
        return ""

    @abstractmethod
    def write_int8(
        self,
        run: FinishedRun,
        net: ExportedModule,
        description: Description,
        file: Path,
        request: Request,
    ) -> dict[str, str]:
        """Write the int8 file within its bound; returns rows of the sheet.

        Raises:
            UserError: the student loses too much.
        """


def all_precisions() -> dict[str, tuple[str, ...]]:
    """Return the precisions of every format."""
    return {name: each.precisions for name, each in FORMATS.items()}
