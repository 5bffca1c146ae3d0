"""Distillation of a small detector on scenes of digits: mAP over three seeds.

python scripts/detection_comparison.py outputs/detection
python scripts/detection_comparison.py outputs/detection --latency
python scripts/detection_comparison.py outputs/detection --table

After an interruption the same command resumes: finished runs are skipped. `--share 0/2` and
`--share 1/2` in two shells divide the runs.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import command_line
import comparison as compare
from comparison import Result

RESULTS = Path(__file__).resolve().parents[1] / "outputs" / "reference" / "detection"
LATENCIES = "latencies.json"
METHODS = ("ce", "det_kd", "cwd", "pkd_features", "fgfi")
COLUMNS = ("method", "seeds", "mAP", "mAP50", "mAP against `ce`, same seeds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="parent of the run folders")
    parser.add_argument("overrides", nargs="*", help="of all runs, key=value")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--latency", action="store_true", help="measure latencies and stop")
    command_line.add_options(parser)
    options = command_line.parsed(parser)
    command_line.check_names(parser, "--methods", options.methods, METHODS)
    if options.table:
        compare.keep(options.folder, RESULTS)
        print(table(RESULTS))
        return
    if options.latency:
        measure()
        return
    shared = ["data=digits_scenes", "trainer=cpu", "trainer.enable_progress_bar=false"]
    shared += ["logger=csv", f"paths.output={options.folder}", *options.overrides]

    def train(method: str, seed: int, folder: Path) -> Result:
        return compare.train(folder, [*shared, f"method={method}", f"seed={seed}"])

    compare.run_all(options, options.methods, train)


def measure() -> None:
    """Measure parameters, bytes and latency of teacher and student on one thread."""
    import torch
    from hydra import compose, initialize_config_dir

    from kd.build.instantiate import make
    from kd.config.compose import CONF_DIR, register_models
    from kd.deploy.cost.latency import measure as timed

    torch.set_num_threads(1)
    register_models(CONF_DIR)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("train", overrides=["data=digits_scenes"])
    found = {}
    for role in ("teacher", "student"):
        net = make(cfg[role].net, "student.net", in_channels=1, image_size=64, num_classes=10)
        images = torch.randn(64, 1, 64, 64)
        with torch.no_grad():
            times = {count: timed(net.eval(), images[:count]).p50_ms for count in (1, 64)}
        weights = sum(tensor.nbytes for tensor in net.state_dict().values())
        parameters = sum(parameter.numel() for parameter in net.parameters())
        found[cfg[role].name] = {"parameters": parameters, "bytes": weights, "ms": times}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / LATENCIES).write_text(json.dumps(found, indent=2) + "\n")
    print(f"measured: {RESULTS / LATENCIES}")


def table(folder: Path) -> str:
    """Format methods by mean mAP, the teacher, and the costs of both nets."""
    runs, failed = compare.collect(folder)
    lines = [_row(method, runs) for method in compare.ranked(runs)]
    return "\n\n".join([compare.markdown(COLUMNS, lines, failed), *_teacher(runs), *_costs(folder)])


def _row(method: str, runs: dict[str, list[Result]]) -> list[str]:
    scores = list(compare.scores(runs[method]).values())
    half = [100 * result["test/map50"] for result in runs[method]]
    difference = compare.interval(runs, method, "ce")
    return [
        *(f"`{method}`", str(len(scores)), compare.spread(scores), compare.spread(half)),
        difference,
    ]


def _teacher(runs: dict[str, list[Result]]) -> Iterator[str]:
    keys = ("teacher/test/map", "teacher/test/map50")
    results = [each for found in runs.values() for each in found if each.get(keys[0]) is not None]
    for name, *figures in sorted({(r["teacher"], *(r[key] for key in keys)) for r in results}):
        yield f"Teacher {name}: mAP {100 * figures[0]:.2f}, mAP50 {100 * figures[1]:.2f}"


def _costs(folder: Path) -> Iterator[str]:
    path = folder / LATENCIES
    if path.exists():
        costs = json.loads(path.read_text())
        lines = [
            (
                *(name, compare.grouped(c["parameters"]), compare.grouped(c["bytes"])),
                *(f"{c['ms'][n]:.2f}" for n in ("1", "64")),
            )
            for name, c in costs.items()
        ]
        columns = ("net", "parameters", "bytes", "ms, batch 1", "ms, batch 64")
        yield compare.markdown(columns, lines, [])


if __name__ == "__main__":
    main()
