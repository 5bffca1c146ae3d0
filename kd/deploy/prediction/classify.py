"""Classification into a file, with progress on the terminal; of images here."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kd.config.trust import Trust
from kd.data.pixels import Scale
from kd.data.scan import DAMAGED
from kd.deploy.prediction.box_drawings import BoxDrawings, check_folder
from kd.deploy.prediction.box_predictor import BoxPredictor
from kd.deploy.prediction.box_summary import BoxSummary
from kd.deploy.prediction.boxes_file import boxes_file
from kd.deploy.prediction.image_batches import ImageBatches
from kd.deploy.prediction.image_files import ImageFiles
from kd.deploy.prediction.predictions import predict
from kd.deploy.prediction.predictions_file import check_output, predictions_file
from kd.deploy.prediction.predictor import Predictor, open_predictor
from kd.deploy.prediction.settings import PredictionSettings
from kd.deploy.prediction.summary import Summary
from kd.deploy.prediction.text_predictor import TextPredictor
from kd.errors import UserError
from kd.io.printable import printable

log = logging.getLogger(__name__)


class Work(ABC):
    """One call of the command.

    Args:
        settings: of the command.
        trust: what the record of a run may name beside what `conf/` names.
        console: for the progress and the names of skipped samples.

    Attributes:
        noun: for a sample.
        skipped: number of samples that could not be read.
    """

    noun: ClassVar[str]

    def __init__(self, settings: PredictionSettings, trust: Trust, console: Console) -> None:
        self.settings, self.trust, self.console = settings, trust, console
        self.skipped = 0

    @abstractmethod
    def run(self) -> Summary | BoxSummary:
        """Classify the samples and write the file.

        Raises:
            UserError: nothing is written then.
        """

    def _skip(self, place: str, reason: str) -> None:
        self.skipped += 1
        line = printable(f"skipped: {place}: {reason}")
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def _progress(self, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        columns = (
            TextColumn("{task.description}"),
            *(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()),
        )
        shown = self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=not shown) as bar:
            task = bar.add_task(what, total=total)
            yield lambda images: bar.advance(task, images)


class Classification(Work):
    """Images, which are read twice, to count them and to classify them."""

    noun = "image"

    def run(self) -> Summary | BoxSummary:
        """Classify the images and write the file.

        Raises:
            UserError: nothing is written then.
        """
        settings = self.settings
        check_output(settings.output)
        if settings.draw is not None:
            check_folder(settings.draw)
        files = ImageFiles(settings.images)
        files.check_not_empty()
        predictor = open_predictor(
            settings.run, settings.teacher, self.trust, settings.teacher_checkpoint
        )
        if isinstance(predictor, TextPredictor):
            raise UserError(
                f"{predictor.source} classifies texts, and images= is given; give texts=FILE or "
                "texts='a text'"
            )
        if settings.draw is not None and not isinstance(predictor, BoxPredictor):
            raise UserError(
                f"draw={settings.draw}: {predictor.source} gives an image one class, and no boxes; "
                "remove draw="
            )
        target = predictor.target(settings.max_megapixels)
        batches = ImageBatches(files, target, settings.batch_size)
        scale, count = self._scale_and_count(batches)
        for path, reason in files.unreadable():
            self._skip(path, reason)
        summary: Summary | BoxSummary
        if isinstance(predictor, BoxPredictor):
            summary = self._boxes_written(predictor, batches, scale, count)
        else:
            summary = self._written(predictor, batches, scale, count)
        if others := files.left_out.without([*DAMAGED]):
            log.info("left out: %s", others)
        return summary

    def _scale_and_count(self, batches: ImageBatches) -> tuple[Scale, int]:
        given = self.settings.scale
        with self._progress("looking at images", None) as advance:
            count, peaks = batches.survey(given is None, advance)
        if peaks.count:
            log.info(
                "images with more than 8 bits: %d; white is %s, by their largest value; if those "
                "of training had another, give it as white=…",
                peaks.count,
                peaks.described(),
            )
        return given or peaks.scale(), count

    def _boxes_written(
        self, predictor: BoxPredictor, batches: ImageBatches, scale: Scale, count: int
    ) -> BoxSummary:
        names, folder = predictor.class_names, self.settings.draw
        summary = BoxSummary(names, self.settings.rows)
        drawings = None if folder is None else BoxDrawings(folder, names, scale)
        with (
            boxes_file(self.settings.output, names) as write,
            self._progress("finding boxes", count) as advance,
        ):
            decoded = batches.decoded(scale, self._skip, advance)
            for found in predictor.found(decoded, self.settings.min_score):
                write(found)
                summary.add(found)
                if drawings is not None:
                    drawings.draw(found)
            self._check_some(summary.count)
        return summary

    def _check_some(self, count: int) -> None:
        if not count:
            raise UserError(f"no image can be read; skipped: {self.skipped}")

    def _written(
        self, predictor: Predictor, batches: ImageBatches, scale: Scale, count: int
    ) -> Summary:
        names, teacher = predictor.class_names, self.settings.teacher
        top = min(self.settings.top, len(names))
        summary = Summary(names, self.settings.rows, teacher)
        with (
            predictions_file(self.settings.output, names, top, teacher) as write,
            self._progress("classifying", count) as advance,
        ):
            for prediction in predict(predictor, batches.decoded(scale, self._skip, advance), top):
                write(prediction)
                summary.add(prediction)
            self._check_some(summary.count)
        return summary
