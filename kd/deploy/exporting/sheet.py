"""The sheet beside an exported file: what it is, how it was made, and how it compares."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kd.deploy.cost.latency import Latency
from kd.deploy.exporting.compare import Comparison
from kd.deploy.exporting.compare_boxes import BoxComparison
from kd.deploy.exporting.description import Description
from kd.io.checksums import read_intact, with_checksum
from kd.reports.markdown import escape_markdown
from kd.tasks import TASKS

KIND = "kd.export"


def sheet_files(path: Path) -> tuple[Path, Path]:
    """Return the JSON and the Markdown file of an exported file's sheet."""
    return path.with_name(f"{path.name}.json"), path.with_name(f"{path.name}.md")


def sheet(
    files: Sequence[Path],
    description: Description,
    comparison: Comparison | BoxComparison,
    latencies: Sequence[Latency],
    **facts: Any,
) -> dict[str, Any]:
    """Return the content of a sheet.

    Args:
        files: the exported file, then those that belong to it.
        description: that the file contains.
        comparison: with the student on the test set.
        latencies: of the file in its runtime; may be empty.
        **facts: command, run, format, `problem` (why the file is not good enough; ""), and what
            the format adds.
    """
    return with_checksum(
        {
            "kind": KIND,
            "files": {file.name: hash_of(file) for file in files},
            "bytes": sum(file.stat().st_size for file in files),
            **facts,
            "comparison": {k: None if v != v else v for k, v in asdict(comparison).items()},
            "drop": comparison.drop,
            "latency": [asdict(each) | {"noisy": each.noisy} for each in latencies],
            "description": _without_tokenizer(description),
        }
    )


def write_sheet(content: dict[str, Any], file: Path) -> None:
    """Write the sheet of an exported file beside it, as JSON and as Markdown.

    Raises:
        OSError: a file cannot be written.
    """
    for path, text in zip(
        sheet_files(file), (json.dumps(content, indent=2) + "\n", markdown(content)), strict=True
    ):
        path.write_text(text, encoding="utf-8")


def hash_of(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def is_former_export(path: Path) -> bool:
    """Return whether a file is, unchanged, what an earlier export wrote."""
    found = read_intact(sheet_files(path)[0]) or {}
    files = found.get("files")
    known = files.get(path.name) if isinstance(files, dict) else None
    return found.get("kind") == KIND and known is not None and known == hash_of(path)


def markdown(content: dict[str, Any]) -> str:
    """Return a sheet as Markdown.

    Args:
        content: of `sheet`.
    """
    about = content["description"]
    samples = _samples(about)
    name = next(iter(content["files"]))
    rows = [
        ("command", escape_markdown(content["command"])),
        ("run", escape_markdown(content["run"])),
        ("format, precision", f"{content['format']}, {about['precision']}"),
        ("student, method", escape_markdown(f"{about['student']}, {about['method']}")),
        *_input_rows(about),
        ("bytes", f"{content['bytes']:,}"),
        *_comparison_rows(content, samples),
        *((escape_markdown(file), f"SHA-256 {sum_}") for file, sum_ in content["files"].items()),
        *((key, escape_markdown(value)) for key, value in content.get("notes", {}).items()),
    ]
    if content["problem"]:
        rows.insert(0, ("**written with force=true**", escape_markdown(content["problem"])))
    lines = [f"# {escape_markdown(name)}", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in rows]
    return "\n".join([*lines, *_latency_lines(content["latency"], samples)]) + "\n"


def _comparison_rows(content: dict[str, Any], samples: str) -> list[tuple[str, str]]:
    """Return what the comparison with the student has found."""
    found = content["comparison"]
    tolerance = found["tolerance"]
    bound = f"tolerance {'none' if tolerance is None else f'{tolerance:.3g}'}"
    if "map" in found:
        return [
            ("test mAP of the file", f"{found['map']:.4f} on {found['images']} {samples}"),
            ("test mAP of the student", f"{found['student_map']:.4f}"),
            ("mAP lost, points", f"{content['drop']:.2f}"),
            ("largest difference of a box, pixels", f"{_said(found['box_difference'])}; {bound}"),
            ("largest difference of a score", f"{_said(found['score_difference'])}; {bound}"),
        ]
    return [
        ("test accuracy of the file", f"{found['accuracy']:.4f} on {found['images']} {samples}"),
        ("test accuracy of the student", f"{found['student_accuracy']:.4f}"),
        ("accuracy lost, points", f"{content['drop']:.2f}"),
        ("same class as the student", f"{found['agreement']:.4f}"),
        ("largest difference of a logit", f"{_said(found['difference'])}; {bound}"),
    ]


def _said(difference: float | None) -> str:
    return "not finite" if difference is None else f"{difference:.3g}"


def _samples(about: dict[str, Any]) -> str:
    return f"{TASKS[about['task']].sample}s" if about["task"] in TASKS else "images"


def _without_tokenizer(description: Description) -> dict[str, Any]:
    """Return the description with the tokenizer's hash in its place: it has up to megabytes."""
    about: dict[str, Any] = dict(description)
    if "tokenizer" in about:
        about["tokenizer"] = f"SHA-256 {hashlib.sha256(about['tokenizer'].encode()).hexdigest()}"
    return about


def _input_rows(about: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of input and output."""
    output = ("output", f"logits [B, {len(about['class_names'])}], temperature 1")
    if about["task"] == "text_classification":
        (length,) = about["input_size"]
        ids = f"int64 token ids [B, L], L ≤ {length}, filled on the right with {about['pad_index']}"
        outside = "outside the graph; the tokenizer is in the file's metadata, for kd.predict"
        return [("input", ids), output, ("tokenisation", outside)]
    height, width = about["input_size"]
    if about["task"] == "detection":
        classes = len(about["class_names"])
        output = ("output", f"boxes [B, N, 4] in pixels, and their scores [B, N, {classes}]")
    return [
        ("input", f"uint8 images [B, {about['channels']}, {height}, {width}]"),
        output,
        ("mean, std (in the graph)", f"{about['mean']}, {about['std']}"),
        *_suppression_rows(about),
    ]


def _suppression_rows(about: dict[str, Any]) -> list[tuple[str, str]]:
    if about["task"] != "detection":
        return []
    settings = (
        f"score > {about['score_threshold']:g}, IoU ≤ {about['nms_iou']:g} within a class, at most "
        f"{about['max_detections']} boxes"
    )
    return [
        ("duplicates (outside the graph)", f"dropped by kd.predict, as in training: {settings}")
    ]


def _latency_lines(latencies: Sequence[dict[str, Any]], samples: str) -> list[str]:
    if not latencies:
        return []
    head = f"| batch | p50, ms | p95, ms | {samples}/s | threads | |"
    rows = [
        f"| {each['batch']} | {each['p50_ms']:.3g} | {each['p95_ms']:.3g} | "
        f"{each['images_per_second']:.0f} | {each['threads']} | "
        f"{'the machine was busy' if each['noisy'] else ''} |"
        for each in latencies
    ]
    return ["", "Latency on the CPU:", "", head, "|---|---|---|---|---|---|", *rows]
