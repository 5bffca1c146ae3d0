"""Copies of images with the boxes that were found in them, in a folder of their own."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kd.data.image_formats import READERS
from kd.data.pixels import Scale, to_8_bit
from kd.deploy.prediction.box_predictor import FoundBox, FoundBoxes
from kd.errors import UserError
from kd.io.own_files import is_link

_COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd", "#17becf", "#e377c2", "#bcbd22")


def check_folder(folder: Path) -> None:
    """Refuse a folder in which a drawing could replace a file.

    Raises:
        UserError: it holds something, or is no folder.
    """
    if is_link(folder) or (folder.exists() and not folder.is_dir()):
        raise UserError(f"draw={folder} is a file or a link; name a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(
            f"draw={folder} holds files, which drawings could replace; name a new folder"
        )


class BoxDrawings:
    """Writes PNG files named as the images; of equal names, the second is `NAME-2.png`.

    Args:
        folder: new or empty; made with the first drawing.
        class_names: in the order of the labels.
        scale: of images with more than 8 bits.

    Raises:
        UserError: a file cannot be written.
    """

    def __init__(self, folder: Path, class_names: Sequence[str], scale: Scale) -> None:
        check_folder(folder)
        self.folder, self.class_names, self.scale = folder, class_names, scale
        self._names: Counter[str] = Counter()

    def draw(self, found: FoundBoxes) -> None:
        """Write one image with its boxes; the pixels are those of the file as it is stored."""
        from PIL import Image

        with Image.open(found.image, formats=READERS) as file:
            image = to_8_bit(file, self.scale)[0].convert("RGB")
        for box in found.boxes:
            self._box(image, box)
        stem = found.image.stem
        self._names[stem.lower()] += 1
        number = self._names[stem.lower()]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # "x": an image named a-2.png beside two named a.png
            with (self.folder / f"{stem}{f'-{number}' * (number > 1)}.png").open("xb") as output:
                image.save(output, "PNG")
        except OSError as error:
            raise UserError(
                f"draw={self.folder}: {error.filename or stem} cannot be written: "
                f"{error.strerror or error}"
            ) from None

    def _box(self, image: object, box: FoundBox) -> None:
        from PIL import Image, ImageDraw

        assert isinstance(image, Image.Image)
        draw, colour = ImageDraw.Draw(image), _COLOURS[box.label % len(_COLOURS)]
        line = max(1, round(min(image.size) / 200))
        x1, y1, x2, y2 = box.corners
        draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=line)
        said = f"{self.class_names[box.label]} {box.score:.0%}"
        place = (x1, max(0.0, y1 - 11))
        draw.rectangle(draw.textbbox(place, said), fill=colour)
        draw.text(place, said, fill="#ffffff")
