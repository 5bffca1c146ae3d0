"""The command `kd.predict`: its file, its table, its exit code, and messages for mistakes."""

import csv
import os
import sys

import numpy as np
import pytest
from finished_runs import finished_run
from image_files import picture
from linear_onnx import CLASSES, linear_onnx

import kd.predict
from kd.deploy.prediction import classify

HEADER = "image,class,probability"


@pytest.fixture
def predict(tmp_path, monkeypatch, capsys):
    """Run the command; returns exit code, stdout and stderr or the message."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("KD_FULL_ERROR", "0")

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kd.predict", *words])
        code, message = 0, ""
        try:
            kd.predict.main()
        except SystemExit as end:
            code, message = (end.code, "") if isinstance(end.code, int) else (1, str(end.code))
        said = capsys.readouterr()
        return code, said.out, said.err + message

    return call


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for number in range(12):
        picture(number, (10, 9)).save(tmp_path / "photos" / f"{number:02}.png")
    picture(20).save(tmp_path / "photos" / "more" / "=cmd().png")
    linear_onnx(tmp_path / "model.onnx")
    return tmp_path / "photos"


def records(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_images_are_classified_into_a_file_and_a_table(predict, photos, tmp_path):
    code, out, _ = predict("run=model.onnx", "images=photos", "top=2", "batch_size=5")
    assert code == 0
    found = records(tmp_path / "predictions.csv")
    assert len(found) == 13
    assert [*found[0]] == [*HEADER.split(","), "class_2", "probability_2"]
    assert all(float(row["probability"]) >= float(row["probability_2"]) for row in found)
    assert {row["class"] for row in found} <= {"ant", "bee", "'=cat()"}
    assert "and 3 more" in out
    assert "13 images by class" in out
    assert out.endswith("written: predictions.csv\n")
    again = predict("run=model.onnx", "images=photos", "top=9", "rows=0", "batch_size=1")
    assert again[0] == 0  # an earlier file of predictions is replaced
    assert np.isclose(float(records(tmp_path / "predictions.csv")[0]["probability_3"]), 0, atol=1)
    assert "photos/00.png" not in again[1]


@pytest.mark.parametrize(
    "words",
    [
        ["images=photos/00.png", "photos/01.png", "photos/a,b=c.png"],
        ["images=photos/00.png,photos/01.png", "photos/a,b=c.png"],
        ["images=photos/00.png", "images=photos/01.png", "images=photos/a,b=c.png"],
        ["images=[photos/00.png,photos/01.png,'photos/a,b=c.png']"],
    ],
)
def test_files_are_given_in_any_way(words, predict, photos, tmp_path):
    picture(0).save(photos / "a,b=c.png")
    assert predict(*words, "run=model.onnx", "rows=0")[0] == 0
    found = [row["image"] for row in records(tmp_path / "predictions.csv")]
    assert found == ["photos/00.png", "photos/01.png", "photos/a,b=c.png"]


def test_names_of_files_are_found_again(predict, photos, tmp_path):
    """In the CSV; a byte that is no text, or moves the cursor of a terminal, is written as such."""
    named = ['a,"b".png', "a\nb.png", "\U0001f468\u200d\U0001f469.png", "[bold]猫.png"]
    for name in [*named, "a\x1b[2Jb.png", os.fsdecode(b"a\xff.png")]:
        (photos / "more" / name).write_bytes((photos / "00.png").read_bytes())
    code, out, _ = predict("run=model.onnx", "images=photos/more/*")
    assert code == 0
    found = {row["image"].rpartition("/")[2] for row in records(tmp_path / "predictions.csv")}
    assert found == {*named, "=cmd().png", "a\\x1b[2Jb.png", "a\\udcff.png"}
    assert "\x1b" not in out


def test_no_name_is_a_formula(predict, photos, monkeypatch, tmp_path):
    monkeypatch.chdir(photos / "more")
    assert predict(f"run={tmp_path}/model.onnx", "images=.", "output=a/b.csv")[0] == 0
    assert records(photos / "more" / "a" / "b.csv")[0]["image"] == "'=cmd().png"


def test_broken_images_are_named_and_change_the_exit_code(predict, photos, tmp_path):
    (photos / "03.png").write_bytes(b"not an image")
    (photos / "gone.png").symlink_to("nowhere")
    (photos / "notes.txt").write_text("not an image")
    code, out, err = predict("run=model.onnx", "images=photos", "output=mine.csv")
    assert code == 2
    assert "skipped: photos/gone.png: broken link" in err
    assert "skipped: photos/03.png: damaged, or not PNG" in err
    assert "left out: 1 .txt (photos/notes.txt)" in out
    assert "skipped images, which cannot be read: 2" in out
    assert len(records(tmp_path / "mine.csv")) == 12


def test_teacher_and_student_are_compared(predict, output, tmp_path):
    picture(1, (8, 8), "L").save(tmp_path / "a.png")
    picture(2, (30, 40)).save(tmp_path / "b.png")
    words = (f"run={finished_run('kd', output)}", "images=[a.png,b.png]", "teacher=true")
    code, out, err = predict(*words)
    assert (code, err) == (0, "")
    found = records(tmp_path / "predictions.csv")
    assert [row["image"] for row in found] == ["a.png", "b.png"]
    for row in found:
        assert row["differs"] == ("no" if row["class"] == row["teacher_class"] else "yes")
        assert 0.1 <= float(row["teacher_probability"]) <= 1
    differing = sum(row["differs"] == "yes" for row in found)
    assert f"teacher and student differ on {differing} of 2 images" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "error: no model is given: add run=FOLDER of a run, or run=FILE.onnx\n- no images"),
        (["run=model.onnx", "images=none"], "images=none: there is no such folder or file"),
        (["run=model.onnx", "images=empty"], "images=empty: there is no image"),
        (["run=model.onnx", "images=bad"], "no image can be read; skipped: 1"),
        (["run=model.onnx", "images="], "images: a path is empty; images=. is the folder in which"),
        (["run=", "images=photos"], "run: the path is empty"),
        (
            ["run=model.onnx", "images=*.gif"],
            "images=*.gif: no folder or file matches this pattern",
        ),
        (["run=model.onnx", "photos"], "photos: a setting is written as key=value"),
        (["run=modl.onnx", "images=photos"], "run=modl.onnx: there is no such file"),
        (["run=model.onnx", "images=photos", "teacher=true"], "teacher=true: model.onnx is one"),
        (["run=model.onnx", "images=photos", "teacher=resnet8"], "teacher=resnet8: must be true"),
        (["run=model.onnx", "images=photos", "batch_size=0"], "batch_size=0: must be a whole"),
        (["run=model.onnx", "images=photos", "top=1.5"], "top=1.5: must be a whole number ≥ 1"),
        (["run=model.onnx", "images=photos", "white=7"], "white=7: must be one of 1, 255, 1023"),
        (["run=model.onnx", "images=photos", "output=a.txt"], "output=a.txt: predictions are"),
        (["run=model.onnx", "images=photos", "output=own.csv"], "own.csv exists and holds no"),
        (["run=model.onnx", "images=photos", "output=bad/b.png/a.csv"], "cannot be written: "),
        (["run=model.onnx", "images=photos", "max_megapixels=0"], "max_megapixels=0: must be > 0"),
        (["run=model.onnx", "images=photos", "imges=1"], "there is no 'imges'"),
    ],
)
def test_mistakes_get_a_message_and_nothing_is_written(words, message, predict, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "b.png").write_bytes(b"not an image")
    (tmp_path / "own.csv").write_text("mine,own\n")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    code, _, err = predict(*words)
    assert code == 1
    assert message in err
    assert "Traceback" not in err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_interrupted_file_stays_as_it_was(predict, photos, tmp_path, monkeypatch):
    (tmp_path / "predictions.csv").write_text(f"{HEADER}\nearlier\n")

    def broken(predictor, batches, top):
        yield from list(original(predictor, batches, top))[:3]
        raise OSError(28, "No space left on device")

    original = classify.predict
    monkeypatch.setattr(classify, "predict", broken)
    code, _, err = predict("run=model.onnx", "images=photos")
    assert code == 1
    assert "output=predictions.csv cannot be written: No space left on device" in err
    assert (tmp_path / "predictions.csv").read_text() == f"{HEADER}\nearlier\n"
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "model.onnx", "predictions.csv"}


def test_logits_that_are_no_numbers_are_refused(predict, photos, monkeypatch):
    monkeypatch.setattr(
        "kd.deploy.runtimes.onnx.OnnxFile.logits",
        lambda self, images: np.full((len(images), len(CLASSES)), np.nan, np.float32),
    )
    code, _, err = predict("run=model.onnx", "images=photos")
    assert code == 1
    assert "run=model.onnx gives photos/00.png logits that are no numbers" in err
