"""Export of finished runs."""

import errno
import json
import shutil

import numpy as np
import pytest
import torch
from finished_runs import finished_run

import kd
from kd.deploy.exporting import export as exporting
from kd.deploy.exporting.export import Request, export
from kd.deploy.exporting.sheet import hash_of
from kd.deploy.finished_run import FinishedRun
from kd.deploy.runtimes.open import open_model_file
from kd.errors import UserError
from kd.io.checksums import read_intact
from kd.io.run_folder import RunFolder

QUICK = {"latency": False, "command": "python -m kd.export"}


def request(name="torch_export", precision="fp32", **options):
    return Request(name, precision, **{**QUICK, **options})


def exported(output, kind="kd", *overrides, **options):
    folder = finished_run(kind, output, *overrides)
    return FinishedRun(folder), export(FinishedRun(folder), request(**options))


@pytest.fixture
def empty(output, tmp_path):
    """A copy of a run without exports."""
    folder = output / "runs" / tmp_path.name
    shutil.copytree(finished_run("kd", output), folder, ignore=shutil.ignore_patterns("export"))
    return folder


def test_the_sheet_states_what_was_compared(output):
    run, file = exported(output)
    found = read_intact(file.with_name("student-fp32.pt2.json"))
    assert found is not None
    assert found["bytes"] == file.stat().st_size
    assert found["files"] == {file.name: hash_of(file)}
    assert found["comparison"]["images"] == len(run.data.test_targets)
    assert found["comparison"]["accuracy"] == pytest.approx(run.result["test/acc"])
    assert found["comparison"]["difference"] < 1e-5
    assert found["description"]["class_names"] == run.data.class_names
    assert found["description"]["git_commit"] == run.result["git_commit"]
    assert found["command"] == "python -m kd.export"
    text = file.with_name("student-fp32.pt2.md").read_text()
    assert f"{run.result['test/acc']:.4f} on {len(run.data.test_targets)} images" in text
    assert all(RunFolder(run.folder).is_own(path) for path in file.parent.iterdir())


@pytest.mark.parametrize(
    "kind",
    ["simkd", *(pytest.param(k, marks=pytest.mark.slow) for k in ("online", "byot", "ensemble"))],
)
def test_students_of_every_kind_of_run(kind, output):
    run, file = exported(output, kind)
    images = exporting.raw_test_images(run.data)[:9]
    with torch.no_grad():
        ours = run.student(images).numpy()
    np.testing.assert_allclose(open_model_file(file).logits(images.numpy()), ours, atol=1e-5)


def test_simkd_loads_its_exported_weights_with_its_net(output):
    _, file = exported(output, "simkd", name="safetensors")
    with pytest.raises(UserError, match="no constructor builds this net"):
        kd.load(file)


def test_half_precision_halves_the_weights(output):
    sizes = [exported(output, name="safetensors", precision=p)[1] for p in ("fp32", "fp16")]
    full, half = (path.stat().st_size for path in sizes)
    assert half < 0.75 * full  # names and shapes of the tensors are the same text


def test_an_earlier_export_is_replaced_and_nothing_else(empty):
    file = export(FinishedRun(empty), request("safetensors"))
    assert export(FinishedRun(empty), request("safetensors")) == file
    file.write_bytes(b"of the user")
    with pytest.raises(UserError, match="exists and is not an earlier export"):
        export(FinishedRun(empty), request("safetensors"))
    assert file.read_bytes() == b"of the user"
    file.unlink()
    with pytest.raises(UserError, match=r"json is in the way"):
        export(FinishedRun(empty), request("safetensors"))


def test_the_suffix_belongs_to_the_format(empty, tmp_path):
    with pytest.raises(UserError, match=r"a file of format=onnx ends in \.onnx"):
        export(FinishedRun(empty), request("onnx", output=tmp_path / "a.pt2"))
    (tmp_path / "a.pt2").mkdir()
    with pytest.raises(UserError, match="is a folder or a link"):
        export(FinishedRun(empty), request(output=tmp_path / "a.pt2"))


def test_a_file_that_does_not_agree_is_not_written_without_force(empty, monkeypatch):
    monkeypatch.setitem(exporting.comparing.TOLERANCES, "fp16", 1e-9)
    with pytest.raises(UserError, match=r"not written: its logits differ .*force=true"):
        export(FinishedRun(empty), request("safetensors", "fp16"))
    assert not (empty / "export").exists()
    file = export(FinishedRun(empty), request("safetensors", "fp16", force=True))
    assert "written with force=true" in file.with_name(f"{file.name}.md").read_text()


def test_a_full_disk_leaves_nothing(empty, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "x")

    monkeypatch.setattr(exporting, "as_json", full)
    with pytest.raises(OSError, match="No space left"):
        export(FinishedRun(empty), request("safetensors"))
    assert not (empty / "export").exists()


def test_own_modules_and_unknown_normalisation_are_refused(empty, monkeypatch):
    run = FinishedRun(empty)
    run.student.normalisation = None
    with pytest.raises(UserError, match="does not say how its images were normalised"):
        export(run, request())
    assert not (empty / "export").exists()


def test_a_sheet_is_readable_json(empty):
    file = export(FinishedRun(empty), request("safetensors", latency=True))
    found = json.loads(file.with_name(f"{file.name}.json").read_text())
    assert [each["batch"] for each in found["latency"]] == [1, 64]
    assert "images/s" in file.with_name(f"{file.name}.md").read_text()
