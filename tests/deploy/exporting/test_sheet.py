"""The Markdown sheet of an exported file, whose names may come from a stranger's run."""

from kd.deploy.exporting.compare import Comparison
from kd.deploy.exporting.description import Description
from kd.deploy.exporting.sheet import markdown, sheet

HOSTILE = "<img src=x> [a](http://b.c) | `d`\n# e"


def test_names_are_shown_as_text(tmp_path):
    file = tmp_path / "student.onnx"
    file.write_bytes(b"content")
    description: Description = {
        "format": 1,
        "student": HOSTILE,
        "method": HOSTILE,
        "task": "image_classification",
        "class_names": ["a", "b"],
        "input_size": [8, 8],
        "channels": 1,
        "mean": [0.5],
        "std": [0.25],
        "precision": "fp32",
        "accuracy": None,
        "kd_version": "1",
        "git_commit": None,
    }
    found = Comparison(4, 0.5, 0.5, 1.0, 0.0, 1e-4)
    facts = {"format": "onnx", "problem": HOSTILE, "notes": {"layers in fp32": HOSTILE}}
    content = sheet([file], description, found, [], command=HOSTILE, run=HOSTILE, **facts)
    text = markdown(content)
    assert "<img" not in text
    assert "http://" not in text  # GitHub links bare addresses as well
    table = [line for line in text.splitlines() if line.startswith("|")]
    # A bar that is not escaped would begin another cell, a line break another row.
    assert {line.replace("\\|", "").count("|") for line in table} == {3}
    assert sum("d" in line and "img" in line for line in table) == 5
