"""Commands on a stranger's folder: nothing of it runs, and nothing outside of it is written."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import ROOT, Command
from omegaconf import OmegaConf, open_dict
from support import composed

import kd
from kd.config.record import write_record
from kd.io.run_folder import RunFolder
from kd.training.run import run

SMALL = ("teacher=resnet8", "student=resnet8", "student.net.width=0.5", "method=ce", "seed=1")
ELASTIC = "torch.distributed.elastic"


def routes(folder: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Classes and functions of allowed-looking packages that run code or change files."""
    mark, file = str(folder / "mark"), str(folder / "precious")
    handler = f"{ELASTIC}.multiprocessing.subprocess_handler.subprocess_handler.SubprocessHandler"
    return {
        "a program, and a file that it truncates": (
            "callbacks.x",
            {
                "_target_": handler,
                "entrypoint": "touch",
                "args": [mark],
                "env": {},
                "stdout": file,
                "stderr": file,
                "local_rank_id": 0,
                "numa_options": None,
            },
        ),
        "a shared library": (
            "callbacks.x",
            {
                "_target_": "torch.cuda.memory.CUDAPluggableAllocator",
                "path_to_so_file": mark,
                "alloc_fn_name": "a",
                "free_fn_name": "b",
            },
        ),
        "a statement": (
            "logger.x",
            {
                "_target_": "torch.utils.benchmark.Timer",
                "stmt": "1",
                "setup": f"open({mark!r}, 'w')",
                "global_setup": f"open({mark!r}, 'w')",
            },
        ),
        "a pickle": (
            "student.net.state",
            {
                "_target_": "timm.models._helpers.load_state_dict",
                "checkpoint_path": str(folder / "evil.pt"),
                "weights_only": False,
            },
        ),
        "a file that is deleted": (
            "trainer.plugins",
            {
                "_target_": f"{ELASTIC}.timer.FileTimerServer",
                "file_path": file,
                "run_id": "x",
                "max_interval": 1,
            },
        ),
        "a function of kd that writes": (
            "scheduler",
            {"_target_": "kd.config.record.write_record", "folder": mark, "cfg": {}},
        ),
    }


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.mark,)


@pytest.fixture(scope="module")
def cfg() -> Any:
    return composed(*SMALL, "paths.run=elsewhere")


@pytest.fixture
def folder(tmp_path, cfg) -> Path:
    (tmp_path / "precious").write_text("precious")
    torch.save(Evil(str(tmp_path / "mark")), tmp_path / "evil.pt")
    write_record(tmp_path / "runs" / "a", cfg, ["method=ce"])
    return tmp_path


def untouched(folder: Path) -> bool:
    return not (folder / "mark").exists() and (folder / "precious").read_text() == "precious"


@pytest.mark.parametrize("route", routes(Path()))
def test_no_class_of_a_record_is_built(route, folder, train):
    place, node = routes(folder)[route]
    files = RunFolder(folder / "runs" / "a")
    cfg = OmegaConf.load(files.config)
    with open_dict(cfg):
        OmegaConf.update(cfg, place, node, merge=False, force_add=True)
    files.config.write_text(OmegaConf.to_yaml(cfg))
    ended = train(f"resume={files.root}", tiny=False)
    assert ended.returncode == 1, ended.stdout
    assert ended.stderr.startswith(f"error: resume={files.root}: its record")
    assert f"{place}._target_={node['_target_']}: " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert untouched(folder)


@pytest.mark.slow
def test_no_override_and_no_folder_of_a_record_is_used(folder, train):
    """Recorded overrides, the record's own part for Hydra, and the folder that one names."""
    files, theirs = RunFolder(folder / "runs" / "a"), folder / "theirs"
    evil = {"_target_": "os.mkdir", "path": str(folder / "mark")}
    words = [f"+hydra.callbacks.x={{_target_: os.mkdir, path: {folder / 'mark'}}}"]
    words += [f"--config-dir={theirs}", "++hydra.job.env_set={KD_OF_A_STRANGER: 1}"]
    files.overrides.write_text("".join(f"- {word!r}\n" for word in words))
    part = {"hydra": {"callbacks": {"x": evil}, "searchpath": [f"file://{theirs}"]}}
    (files.root / ".hydra" / "hydra.yaml").write_text(OmegaConf.to_yaml(part))
    (theirs / "hydra" / "callbacks").mkdir(parents=True)
    (theirs / "method").mkdir()
    (theirs / "method" / "ce.yaml").write_text("name: theirs")
    (theirs / "hydra" / "callbacks" / "default.yaml").write_text(OmegaConf.to_yaml({"x": evil}))
    for flags in ((), ("-m",)):
        where = "hydra.sweep.dir" if flags else "hydra.run.dir"
        ended = train(*flags, f"resume={files.root}", f"{where}={folder / 'new'}", tiny=False)
        # The record itself is harmless: it only lacks a checkpoint.
        assert ended.returncode == 1
        assert "there is no checkpoint" in ended.stderr, ended.stderr
        assert untouched(folder)
    content = files.config.read_text()
    for more in (part, {"defaults": [{"override hydra/callbacks": "default"}]}):
        files.config.write_text(content + OmegaConf.to_yaml(more))
        ended = train(f"resume={files.root}", tiny=False)
        assert "should be the config of a run, without Hydra's own" in ended.stderr
        assert untouched(folder)


