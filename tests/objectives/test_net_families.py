"""Every method distils between nets of different families; minutes, so slow."""

import json

import pytest
from commands import Command

from kd.config.compose import CONF_DIR

METHODS = sorted(path.stem for path in (CONF_DIR / "method").glob("*.yaml"))
# The last map of DenseNet is 1×1 on 8×8 digits; CWD normalises over positions and needs several.
NEEDS = {"fsp": ["method.variant=project"], "cwd": ["method.tap=stage3"]}
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
