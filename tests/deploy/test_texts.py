"""Students of texts in every command after training."""

import csv
import json
import sys
from typing import Any

import numpy as np
import pytest
import torch
from finished_runs import finished_run
from finished_texts import finished_texts
from image_files import picture

import kd
import kd.predict
from kd.config.trust import Trust
from kd.deploy.evaluation.evaluate import evaluate
from kd.deploy.evaluation.page import markdown
from kd.deploy.exporting.export import export
from kd.deploy.exporting.request import Request
from kd.deploy.finished_run import FinishedRun
from kd.deploy.prediction.text_lines import TextLines
from kd.deploy.runtimes.open import open_model_file
from kd.errors import UserError

OWN = Trust(record=True)
TEXTS = ["the apple", "a saw, and a drill", "dog dog dog and so on and so on and so on", "?"]


@pytest.fixture(scope="module")
def run(output):
    return FinishedRun(finished_texts(output), trust=OWN)


def exported(run, name="onnx", precision="fp32", **options):
    settings: Any = {"latency": False, "command": "kd.export"} | options
    request = Request(name, precision, **settings)
    suffix = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}[name]
    file = run.folder / "export" / f"student-{precision}{suffix}"
    return file if file.is_file() else export(run, request)


def test_a_loaded_student_takes_texts(run):
    student = kd.load(run.folder)
    assert student.task == "text_classification"
    assert student.class_names == ["fruit", "pet", "tool"]
    ids = student.preprocess(TEXTS)
    assert ids.shape == (4, 12)
    assert ids[1].tolist()[7:] == [0] * 5  # [CLS] a saw , and a drill, then padding
    assert student.preprocess("the apple").shape == (1, 3)
    alone = torch.cat([student(text) for text in TEXTS])
    torch.testing.assert_close(student(ids), alone)
    batch = next(iter(run.data.test_dataloader()))
    right = (student(batch.input).argmax(1) == batch.target).float().mean()
    assert right == pytest.approx(run.result["test/acc"])
    for wrong, message in [
        (ids.float(), r"got \[4, 12\] of torch.float32"),
        (ids[:, :0], r"got \[4, 0\] of torch.int64"),
        (ids + 10**6, r"token ids 1\d+ … 1\d+ \[4, 12\]: the net has no such token"),
        (3, "takes a text or a list of texts"),
    ]:
        with pytest.raises(UserError, match=message):
            student(wrong)


@pytest.mark.parametrize(
    ("name", "precision", "tolerance"),
    [("onnx", "fp32", 1e-5), ("torch_export", "fp32", 1e-6), ("onnx", "int8", 0.5)],
)
def test_files_give_the_students_logits_for_texts_of_any_length(name, precision, tolerance, run):
    file = open_model_file(exported(run, name, precision))
    ids = run.data.arrays.test_inputs
    for length, count in ((12, len(ids)), (5, 3), (1, 1)):
        part = ids[:count, :length]
        with torch.no_grad():
            ours = run.student(part).numpy()
        np.testing.assert_allclose(file.logits(part.numpy()), ours, atol=tolerance)


def test_the_sheet_says_where_texts_become_tokens(run):
    file = exported(run)
    text = file.with_name(f"{file.name}.md").read_text()
    assert "int64 token ids [B, L], L ≤ 12, filled on the right with 0" in text
    assert f"on {len(run.data.test_targets)} texts" in text
    assert "tokenisation | outside the graph" in text
    found = json.loads(file.with_name(f"{file.name}.json").read_text())
    assert found["comparison"]["difference"] < 1e-5
    assert found["description"]["tokenizer"].startswith("SHA-256 ")


def test_what_is_not_written_for_texts_is_refused(run):
    with pytest.raises(
        UserError, match=r"plans its memory for one length.*what works: onnx \(fp32"
    ):
        export(run, Request("executorch", "fp32"))


def test_the_evaluation_speaks_of_texts(run, output):
    sheet = evaluate(run, None, None, torch.device("cpu"))
    _, student = sheet.nets
    assert student.figures["acc"] == pytest.approx(run.result["test/acc"])
    assert student.figures["agreement"] == pytest.approx(run.result["test/agreement"])
    # Twelve tokens through three widths of 5 filters over 8 numbers, and one linear layer
    assert student.cost.macs == 12 * 8 * 5 * (3 + 4 + 5) + 15 * 3
    text = markdown(sheet, [])
    assert "Robustness is left out: noise, blur" in text
    assert "image" not in text
    assert "texts/s, batch 64" in text
    images = FinishedRun(finished_run("ce", output), "baseline")
    with pytest.raises(
        UserError, match=r"baseline=.*is image_classification, and that of data=text"
    ):
        evaluate(run, images, None, torch.device("cpu"))