def test_no_environment_variable_widens_what_a_record_may_name(folder, train, tmp_path):
    """Not even the user's own, nor one that the command sets."""
    (tmp_path / "hostile_of_a_test.py").write_text(f"open({str(folder / 'mark')!r}, 'w')")
    files = RunFolder(folder / "runs" / "a")
    cfg = OmegaConf.load(files.config)
    cfg.student.net._target_ = "hostile_of_a_test.Net"
    files.config.write_text(OmegaConf.to_yaml(cfg))
    name = "_".join(("KD", "ALLOW", "TARGETS"))
    widen = f"++hydra.job.env_set={{{name}: hostile_of_a_test}}"
    own = {name: "hostile_of_a_test", "PYTHONPATH": str(tmp_path)}
    ended = train(f"resume={files.root}", widen, tiny=False, **own)
    assert "student.net._target_=hostile_of_a_test.Net: neither conf/ nor" in ended.stderr
    assert untouched(folder)
    code = f"{ROOT}/kd", f"{ROOT}/conf", f"{ROOT}/scripts"
    texts = [
        p for root in code for p in Path(root).rglob("*") if p.suffix in (".py", ".yaml", ".md")
    ]
    assert [path for path in texts if name in path.read_text()] == []


# Folders of finished runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    cfg = composed(
        *SMALL, "trainer=cpu", "debug=fast", "trainer.enable_progress_bar=false",
        f"paths.run={folder}", f"paths.output={folder}", "logger=none",
    )  # fmt: skip
    run(cfg, folder)
    return folder


@pytest.fixture
def hostile(finished, folder) -> RunFolder:
    """A finished run whose record and other files name what must not run."""
    files = RunFolder(folder / "theirs")
    shutil.copytree(finished, files.root)
    cfg = OmegaConf.load(files.config)
    with open_dict(cfg):
        for place, node in routes(folder).values():
            OmegaConf.update(cfg, place, node, merge=False, force_add=True)
        cfg.student.net._target_ = "os.mkdir"
    files.config.write_text(OmegaConf.to_yaml(cfg))
    return files


def test_loading_a_strangers_student_runs_nothing(hostile, folder):
    student = kd.load(hostile.root)
    assert student(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    assert untouched(folder)


@pytest.mark.slow
def test_a_strangers_run_as_teacher_and_in_a_report_runs_nothing(hostile, folder, train):
    small = ("teacher=resnet8", "teacher.net.width=0.5", "student=resnet8", "student.net.width=0.5")
    checkpoint = f"teacher.checkpoint={hostile.root}"
    ended = train(*small, checkpoint, f"hydra.run.dir={folder / 'mine'}", "logger=none")
    assert ended.returncode == 0, ended.stderr
    shutil.copy(folder / "evil.pt", hostile.last)
    ended = train(*small, f"teacher.checkpoint={hostile.last}", f"hydra.run.dir={folder / 'b'}")
    assert ended.returncode == 1
    ended = Command("kd.report", f"sweep={folder}", f"output={folder / 'report'}").ended()
    assert (folder / "report" / "report.html").is_file(), ended.stderr
    assert untouched(folder)


@pytest.mark.slow
def test_a_strangers_checkpoint_runs_nothing(hostile, folder, train):
    shutil.copy(folder / "evil.pt", hostile.last)
    ended = train(*SMALL, f"resume={hostile.last}", f"hydra.run.dir={folder / 'mine'}")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert untouched(folder)
