"""What a config may call: known packages, and those that the environment allows."""

import pytest
from omegaconf import OmegaConf
from support import composed

from kd.build.instantiate import make
from kd.errors import UserError
from kd.validation.check import check_config

HOSTILE = [
    *("os.system", "subprocess.Popen", "builtins.eval", "hostile.net", "hydra.utils.instantiate"),
    *(
        "kd.config.command.os.system",
        "torch.os.system",
        "kd.io.provenance.subprocess.run",
        "kd.config.command.hydra.main",
    ),
    *(
        "torch.load",
        "torch.hub.load",
        "torch.serialization.pickle.loads",
        "kd.build.parts.get_object",
    ),
    *("kd.config.command.os.system.__call__", "torch.utils.collect_env.run", "torch.load.__call__"),
]


@pytest.mark.parametrize("target", HOSTILE)
def test_a_forbidden_target_is_not_imported(target, tmp_path, monkeypatch):
    (tmp_path / "hostile.py").write_text("raise SystemExit('imported')\ndef net(): ...")
    monkeypatch.syspath_prepend(tmp_path)
    message = "may call kd, torch|executes code that it loads|plain function|neither a class"
    with pytest.raises(UserError, match=f"optimizer._target_={target}: .*({message})"):
        check_config(composed(f"optimizer._target_={target}"))


def test_targets_outside_the_checked_config_are_checked_when_they_are_called():
    """Peers and members name models, whose configs are composed after the check."""
    net = OmegaConf.create({"_target_": "torch.nn.Linear", "bias": {"_target_": "os.getcwd"}})
    with pytest.raises(UserError, match=r"mode.peers=evil: a config may call kd, torch"):
        make(net, "mode.peers=evil")


def test_packages_can_be_added(tmp_path, monkeypatch):
    code = "from torch.optim import SGD\nclass Mine(SGD): ..."
    (tmp_path / "mine_of_a_test.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    override = "optimizer._target_=mine_of_a_test.Mine"
    with pytest.raises(UserError, match="KD_ALLOW_TARGETS=mine_of_a_test"):
        check_config(composed(override))
    monkeypatch.setenv("KD_ALLOW_TARGETS", "other, mine_of_a_test")
    check_config(composed(override))
