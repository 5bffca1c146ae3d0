"""Export of finished runs."""

import json
import resource
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from commands import ROOT
from finished_runs import finished_run

import kd
from kd.deploy.evaluation.predictions import raw_test_images
from kd.deploy.exporting.compare import TOLERANCES
from kd.deploy.exporting.export import export
from kd.deploy.exporting.formats import FORMATS
from kd.deploy.exporting.model_file import open_model
from kd.deploy.exporting.placement import files_of
from kd.deploy.exporting.request import Request
from kd.deploy.exporting.sheet import hash_of
from kd.deploy.finished_run import FinishedRun
from kd.deploy.runtimes.open import open_model_file
from kd.errors import UserError
from kd.io.checksums import read_intact
from kd.io.run_folder import RunFolder

QUICK = {"latency": False, "command": "python -m kd.export"}
CHEAP = [("torch_export", "fp32"), ("safetensors", "fp32"), ("safetensors", "fp16")]
PAIRS = [(name, precision) for name, each in FORMATS.items() for precision in each.precisions]


def request(name="torch_export", precision="fp32", **options):
    return Request(name, precision, **{**QUICK, **options})


def exported(output, kind="kd", *overrides, **options):
    """Export a run, once for all tests of this file."""
    run, wanted = FinishedRun(finished_run(kind, output, *overrides)), request(**options)
    suffix = FORMATS[wanted.format].suffix
    file = run.folder / "export" / f"student-{wanted.precision}{suffix}"
    return run, file if file.is_file() else export(run, wanted)


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
    images = raw_test_images(run.data)[:9]
    with torch.no_grad():
        ours = run.student(images).numpy()
    np.testing.assert_allclose(open_model_file(file).logits(images.numpy()), ours, atol=1e-5)


every_pair = pytest.mark.parametrize(
    ("name", "precision"),
    [
        pair if pair in CHEAP else pytest.param(*pair, marks=slow)
        for slow in [pytest.mark.slow]
        for pair in PAIRS
    ],
)


@pytest.mark.filterwarnings("ignore")
@every_pair
def test_a_file_holds_no_path_of_this_machine(name, precision, output):
    for package in FORMATS[name].packages:
        pytest.importorskip(package)
    _, file = exported(output, "kd", "method.temperature=20", name=name, precision=precision)
    content = b"".join(path.read_bytes() for path in files_of(file))
    assert not [word for word in (str(ROOT), torch.__path__[0]) if word.encode() in content]


@pytest.mark.filterwarnings("ignore")
@every_pair
def test_batches_of_any_size(name, precision, output):
    for package in FORMATS[name].packages:
        pytest.importorskip(package)
    run, file = exported(output, "kd", "method.temperature=20", name=name, precision=precision)
    opened, images = open_model(file, name, run.student), raw_test_images(run.data).numpy()
    everything = opened.logits(images[:200])
    for size in (1, 3, 64, 65):
        np.testing.assert_allclose(opened.logits(images[:size]), everything[:size], atol=2e-2)


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
    monkeypatch.setitem(TOLERANCES, "fp16", 1e-9)
    with pytest.raises(UserError, match=r"not written: its logits differ .*force=true"):
        export(FinishedRun(empty), request("safetensors", "fp16"))
    assert not (empty / "export").exists()
    file = export(FinishedRun(empty), request("safetensors", "fp16", force=True))
    assert "written with force=true" in file.with_name(f"{file.name}.md").read_text()


@contextmanager
def files_of_at_most(size):
    """Refuse longer files, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.filterwarnings("ignore")
@every_pair
def test_a_full_disk_leaves_nothing(name, precision, empty):
    for package in FORMATS[name].packages:
        pytest.importorskip(package)
    run = FinishedRun(empty)
    with (
        files_of_at_most(10_000),
        pytest.raises(UserError, match=f"output={empty}/export/student-.* cannot be written: "),
    ):
        export(run, request(name, precision))
    assert not (empty / "export").exists()


def test_unknown_normalisation_is_refused(empty, monkeypatch):
    run = FinishedRun(empty)
    run.student.normalisation = None
    with pytest.raises(UserError, match="does not say how its images were normalised"):
        export(run, request())
    assert not (empty / "export").exists()


def test_the_sheet_has_the_latency_at_two_batch_sizes(empty):
    file = export(FinishedRun(empty), request("safetensors", latency=True))
    found = json.loads(file.with_name(f"{file.name}.json").read_text())
    assert [each["batch"] for each in found["latency"]] == [1, 64]
    assert "images/s" in file.with_name(f"{file.name}.md").read_text()