@pytest.mark.slow
def test_an_encoder_is_loaded_without_its_folder(output, tmp_path):
    """Two of three layers, cut out of a folder that is gone afterwards."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 16, "vocab_size": 200, "max_position_embeddings": 12}
    transformers.BertModel(transformers.BertConfig(**sizes)).save_pretrained(tmp_path / "bert")
    options = ["student=hf", f"student.net.path={tmp_path / 'bert'}", "student.net.layers=[0,2]"]
    nets = ["teacher.net.dim=8", "teacher.net.depth=1"]
    run = FinishedRun(finished_texts(output, *options, nets=(*nets,)), trust=OWN)
    (tmp_path / "bert").rename(tmp_path / "away")
    with torch.no_grad():
        ours = kd.load(run.folder)(TEXTS).numpy()
    file = open_model_file(exported(run))
    np.testing.assert_allclose(file.logits(run.student.preprocess(TEXTS).numpy()), ours, atol=1e-5)


@pytest.fixture
def predict(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KD_FULL_ERROR", "0")

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["kd.predict", *words])
        code = 0
        try:
            kd.predict.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
            capsys.readouterr() if code == 1 else None
            return code, str(end.code) + capsys.readouterr().err
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def records(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_runs_and_files_give_the_same_predictions(predict, run, tmp_path):
    (tmp_path / "lines.txt").write_bytes(b"the apple\n\na \xff drill\r\ndog, cat\r\n")
    words = ["texts=lines.txt", "It's a [saw", "fig = pear", "trust=true"]
    code, said = predict(f"run={run.folder}", *words, "teacher=true", "output=a.csv")
    assert code == 2
    assert "skipped: lines.txt, line 2: it is empty" in said
    assert "skipped: lines.txt, line 3: the byte 0xff" in said
    assert predict(f"run={exported(run)}", *words[:-1], "output=b.csv")[0] == 2
    ours, theirs = records(tmp_path / "a.csv"), records(tmp_path / "b.csv")
    assert [row["text"] for row in ours] == ["the apple", "dog, cat", "It's a [saw", "fig = pear"]
    assert [row["place"] for row in ours][1:3] == ["lines.txt, line 4", "text 2"]
    student = kd.load(run.folder)
    for row, other in zip(ours, theirs, strict=True):
        probabilities = student(row["text"]).softmax(1)[0].detach()
        assert row["class"] == other["class"] == student.class_names[int(probabilities.argmax())]
        assert float(row["probability"]) == pytest.approx(float(probabilities.max()), abs=1e-6)
        assert float(other["probability"]) == pytest.approx(float(row["probability"]), abs=1e-5)
        assert row["teacher_class"] in student.class_names


def test_tables_have_a_column_of_texts(tmp_path):
    (tmp_path / "a.tsv").write_text('id\tbody\n1\t"two\nlines"\n2\t\n3\tfor\tone\n')
    (tmp_path / "b.jsonl").write_text('{"body": "one"}\n{"body": 3}\nno\n')
    skipped: list[tuple[str, str]] = []
    given = [str(tmp_path / name) for name in ("a.tsv", "b.jsonl")]
    lines = [*TextLines(given, "body").lines(lambda *each: skipped.append(each))]
    assert [line.text for line in lines] == ["two\nlines", "one"]
    assert [place.rpartition("/")[2] for place, _ in skipped] == [
        "a.tsv, line 4",
        "a.tsv, line 5",
        "b.jsonl, line 2",
        "b.jsonl, line 3",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["texts=lins.txt"], "texts=lins.txt is no file; did you mean 'lines.txt'?"),
        (["texts=t.csv"], "has no column text_column=text; did you mean 'texts'?"),
        (["texts=lines.txt", "encoding=utf8x"], "encoding=utf8x: must be one of Python's"),
        (["texts=lines.txt", "draw=x"], "draw=x: texts have no boxes; remove draw="),
        (["texts=lines.txt", "images=."], "images= and texts= are given"),
        (["images=."], "classifies texts, and images= is given; give texts=FILE"),
        (["texts=empty.txt"], "there is no text; lines skipped"),
    ],
)
def test_mistakes_are_one_message(words, message, predict, run, tmp_path):
    (tmp_path / "lines.txt").write_text("one")
    (tmp_path / "t.csv").write_text("texts\none\n")
    (tmp_path / "empty.txt").write_text("\n \n")
    picture(0).save(tmp_path / "photo.png")
    code, said = predict(f"run={exported(run)}", *words)
    assert code == 1
    assert message in said
    assert not (tmp_path / "predictions.csv").exists()
