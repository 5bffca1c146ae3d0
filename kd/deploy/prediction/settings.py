"""Settings of a prediction, checked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.data.pixels import Scale
from kd.deploy.prediction.white import scale_with
from kd.errors import UserError


@dataclass(frozen=True)
class PredictionSettings:
    """What is classified, by what, and where it is written; the names are those of the command.

    Attributes:
        images: empty if texts are given.
        texts: files and texts themselves; empty if images are given.
        draw: folder of images with drawn boxes; None: none are drawn.
        min_score: boxes of a lower score are left out.
        scale: of images with more than 8 bits; None: found from the images.
    """

    run: Path
    images: list[Path]
    texts: list[str]
    text_column: str
    encoding: str
    output: Path
    teacher: bool
    teacher_checkpoint: str | None
    top: int
    batch_size: int
    rows: int
    draw: Path | None
    min_score: float
    scale: Scale | None
    max_megapixels: float


def prediction_settings(values: Mapping[str, Any]) -> PredictionSettings:
    """Check the settings of the command.

    Args:
        values: by name, as in conf/predict.yaml.

    Raises:
        UserError: lists every mistake.
    """
    if problems := [*_problems(values)]:
        raise UserError("\n- ".join(problems))
    checkpoint, white = values["teacher_checkpoint"], values["white"]
    return PredictionSettings(
        run=Path(str(values["run"])),
        images=[Path(str(each)) for each in _listed(values["images"])],
        texts=[str(each) for each in _listed(values["texts"])],
        text_column=str(values["text_column"]),
        encoding=str(values["encoding"]),
        output=Path(str(values["output"])),
        teacher=values["with_teacher"],
        teacher_checkpoint=None if checkpoint is None else str(checkpoint),
        top=values["top"],
        batch_size=values["batch_size"],
        rows=values["rows"],
        draw=None if values["draw"] is None else Path(str(values["draw"])),
        min_score=values["min_score"],
        scale=None if white is None else scale_with(white),
        max_megapixels=values["max_megapixels"],
    )


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return given if isinstance(given, list) else [given]


def _problems(values: Mapping[str, Any]) -> Iterator[str]:
    if values["run"] is None:
        yield "no model is given: add run=FOLDER of a run, or run=FILE.onnx"
    given = [name for name in ("images", "texts") if values[name] not in (None, [])]
    if not given:
        yield (
            "no images are given: add images=FOLDER, images=FILE… or images='*.png'; a student of "
            "texts takes texts=FILE or texts='a text'"
        )
    elif len(given) == 2:
        yield "images= and texts= are given; a student takes one of them"
    elif isinstance(values["texts"], dict):
        yield f"texts={values['texts']}: must be a text, a file, or a list of them"
    elif isinstance(values["images"], dict):
        yield f"images={values['images']}: must be a folder, a file, or a list of them"
    elif any(not str(each).strip() for each in _listed(values["images"])):
        yield "images: a path is empty; images=. is the folder in which you are"
    if given == ["texts"] and values["draw"] is not None:
        yield f"draw={values['draw']}: texts have no boxes; remove draw="
    if not isinstance(values["with_teacher"], bool):
        yield f"teacher={values['with_teacher']}: must be true or false"
    for name, least in {"top": 1, "batch_size": 1, "rows": 0}.items():
        if type(values[name]) is not int or values[name] < least:
            yield f"{name}={values[name]}: must be a whole number ≥ {least}"
    for name in ("white", "max_megapixels", "min_score"):
        value = values[name]
        if type(value) not in (int, float) and not (name == "white" and value is None):
            yield f"{name}={value}: must be a number"
    if type(values["max_megapixels"]) in (int, float) and not values["max_megapixels"] > 0:
        yield f"max_megapixels={values['max_megapixels']}: must be > 0"
