"""The case of a phone, `experiment=mobile`: what it trains."""

import pytest
from support import composed, present

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
def test_a_resnet50_teaches_a_mobilenet(mobile):
    done = FinishedRun(mobile)
    assert done.result["status"] == "completed"
    assert (done.result["teacher"], done.result["student"]) == ("resnet50", "mobilenet_v2")
    assert done.result["student/params"] < present(done.result["teacher/params"])
    metadata = done.student.metadata
    assert metadata is not None
    assert metadata["architecture"] is not None
    assert metadata["architecture"]["target"] == "kd.models.mobilenet_v2.mobilenet_v2"
