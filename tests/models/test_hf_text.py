"""Encoders of transformers: taps, students cut out of them, and what is refused."""

import copy
import json

import pytest
import torch

from kd.errors import UserError
from kd.models.hf_text import HFText
from kd.models.text_taps import hf_taps
from kd.taps import Taps

pytest.importorskip("transformers")
SIZES = {"dim": 16, "depth": 3, "heads": 2, "inner": 32}
IDS = torch.tensor([[5, 6, 7, 8, 9], [5, 9, 0, 0, 0]])


def net(vocab_size=50, max_length=16, **options) -> HFText:
    torch.manual_seed(0)
    return HFText(vocab_size, max_length, 0, 3, **(SIZES | options)).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved encoder, with a tokenizer of 50 tokens."""
    path = tmp_path_factory.mktemp("encoder")
    net().encoder.save_pretrained(path)
    tokens = {f"t{n}": n for n in range(50)}
    (path / "tokenizer.json").write_text(
        json.dumps({"model": {"vocab": tokens}, "added_tokens": []})
    )
    return path


@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
def test_taps_are_the_encoders_own_tensors(architecture):
    built = net(architecture=architecture)
    paths = hf_taps(SIZES)
    taps = Taps(built, paths, paths).outputs(IDS).taps
    assert taps["value_3"].shape == (2, 2, 5, 8)
    states = built.encoder(
        input_ids=IDS, attention_mask=(IDS != 0).long(), output_hidden_states=True
    )
    for number, state in enumerate(states.hidden_states[1:], 1):
        torch.testing.assert_close(taps[f"layer_{number}"], state)
    torch.testing.assert_close(taps["pooled"], states.last_hidden_state[:, 0])
    # The library's own attention, whose probabilities the scores must give
    built.encoder.set_attn_implementation("eager")
    theirs = built.encoder(input_ids=IDS, attention_mask=(IDS != 0).long(), output_attentions=True)
    for number, probabilities in enumerate(theirs.attentions, 1):
        scores = taps[f"attention_{number}"].masked_fill((IDS == 0)[:, None, None], -1e9)
        torch.testing.assert_close(scores.softmax(-1), probabilities)


def test_fused_attention_gives_the_same_logits_and_padding_does_not_matter():
    tapped, fused = net(), net(attention_taps=False)
    fused.load_state_dict(tapped.state_dict())
    torch.testing.assert_close(fused(IDS), tapped(IDS))
    torch.testing.assert_close(tapped(torch.nn.functional.pad(IDS, (0, 3))), tapped(IDS))
    assert not any(
        name.startswith("attention") for name in hf_taps(SIZES | {"attention_taps": False})
    )


def test_a_copy_has_places_for_taps_of_its_own():
    built = net()
    other = copy.deepcopy(built)
    assert other.get_submodule("layer_1") is not built.get_submodule("layer_1")
    assert any(other.get_submodule("layer_1") is module for module in other.encoder.modules())
    assert not any("layer_1" in name for name in built.state_dict())


def test_a_student_is_cut_out_of_its_teachers_layers(folder):
    whole, cut = net(path=str(folder)), net(path=str(folder), layers=[0, 2])
    assert hf_taps({"path": str(folder)}).keys() == hf_taps(SIZES).keys()
    assert cut.encoder.config.num_hidden_layers == 2
    for own, other in (
        ("layer_1", "layer_1"),
        ("layer_2", "layer_3"),
        ("embeddings", "embeddings"),
    ):
        pairs = zip(
            *(n.get_submodule(p).parameters() for n, p in ((cut, own), (whole, other))), strict=True
        )
        assert all(torch.equal(a, b) for a, b in pairs)


def test_a_net_is_built_again_without_its_folder(folder):
    cut = net(path=str(folder), layers=[0, 2])
    recorded = json.loads(json.dumps(cut.architecture))
    again = net(**({"path": str(folder), "layers": [0, 2]} | recorded))
    again.load_state_dict(cut.state_dict())
    torch.testing.assert_close(again(IDS), cut(IDS))
    with pytest.raises(UserError, match=r"net.config has model_type='brt'"):
        net(config={"model_type": "brt"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "/nowhere/at/all"}, "net.path=/nowhere/at/all is not a folder"),
        ({"architecture": "brt"}, r"net.architecture=brt: did you mean 'bert'\?"),
        ({"layers": [7]}, r"net.layers=\[7\]: .*has the layers 0 to 2"),
        ({"layers": [1, 1]}, "each once"),
        ({"vocab_size": 60}, r"60 tokens, .*embeddings for 50.*data.tokenizer="),
        ({"vocab_size": 40}, r"40 tokens, that of .* 50; use the net's: data.tokenizer="),
        ({"max_length": 30}, r"data.max_length=30: .* has 18 positions"),
    ],
)
def test_mistakes_are_refused(folder, options, message):
    path = None if "architecture" in options else str(folder)
    with pytest.raises(UserError, match=message):
        net(**({"path": path} | options))


def test_pickled_weights_are_refused(folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    torch.save(net().encoder.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"cannot be read: .*safetensors"):
        net(path=str(tmp_path))
