"""The tables of compression: means and intervals of hand-made measurements, and their page."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT
from compression_tables import rebuilt

SIZES = {"params": 77754, "macs": 12_500_000, "fp32/bytes": 330_000, "int8/bytes": 110_000}


def write(folder: Path, row: str, fp32: list[float], drops: list[float]) -> None:
    """Write a measurement for each seed; accuracies in percent, drops in points."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (accuracy, drop) in enumerate(zip(fp32, drops, strict=True)):
        found: dict[str, object] = {
            "row": row,
            "seed": seed,
            "fp32/acc": accuracy / 100,
            "int8/acc": (accuracy - drop) / 100,
            "drop": drop,
        }
        found |= {"agreement": 1 - drop / 50, "kl": drop / 1000}
        (folder / f"{row}_s{seed}.json").write_text(json.dumps(SIZES | found))


def table(results: Path) -> dict[str, list[str]]:
    """Rows of the printed tables by their first cell and number of cells."""
    lines = [line.strip("|").split("|") for line in rebuilt(results).splitlines() if "|" in line]
    return {f"{line[0].strip()} {len(line)}": [cell.strip() for cell in line[1:]] for line in lines}


@pytest.fixture
def results(tmp_path):
    write(tmp_path / "c" / "ways", "plain", [70.0, 72.0, 74.0], [1.0, 2.0, 3.0])
    write(tmp_path / "c" / "ways", "qat_kd", [70.5, 72.5], [0.5, 0.5])
    write(tmp_path / "c" / "methods", "ce", [60.0, 61.0, 62.0], [1.0, 2.0, 3.0])
    write(tmp_path / "c" / "methods", "kd", [65.0, 66.0, 67.0], [0.5, 1.5, 2.5])
    times = {"ms": 2.0, "low": 1.9, "high": 2.5}
    latencies = {
        "machine": "one core",
        "plain/fp32": {"batch1": {"ms": 1.0, "low": 1.0, "high": 1.0}, "batch64": times},
        "qat_kd/int8": {"batch1": times, "batch64": {"ms": 1.5, "low": 1.4, "high": 1.6}},
    }
    (tmp_path / "c" / "latencies.json").write_text(json.dumps(latencies))
    return tmp_path / "c"


def test_tables_hold_means_intervals_and_paired_differences(results):
    page = results.with_suffix(".md")
    places = [f"<!-- {name} -->\nold\n<!-- end -->" for name in ("ways", "latency", "methods")]
    page.write_text("# Compression\n\n" + "\n\nprose\n\n".join(places) + "\n\nThe end.\n")
    shown = table(results)
    sizes = ["77 754", "12 500 000", "330 000"]
    assert shown["fp32 7"] == ["3", "72.00 ± 2.00", "–", *sizes]
    # 69, 70, 71 against 70, 72, 74: −1, −2, −3; t(0.975; 2) = 4.3027, so ± 4.3027 · 1/√3 = 2.484
    less = "-2.00 [-4.48, +0.48]"
    assert shown["PTQ 7"] == ["3", "70.00 ± 1.00", less, *sizes[:2], "110 000"]
    # Seeds 0 and 1 alone: 70 − 70 and 72 − 72, without spread
    assert shown["QAT + KD 7"][:3] == ["2", "71.00 ± 1.41", "+0.00"]
    cells = shown["`kd` 8"]
    assert cells[:3] == ["3", "66.00 ± 1.00", "64.50 ± 0.00"]
    assert cells[3:5] == ["1.50 [-0.98, 3.98]", "-0.50"]
    # The agreement is 1 − drop / 50, so 2 % of images change their class for each point.
    assert cells[5:] == ["3.00 [-1.97, 7.97]", "1.50 [-0.98, 3.98]"]
    assert shown["QAT + KD 6"][1:] == ["2.00 (1.90–2.50)", "2.00", "1.50 (1.40–1.60)", "0.75"]
    text = page.read_text()
    assert text.startswith("# Compression\n\n<!-- ways -->\n\n| way |")
    assert text.count("prose") == 2
    assert text.endswith("<!-- end -->\n\nThe end.\n")
    assert "old" not in text
    assert "Machine: one core." in text
    table(results)
    assert page.read_text() == text


def test_a_page_without_a_place_is_named(results):
    results.with_suffix(".md").write_text("# Compression\n")
    with pytest.raises(SystemExit, match=r"error: .* no place for a table: <!-- ways -->"):
        rebuilt(results)
    assert results.with_suffix(".md").read_text() == "# Compression\n"


COMMAND = """
scripts/compression.py digits {0} teacher=resnet8 student=resnet8 student.net.width=0.5 trainer=cpu
trainer.enable_progress_bar=false logger=none teacher.training.trainer.max_epochs=1
--results {0}/results --methods ce kd --seeds 0 --epochs 1 --more-epochs 1
--ways qat_ce pruned_qat_kd
""".split()  # noqa: SIM905


@pytest.mark.slow
def test_measurements_are_those_of_the_files_and_are_kept(tmp_path):
    command = [sys.executable, *(word.format(tmp_path) for word in COMMAND)]

    def printed() -> list[str]:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True,
            text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    first = printed()
    assert [line.split(" seed")[0] for line in first[:4]] == ["ce", "kd", "qat_ce", "pruned_qat_kd"]
    assert len([line for line in first if line.startswith("measured: ")]) == 4
    runs = {"kd": "kd_s0", "qat_ce": "ways/qat_ce_s0", "pruned": "ways/pruned_qat_kd_s0"}
    results = {
        name: json.loads((tmp_path / "runs" / folder / "result.json").read_text())
        for name, folder in runs.items()
    }
    assert (results["qat_ce"]["method"], results["pruned"]["method"]) == ("ce", "kd")
    kd, quantised, pruned = (
        json.loads((tmp_path / "results" / f"{name}.json").read_text())
        for name in ("methods/kd_s0", "ways/qat_ce_s0", "ways/pruned_qat_kd_s0")
    )
    assert kd["fp32/acc"] == pytest.approx(results["kd"]["test/acc"], abs=1e-6)
    assert kd["drop"] == pytest.approx(100 * (kd["fp32/acc"] - kd["int8/acc"]))
    assert kd["int8/bytes"] < 0.7 * kd["fp32/bytes"]
    assert 0.5 < kd["agreement"] <= 1
    assert kd["kl"] > 0
    assert pruned["params"] < 0.5 * kd["params"]
    assert pruned["macs"] < 0.5 * kd["macs"]
    assert (quantised["params"], quantised["macs"]) == (kd["params"], kd["macs"])
    again = printed()  # nothing is trained or measured twice, latencies neither
    assert again == first[8:]
