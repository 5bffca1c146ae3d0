"""Every method distils between nets of different families; minutes, so slow."""

import json

import pytest
from commands import Command
from support import OTHER_METHODS

from kd.config.compose import CONF_DIR

METHODS = sorted({path.stem for path in (CONF_DIR / "method").glob("*.yaml")} - {*OTHER_METHODS})
TEACHERLESS = ("ce", "tfkd")
# FSP pairs nets with different channels only if it projects them.
NEEDS = {
    "fsp": ["method.variant=project"],
    "datafree": ["method.initial=1", "method.count=16", "method.steps=2"],  # else minutes
}
PAIRS = [("vgg8", "resnet8"), ("densenet121_half", "mobilenet_v2"), ("resnet18", "resnet8")]


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_all_methods_distil_between_any_families(pair, tmp_path):
    teacher, student = pair
    together = ",".join(method for method in METHODS if method not in NEEDS)
    jobs = [[f"method={together}"], *([f"method={name}", *knobs] for name, knobs in NEEDS.items())]
    for number, overrides in enumerate(jobs):
        command = [
            *("kd.train", "-m", f"teacher={teacher}", f"student={student}"),
            *("trainer=cpu", "debug=fast", "trainer.enable_progress_bar=false", *overrides),
            *(f"paths.output={tmp_path}", f"hydra.sweep.dir={tmp_path / str(number)}"),
        ]
        completed = Command(*command).ended(timeout=900)
        assert completed.returncode == 0, completed.stderr
    found = [json.loads(path.read_text()) for path in tmp_path.glob("[0-9]/*/result.json")]
    assert sorted(result["method"] for result in found) == METHODS
    assert {result["status"] for result in found} == {"completed"}
    taught = [result for result in found if result["method"] not in TEACHERLESS]
    assert {result["teacher"] for result in taught} == {teacher}
    sources = [result["teacher/source"] for result in taught]
    assert sorted(set(sources)) == ["reused", "trained now"]
    assert sources.count("trained now") == 1
