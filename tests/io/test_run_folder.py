"""Only `RunFolder` spells out the names of files in a run's folder."""

import ast
from pathlib import Path

from kd.io.run_folder import RunFolder

KD = Path(__file__).resolve().parents[2] / "kd"
MODULES = [path for path in sorted(KD.rglob("*.py")) if path.name != "run_folder.py"]
FILES = (
    *("config.yaml", "overrides.yaml", "result.json", "student.safetensors"),
    "test_predictions.safetensors",
    *("last.ckpt", "best.ckpt", "metrics.csv"),
)
FOLDERS = ("checkpoints", "epochs", "csv", ".hydra", ".lock")


def spelled_out(tree: ast.Module) -> list[str]:
    """Constants that are such a file's path, and those that `/` appends as such a folder."""
    nodes = list(ast.walk(tree))
    values = [n.value for n in nodes if isinstance(n, ast.Constant)]
    files = [v for v in values if isinstance(v, str) and v.rpartition("/")[2] in FILES]
    divisions = [
        n for n in ast.walk(tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div)
    ]
    appended = [n.right.value for n in divisions if isinstance(n.right, ast.Constant)]
    return files + [value for value in appended if value in FOLDERS]


def test_no_other_module_names_the_files():
    found = {path.relative_to(KD): spelled_out(ast.parse(path.read_text())) for path in MODULES}
    assert {str(path): names for path, names in found.items() if names} == {}


def test_spelled_out_names_are_noticed():
    code = "a / 'checkpoints' / 'last.ckpt'; f'{b}/result.json'; {'csv', 'epochs'}"
    assert spelled_out(ast.parse(code)) == ["last.ckpt", "/result.json", "checkpoints"]


def test_files_lie_where_other_tools_look_for_them(tmp_path):
    folder = RunFolder(tmp_path)
    paths = {
        "config": ".hydra/config.yaml",
        "overrides": ".hydra/overrides.yaml",
        "result": "result.json",
        "weights": "student.safetensors",
        "test_predictions": "test_predictions.safetensors",
        "last": "checkpoints/last.ckpt",
        "best": "checkpoints/best.ckpt",
        "metrics": "csv/metrics.csv",
        "figures": "figures",
        "lock": ".lock",
    }
    for name, path in paths.items():
        assert getattr(folder, name) == tmp_path / path
    assert folder.epoch(12) == tmp_path / "epochs" / "epoch_0012.safetensors"
    assert folder.weights_of("peer1") == tmp_path / "peer1.safetensors"


def test_saved_epochs_are_those_on_disk(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.saved_epochs() == []
    folder.epochs.mkdir()
    for name in ("epoch_0010.safetensors", "epoch_0002.safetensors", ".epoch_0003.1.tmp"):
        (folder.epochs / name).touch()
    assert folder.saved_epochs() == [2, 10]
