"""The trained peer of a run with jointly trained nets, as the teacher of the compressed student."""

from omegaconf import DictConfig, OmegaConf

from kd.build.parts import distiller_class, peer_configs
from kd.config.compose import CONF_DIR
from kd.deploy.finished_run import FinishedRun
from kd.errors import UserError
from kd.io.run_folder import RunFolder

_FILES = ("peer1", "branch1")  # weights of the first other net, by mode


def taught_by_peer(cfg: DictConfig, run: FinishedRun) -> None:
    """Turn a run of jointly trained nets into one with a pretrained teacher, in place.

    The nets of such a run teach each other, and the first other one of them is trained when the run
    has finished: it teaches the compressed student as any teacher does. Other runs stay as they
    are.

    Args:
        cfg: the config of the new run.
        run: the finished run.

    Raises:
        UserError: the weights of the other nets are not there.
    """
    if distiller_class(cfg).teacher_kind != "peers":
        return
    files = [file for name in _FILES if (file := RunFolder(run.folder).weights_of(name)).is_file()]
    if not files:
        raise UserError(
            f"run={run.folder}: the nets of mode={cfg.mode.name} teach each other, and the weights "
            f"of the others ({_FILES[0]}.safetensors) are not there any more; restore them"
        )
    peer = peer_configs(cfg)[0]
    cfg.mode = OmegaConf.load(CONF_DIR / "mode" / "offline.yaml")
    cfg.teacher.name, cfg.teacher.net, cfg.teacher.taps = peer.name, peer.net, peer.taps
    cfg.teacher.checkpoint, cfg.teacher.epoch = str(files[0]), None
    if cfg.teacher.get("mean") is None and (given := run.data.normalisation) is not None:
        cfg.teacher.mean, cfg.teacher.std = ([float(x) for x in each] for each in given)
