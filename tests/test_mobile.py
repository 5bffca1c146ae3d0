"""The case of a phone, `experiment=mobile`, from the training to the exported file."""

import csv
import json

import pytest
from commands import Command
from PIL import Image
from support import composed, present

from kd.deploy.evaluation.predictions import raw_test_images
from kd.deploy.finished_run import FinishedRun
from kd.training.run import run

# The experiment's nets, on the digits and an eighth as wide
TINY = (
    *("experiment=mobile", "data=digits", "data.batch_size=128"),
    *("teacher.net.width=0.125", "student.net.width=0.125"),
    *("trainer=cpu", "trainer.enable_progress_bar=false", "logger=none"),
    *("trainer.max_epochs=1", "teacher.training.trainer.max_epochs=1"),
)


@pytest.fixture(scope="module")
def mobile(output):
    folder = output / "runs" / "mobile"
    run(composed(*TINY, f"paths.run={folder}", f"paths.output={output}"), folder, overrides=TINY)
    return folder


def test_the_experiment_is_the_documents_case():
    cfg = composed("experiment=mobile")
    assert (cfg.teacher.name, cfg.student.name, cfg.data.name) == (
        "resnet50",
        "mobilenet_v2",
        "cifar10",
    )
    assert (cfg.method.name, cfg.method.temperature, cfg.method.alpha) == ("kd", 3.0, 0.7)
    assert cfg.method.weights.hard == pytest.approx(0.3)
    # The teacher keeps the learning rate of residual nets.
    assert (cfg.optimizer.lr, cfg.teacher.training.optimizer.lr) == (0.01, 0.05)
    assert composed("experiment=mobile", "method=dkd").method.name == "dkd"


@pytest.mark.slow
def test_the_flow_from_the_run_to_the_device(mobile, tmp_path):
    done = FinishedRun(mobile)
    assert (done.result["teacher"], done.result["student"]) == ("resnet50", "mobilenet_v2")
    assert done.result["student/params"] < present(done.result["teacher/params"])

    small, file = mobile.with_name("mobile_small"), tmp_path / "student.onnx"
    images = raw_test_images(done.data)[:40]
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(tmp_path / "photos" / f"{number:02}.png")

    def succeed(command: str, *words: str) -> str:
        answer = Command(f"kd.{command}", *words).ended()
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    evaluation = tmp_path / "evaluation"
    succeed(
        "evaluate", f"run={mobile}", f"output={evaluation}", "figures=false", "robustness=false"
    )
    assert (evaluation / "evaluation.html").is_file()
    succeed("compress", f"run={mobile}", "max_drop=100", "max_epochs=1", f"output={small}")
    assert (small / "export" / "student-int8.onnx").is_file()
    parameters = [FinishedRun(run).result["student/params"] for run in (mobile, small)]
    assert parameters[1] < 0.5 * parameters[0]
    onnx = ("format=onnx", "precision=int8", "max_drop=5", f"output={file}", "latency=false")
    succeed("export", f"run={small}", *onnx)
    sheet = json.loads((tmp_path / "student.onnx.json").read_text())
    assert sheet["description"]["precision"] == "int8"
    assert sheet["comparison"]["images"] == len(done.data.test_targets)

    def predicted(run: object, output: str, *words: str) -> list[dict[str, str]]:
        path = tmp_path / output
        photos = f"images={tmp_path / 'photos'}"
        succeed("predict", f"run={run}", photos, f"output={path}", *words)
        with path.open(newline="") as stream:
            return list(csv.DictReader(stream))

    # The file answers as the student that it was made from, and a run beside its teacher.
    rounded, exact = predicted(file, "file.csv"), predicted(small, "run.csv")
    same = [a["class"] == b["class"] for a, b in zip(rounded, exact, strict=True)]
    assert sum(same) >= 0.8 * len(images)
    assert len(predicted(mobile, "teacher.csv", "teacher=true")[0]) > len(exact[0])
