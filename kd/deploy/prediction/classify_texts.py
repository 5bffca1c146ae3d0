"""Classification of texts into a file."""

from kd.deploy.prediction.classify import Work
from kd.deploy.prediction.predictions import predict
from kd.deploy.prediction.predictions_file import check_output, predictions_file
from kd.deploy.prediction.predictor import open_predictor
from kd.deploy.prediction.summary import Summary
from kd.deploy.prediction.text_lines import TextLines
from kd.deploy.prediction.text_predictor import TextPredictor
from kd.errors import UserError


class TextWork(Work):
    """Texts of the command line and of files, read once."""

    noun = "text"

    def run(self) -> Summary:
        settings = self.settings
        check_output(settings.output)
        texts = TextLines(settings.texts, settings.text_column, settings.encoding)
        predictor = open_predictor(
            settings.run, settings.teacher, self.trust, settings.teacher_checkpoint
        )
        if not isinstance(predictor, TextPredictor):
            raise UserError(
                f"{predictor.source} takes images, and texts= is given; give images=FOLDER"
            )
        return self._written(predictor, texts)

    def _written(self, predictor: TextPredictor, texts: TextLines) -> Summary:
        names, teacher = predictor.class_names, self.settings.teacher
        top = min(self.settings.top, len(names))
        summary = Summary(names, self.settings.rows, teacher, self.noun)
        with (
            predictions_file(self.settings.output, names, top, teacher, texts=True) as write,
            self._progress("classifying", None) as advance,
        ):
            lines = texts.lines(self._skip)
            batches = predictor.batches(lines, self.settings.batch_size, advance)
            for prediction in predict(predictor, batches, top):
                write(prediction)
                summary.add(prediction)
            if not summary.count:
                raise UserError(f"there is no text; lines skipped: {self.skipped}")
        return summary
