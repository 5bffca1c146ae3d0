"""Text classification through the command line."""

import json

import pytest
import torch

TEXT = ("data=text", "data.max_length=16", "teacher.net.dim=16")


def result(output, **keys):
    found = [json.loads(p.read_text()) for p in output.glob("runs/*/result.json")]
    (match,) = [r for r in found if all(r[key] == value for key, value in keys.items())]
    return match


@pytest.mark.parametrize(
    ("method", "source", "forwards"),
    [("kd", "trained now", 128 + 850), ("soft_ce", "reused", 0), ("minilm", "reused", 128)],
)
def test_a_teacher_is_trained_once_and_its_outputs_are_cached(
    train, output, method, source, forwards
):
    """Two batches of 64, and the test set: logits once, and layers when they are first needed."""
    nets = ["student=transformer_mini_2", "student.net.dim=8"]
    figures = f"figures={str(method == 'soft_ce').lower()}"
    ended = train(*TEXT, *nets, f"method={method}", "data.cache_dir=${paths.output}/texts", figures)
    assert ended.returncode == 0, ended.stderr
    assert ("attention_4" in ended.stdout) == (method == "minilm")
    found = result(output, method=method)
    assert found["task"] == "text_classification"
    assert [*output.glob(f"runs/*{method}_*/figures/confusion.png")] or method != "soft_ce"
    assert found["teacher/source"] == source
    assert found["teacher_forwards"] == pytest.approx(forwards, abs=20)


@pytest.mark.parametrize("mode", ["online", "pskd"])
def test_modes_without_a_teacher(train, output, mode):
    settings = [setting for setting in TEXT if not setting.startswith("teacher")]
    ended = train(*settings, f"mode={mode}", "data.cache_dir=${paths.output}/texts")
    assert ended.returncode == 0, ended.stderr
    assert result(output, mode=mode)["student"] == "text_cnn"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=ofd"], "method.objectives.overhaul: "),
        (["method=tinybert"], "layer_1, layer_2"),
        (["student=resnet8"], "student=resnet8: a net for image classification"),
        (["data=digits", "teacher=resnet8", "student=resnet8", "method=pkd"], "method.objectives"),
        (["data.root=/nowhere"], "data.root=/nowhere"),
    ],
)
def test_what_does_not_fit_is_refused(train, overrides, message):
    ended = train("data=text", *overrides)
    assert ended.returncode == 1
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_table_of_ones_own_is_learnt(train, output, tmp_path):
    torch.manual_seed(0)
    kinds = {"fruit": "apple pear plum fig", "tool": "saw drill file rasp"}
    rows = ["text,label"]
    for number in range(200):
        label = [*kinds][number % 2]
        word = kinds[label].split()[number // 2 % 4]
        rows.append(f"a {word} on the table in room {number},{label}")
    (tmp_path / "own.csv").write_text("\n".join(rows))
    ended = train(
        *("data=text", f"data.root={tmp_path / 'own.csv'}", "data.name=own", "method=ce"),
        *("trainer=cpu", "trainer.max_epochs=6", "optimizer.lr=0.01", "data.batch_size=16"),
        *("data.cache_dir=${paths.output}/texts", "trainer.enable_progress_bar=false"),
        tiny=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert result(output, data="own")["test/acc"] > 0.9
