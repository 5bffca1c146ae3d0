"""Labelled texts: reading, tokenising, splits, the cache, and one message for each mistake."""

import json
import logging
from typing import Any

import pytest
import torch
from small_data import ready

from kd.data.text import Text
from kd.data.text_corpus import TOPICS, corpus_files, read_corpus
from kd.data.tokenise import WordTokenizer, read_tokenizer
from kd.errors import UserError

WORDS = {"sport": "goal match team", "food": "bread soup salt"}
ROWS = [(f"The {WORDS[label]} of day {n}", label) for n in range(10) for label in WORDS]


@pytest.fixture
def text(tmp_path):
    """A function that makes the data of a path in the test's folder, with a cache of its own."""

    def make(path: str, **settings: Any) -> Text:
        given: dict[str, Any] = {
            "name": "mine",
            "batch_size": 4,
            "cache_dir": str(tmp_path / "cache"),
        }
        return Text(**(given | {"root": str(tmp_path / path)} | settings))

    return make


def table(path, rows=ROWS, header="text,label"):
    lines = [header, *(f'"{text}",{label}' for text, label in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def folders(root, splits=("train", "test")):
    for number, (content, label) in enumerate(ROWS):
        folder = root / splits[number % len(splits)] / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.txt").write_text(content)


def test_all_formats_hold_the_same_texts(tmp_path, text):
    table(tmp_path / "a.csv")
    (tmp_path / "b.tsv").write_text("text\tlabel\n" + "\n".join(map("\t".join, ROWS)))
    objects = [json.dumps({"text": content, "label": label, "id": 1}) for content, label in ROWS]
    (tmp_path / "c.jsonl").write_text("\n".join(objects) + "\n\n")
    first, *others = (ready(text(name)) for name in ("a.csv", "b.tsv", "c.jsonl"))
    assert first.class_names == ["food", "sport"]
    assert first.num_samples == {"train": 14, "val": 2, "test": 4, "pool": 16}
    assert [other.fingerprint for other in others] == [first.fingerprint] * 2


def test_splits_are_those_of_the_folders_and_tables(tmp_path, text):
    folders(tmp_path / "texts", ("train", "Testing", "valid"))
    data = ready(text("texts"))
    assert data.num_samples == {"train": 7, "val": 6, "test": 7, "pool": 7}
    (tmp_path / "tables").mkdir()
    table(tmp_path / "tables" / "train.csv")
    table(tmp_path / "tables" / "test.csv", ROWS[:3])
    assert ready(text("tables")).num_samples["test"] == 3
    folders(tmp_path / "classes", (".",))
    assert ready(text("classes")).num_samples["pool"] == 16


def test_tokens_are_those_of_the_training_texts(tmp_path, text):
    (tmp_path / "t").mkdir()
    table(tmp_path / "t" / "train.csv")
    table(tmp_path / "t" / "test.csv", [("The unheard goal", "sport"), ("bread", "food")])
    data = ready(text("t", max_length=5))
    assert "unheard" not in data.tokenizer.words
    words = ["", "[UNK]", "[CLS]", "[MASK]", *data.tokenizer.words]
    shown = [[words[token] for token in row if token] for row in data.arrays.test_inputs.tolist()]
    assert shown == [["[CLS]", "the", "[UNK]", "goal"], ["[CLS]", "bread"]]
    assert data.pad_index == 0
    assert data.net_arguments == {
        "vocab_size": len(words), "max_length": 5, "pad_index": 0, "num_classes": 2,
    }  # fmt: skip
    assert ready(text("t", vocab_size=6)).tokenizer.vocab_size == 6


def test_batches_end_with_their_longest_text(tmp_path, text):
    table(tmp_path / "a.csv", [("word " * (3 + n % 4), label) for n, (_, label) in enumerate(ROWS)])
    data = ready(text("a.csv", max_length=20))
    batches = list(data.train_dataloader())
    assert all((batch.input != 0).any(0).all() for batch in batches)
    assert {batch.input.shape[1] for batch in batches} <= {4, 5, 6, 7}
    example = data.random_input(3)
    assert example.shape == (3, 20)
    assert ((example > 0) & (example < data.tokenizer.vocab_size)).all()


def test_texts_are_tokenised_once_and_again_when_a_file_changes(tmp_path, text, caplog):
    table(tmp_path / "a.csv")
    caplog.set_level(logging.INFO)
    prints = [ready(text("a.csv")).fingerprint for _ in range(2)]
    assert prints[0] == prints[1]
    assert len([r for r in caplog.records if "texts of 2 classes" in r.getMessage()]) == 1
    (cache,) = (tmp_path / "cache").glob("*.safetensors")
    cache.write_bytes(cache.read_bytes()[:-9])
    assert ready(text("a.csv")).fingerprint == prints[0]
    table(tmp_path / "a.csv", [*ROWS, ("one more", "food")])
    assert ready(text("a.csv")).fingerprint != prints[0]


def test_texts_are_used_without_a_cache_folder(tmp_path, text, caplog):
    table(tmp_path / "a.csv")
    (tmp_path / "file").write_text("")
    data = ready(text("a.csv", cache_dir=str(tmp_path / "file")))
    assert data.num_samples["pool"] == 16
    assert "tokenised again next time" in caplog.text


@pytest.mark.slow
def test_pythons_documentation_is_a_data_set(text):
    data = ready(text("", root=None))
    assert data.class_names == sorted(TOPICS)
    assert sum(data.num_samples[split] for split in ("pool", "test")) > 4000
    counts = data.train_targets.bincount()
    assert counts.min() > 200
    assert not set(map(tuple, data.arrays.train_inputs.tolist())) & set(
        map(tuple, data.arrays.test_inputs.tolist())
    )


def test_documentation_strings_of_a_library_are_read_by_topic(tmp_path):
    sentence = "Return the number of the first match of a pattern in a text"
    for topic, names in TOPICS.items():
        module = tmp_path / f"{names.split()[0]}.py"
        module.write_text(f'"""{sentence} {topic}."""\ndef f():\n    "short"\n')
    found = read_corpus(corpus_files(tmp_path))
    assert [document.label for document in found] == [*TOPICS]
    assert found[0].text == f"{sentence} text."
    (tmp_path / "asyncio.py").unlink()
    with pytest.raises(UserError, match=r"has no source .* about concurrency.*data.root="):
        corpus_files(tmp_path)


MISTAKES = [
    ("text,kind", ROWS, {}, r"a.csv has no column data.label_column=label; valid: kind, text"),
    ("text,label", [*ROWS, ("", "food")], {}, r"1 empty text: .*a.csv, line 22; .*skip_empty=true"),
    ("text,label", [*ROWS, ("a", "")], {}, r"1 text without a label: .*a.csv, line 22"),
    ("text,label", [("a", "x")], {}, "all training texts have the label 'x'; two or more"),
    ("text,label", ROWS, {"encoding": "ascii"}, None),
    ("text,text,label", ROWS, {}, "a.csv has 2 columns data.text_column=text; keep one"),
    ("text,label", [*ROWS, ('a", "b', "food")], {}, "line 22 has more fields than the header; a t"),
    ("text,label", [], {}, "a.csv has no text below its header"),
    ("", [], {}, "a.csv is empty; a table has columns such as 'text'"),
    ("\ufefftext,label", ROWS, {"encoding": "UTF_8"}, None),
    ("text,label", [*ROWS, ("naïve", "food")], {"encoding": "ascii"}, r"line 22: the byte 0xc3 is"),
    ("text,label", ROWS, {"root": "/nowhere"}, "data.root=/nowhere is neither a file nor a folder"),
    ("text,label", ROWS, {"tokenizer": "/nowhere.json"}, "data.tokenizer=/nowhere.json cannot be"),
    ("text,label", ROWS, {"test_fraction": 0.01}, "holds out none of 20 samples"),
]


@pytest.mark.parametrize(("header", "rows", "settings", "message"), MISTAKES)
def test_mistakes_in_a_table_are_named(tmp_path, text, header, rows, settings, message):
    table(tmp_path / "a.csv", rows, header)
    if message is None:
        assert ready(text("a.csv", **settings)).num_samples["pool"] == 16
        return
    with pytest.raises(UserError, match=message):
        ready(text("a.csv", **settings))


def test_empty_texts_may_be_left_out(tmp_path, text):
    table(tmp_path / "a.csv", [*ROWS, (" ", "food")])
    assert ready(text("a.csv", skip_empty=True)).num_samples["pool"] == 16


def test_labels_unseen_in_training_are_named(tmp_path, text):
    (tmp_path / "t").mkdir()
    table(tmp_path / "t" / "train.csv")
    table(tmp_path / "t" / "test.csv", [("soup", "foods")])
    with pytest.raises(UserError, match=r"test.csv, line 2: .*'foods' of 1 test .*mean 'food'\?"):
        ready(text("t"))


def test_labels_are_names_and_texts_may_hold_halves_of_characters(tmp_path, text):
    labels = {"sport": "--2", "food": "9" * 5000}
    rows = [json.dumps({"text": f"{t} \ud83d", "label": labels[label]}) for t, label in ROWS]
    (tmp_path / "c.jsonl").write_text("\n".join(rows))
    data = ready(text("c.jsonl"))
    assert data.class_names == ["--2", "9" * 5000]
    data.tokenizer.source.encode()  # what a student's file holds


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{broken", r"c.jsonl, line 2 is no JSON"),
        ("[1]", r"line 2 is no object"),
        ('{"texts": "a", "label": 1}', r"line 2 has no column .*text; did you mean 'texts'\?"),
        ('{"text": [1], "label": 1}', r"line 2: 'text' is no text, but \[1\]"),
    ],
)
def test_mistakes_in_json_lines_are_named(tmp_path, text, content, message):
    (tmp_path / "c.jsonl").write_text('{"text": "a", "label": 1}\n' + content)
    with pytest.raises(UserError, match=message):
        ready(text("c.jsonl"))


def test_other_files_and_folders_are_refused(tmp_path, text):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(UserError, match=r"a.txt: .txt is no table.*\.csv"):
        ready(text("a.txt"))
    (tmp_path / "b" / "sport").mkdir(parents=True)
    with pytest.raises(UserError, match=r"sport has no .txt file"):
        ready(text("b"))


@pytest.mark.parametrize(
    "settings", [{"max_length": 1}, {"vocab_size": 2}, {"test_fraction": 1}, {"encoding": "utf9"}]
)
def test_numbers_out_of_range_are_refused(text, settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        text("a.csv", **settings)


def test_a_tokenizers_file(tmp_path, text):
    tokenizers = pytest.importorskip("tokenizers")
    tokens = {"[UNK]": 0, "the": 1, "goal": 2, "[PAD]": 3, "soup": 4}
    own = tokenizers.Tokenizer(tokenizers.models.WordLevel(tokens, unk_token="[UNK]"))
    own.normalizer = tokenizers.normalizers.Lowercase()
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    own.enable_padding(pad_id=3, pad_token="[PAD]", length=50)
    own.save(str(tmp_path / "tokenizer.json"))
    table(tmp_path / "a.csv")
    data = ready(text("a.csv", tokenizer=str(tmp_path), max_length=4))
    assert (data.pad_index, data.tokenizer.vocab_size) == (3, 5)
    assert data.tokenizer.encode(["The goal"], 4).tolist() == [[1, 2, 3, 3]]
    assert data.tokenizer.encode(["soup"] * 2, 1).tolist() == [[4], [4]]
    again = read_tokenizer(data.tokenizer.source)
    assert torch.equal(again.encode(["a goal"], 4), data.tokenizer.encode(["a goal"], 4))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"data.tokenizer=.* is no file of tokenizers"):
        ready(text("a.csv", tokenizer=str(tmp_path)))


def test_words_are_read_again_from_their_source():
    own = WordTokenizer.of(["Ünï code, a b a"], size=8)
    again = read_tokenizer(own.source)
    assert isinstance(again, WordTokenizer)
    assert own.words == again.words == ["a", ",", "b", "code"]
