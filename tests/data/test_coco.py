"""COCO folders: scaled boxes, splits, the cache, and one message for each kind of mistake."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from image_files import picture
from PIL import Image

from kd.data import coco
from kd.data.coco import Coco
from kd.data.coco_file import read_coco
from kd.errors import UserError

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "ant"}]


def content(count: int = 4, **changes: Any) -> dict[str, Any]:
    """`count` images of 40 × 20: the first has two boxes and a crowd, the last has none."""
    images = [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 20} for n in range(count)]
    boxes = [
        {"id": 10 + n, "image_id": n, "category_id": 3 + 4 * (n % 2), "bbox": [4, 2, 20, 10]}
        for n in range(count - 1)
    ]
    boxes.append({"id": 1, "image_id": 0, "category_id": 7, "bbox": [30.5, 0, 10, 20]})
    boxes.append({"id": 2, "image_id": 0, "category_id": 7, "bbox": [0, 0, 9, 9], "iscrowd": 1})
    return {"images": images, "annotations": boxes, "categories": CATEGORIES} | changes


def split_in(root: Path, split: str, document: Any, name: str = "_annotations.coco.json") -> Path:
    folder = root / split
    folder.mkdir(parents=True)
    for image in document["images"]:
        picture(image["id"], (40, 20)).save(folder / f"{image['id']}.png")
    (folder / name).write_text(json.dumps(document))
    return folder / name


def data_of(root: Path, **settings: Any) -> Coco:
    data = Coco(root=str(root), image_size=32, name="x", batch_size=2, **settings)
    data.prepare_data()
    data.setup()
    return data


def test_images_are_scaled_into_the_square_with_their_boxes(tmp_path):
    for split in ("train", "valid", "test"):
        split_in(tmp_path, split, content())
    data = data_of(tmp_path)
    assert data.class_names == ["ant", "cat"]
    assert data.num_samples == {"train": 4, "val": 4, "test": 4, "pool": 4}
    rows = data.arrays.train_targets
    expected = [[0, 3.2, 1.6, 19.2, 9.6], [1, 24.4, 0, 32, 16]]  # the last was cut to the image
    torch.testing.assert_close(rows[0], torch.tensor(expected), atol=1e-5, rtol=0)
    assert (rows[3] == -1).all()
    image = data.arrays.train_inputs[1]
    assert image.shape == (3, 32, 32)
    assert image[:, 16:].max() == 0
    scaled = picture(1, (40, 20)).resize((32, 16), Image.Resampling.BILINEAR)
    assert image[:, :16].permute(1, 2, 0).numpy().tobytes() == scaled.tobytes()
    batch = next(iter(data.train_dataloader()))
    assert batch.input.shape == (2, 3, 32, 32)
    assert batch.target.shape == (2, 2, 5)


def test_cocos_own_layout_splits_and_cache(tmp_path, monkeypatch):
    document = content(20)
    annotations = split_in(tmp_path, "train2017", document)
    (tmp_path / "annotations").mkdir()
    annotations.rename(tmp_path / "annotations" / "instances_train2017.json")
    first = data_of(tmp_path, test_fraction=0.25, val_fraction=0.2)
    assert first.num_samples == {"train": 12, "val": 3, "test": 5, "pool": 15}
    monkeypatch.setattr(coco, "decode_all", lambda *_: pytest.fail("decoded again"))
    again = data_of(tmp_path, test_fraction=0.25, val_fraction=0.2)
    assert again.fingerprint == first.fingerprint
    named = data_of(
        tmp_path, annotations={"train": "annotations/instances_train2017.json", "val": None}
    )
    assert named.num_samples["test"] == 4


BOX = {"id": 5, "image_id": 0, "category_id": 3}
MISTAKES = {
    "outside": ({"annotations": [BOX | {"bbox": [30, 2, 20, 10]}]},
                r"annotation 5: bbox \[30, 2, 20, 10\] is not within the 40 x 20 pixels of .*0.p"),
    "no area": ({"annotations": [BOX | {"bbox": [3, 2, 0, 10]}]},
                r"annotation 5: bbox \[3, 2, 0, 10\] has no area; correct it, or set data.bad_box"),
    "no numbers": ({"annotations": [BOX | {"bbox": [3, "a", 2]}]},
                   r"annotation 5: bbox must be four numbers, got \[3, 'a', 2\]"),
    "not finite": ({"annotations": [BOX | {"bbox": [3, 2, float("nan"), 2]}]},
                   "annotation 5: bbox must be four numbers|no JSON"),
    "no image": ({"annotations": [BOX | {"image_id": 99, "bbox": [1, 1, 2, 2]}]},
                 "annotation 5: image_id 99 is no image's id"),
    "no category": ({"annotations": [BOX | {"category_id": 4, "bbox": [1, 1, 2, 2]}]},
                    "annotation 5: category_id 4 is no category's id"),
    "double id": ({"annotations": [BOX | {"bbox": [1, 1, 2, 2]}] * 2},
                  "annotation 5: the id is used twice"),
    "thin": ({"annotations": [BOX | {"bbox": [3, 2, 1e-9, 10]}]}, "annotation 5: bbox .* no area"),
    "crowd": ({"annotations": [BOX | {"bbox": [1, 1, 2, 2], "iscrowd": "0"}]},
              "annotation 5: iscrowd must be 0 or 1, got '0'"),
    "file twice": ({"images": [{"id": n, "file_name": "0.png", "width": 40, "height": 20}
                               for n in range(4)]},
                   r"image 1: file_name '0.png' is that of image 0 as well(?s:(?!annotation).)*$"),
    "no file's name": ({"images": [{"id": 0, "file_name": "\0\ud800"}], "annotations": []},
                       "image 0: it has no file_name"),
    "a list as name": ({"categories": [{"id": 3, "name": [1]}, {"id": 7, "name": "ant"}]},
                       r"category 3: it has no name(?s:(?!annotation).)*$"),
    "no id": ({"annotations": [{"image_id": 0}]}, r"annotations\[0\] has no whole number"),
    "no categories": ({"categories": [], "annotations": []}, "categories is empty"),
    "double name": ({"categories": [{"id": 3, "name": "ant"}, {"id": 7, "name": "ant"}]},
                    "category 3: the name 'ant' is used twice"),
    "no images": ({"images": [], "annotations": []}, "images is empty"),
    "no size": ({"images": [{"id": 0, "file_name": "0.png"}], "annotations": []},
                r"image 0: width and height must be whole numbers ≥ 1, got \[None, None\]"),
    "way out": ({"images": [{"id": 0, "file_name": "../0.png", "width": 4, "height": 4}],
                 "annotations": []}, "image 0: file_name '../0.png' leads out of the folder"),
    "no lists": ({"annotations": None}, "is no COCO file: it has no lists images, categories"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_of_an_annotation_file(mistake, tmp_path):
    changes, message = cast(tuple[dict[str, Any], str], MISTAKES[mistake])
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content() | changes))
    with pytest.raises(UserError, match=message) as error:
        read_coco(path)
    assert str(path) in str(error.value)


def test_bad_boxes_can_be_left_out(tmp_path):
    path = tmp_path / "train.json"
    bad = [BOX | {"id": n, "bbox": [30, 2, w, 10]} for n, w in ((20, 20), (21, 0), (22, 5))]
    path.write_text(json.dumps(content(annotations=bad)))
    found = read_coco(path, drop=True)
    assert [len(image.rows) for image in found.images] == [1, 0, 0, 0]
    assert [text.split(":")[0] for text in found.dropped] == ["annotation 20", "annotation 21"]


def test_mistakes_of_the_folder(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*nowhere: No such file"):
        data_of(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"has no folder train with images and a COCO .json file"):
        data_of(tmp_path)
    path = split_in(tmp_path, "train", content())
    (path.parent / "2.png").unlink()
    picture(3, (20, 40)).save(path.parent / "3.png")
    (path.parent / "1.png").write_bytes(b"GIF8")
    with pytest.raises(UserError) as error:
        data_of(tmp_path)
    text = str(error.value)
    assert "2.png: the file is missing" in text
    assert "3.png: it has 20 x 40 pixels, and the annotations say 40 x 20, as if turned" in text
    assert "1.png: damaged, or not PNG" in text
    path.write_text("{")
    with pytest.raises(UserError, match=r"_annotations.coco.json.*it is no JSON"):
        data_of(tmp_path)
    path.rename(path.with_suffix(".txt"))
    with pytest.raises(UserError, match=r"train needs one COCO .json file.*and has none; name it"):
        data_of(tmp_path)


def test_other_categories_in_the_test_split(tmp_path):
    split_in(tmp_path, "train", content())
    document = content(categories=[*CATEGORIES, {"id": 8, "name": "dog"}])
    split_in(tmp_path, "test", document)
    with pytest.raises(UserError, match="category 8: the training file has no category 'dog'"):
        data_of(tmp_path)
