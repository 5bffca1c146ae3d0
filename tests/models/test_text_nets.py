"""Nets for texts: independent formulas, and no influence of the padding."""

from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from model_configs import config
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from kd.errors import UserError
from kd.models.bilstm import BiLSTM
from kd.models.text_cnn import TextCNN
from kd.models.text_transformer import TextTransformer
from kd.taps import Taps

PAD, WORDS, CLASSES = 0, 30, 3
FACTS = {"vocab_size": WORDS, "max_length": 12, "pad_index": PAD, "num_classes": CLASSES}
LENGTHS = [7, 1, 4]
OWN = ("text_cnn", "bilstm", "transformer_mini", "transformer_mini_2")


def texts(length: int = 7) -> Tensor:
    torch.manual_seed(0)
    ids = torch.randint(1, WORDS, (len(LENGTHS), 7))
    rows = [
        nn.functional.pad(row[:n], (0, length - n)) for row, n in zip(ids, LENGTHS, strict=True)
    ]
    return torch.stack(rows)


def net(name: str, **options: object) -> Any:
    torch.manual_seed(0)
    return instantiate(config(name).net, _convert_="all", **FACTS, **options).eval()


@pytest.mark.parametrize("name", OWN)
def test_padding_does_not_matter(name):
    built = net(name)
    logits = built(texts())
    torch.testing.assert_close(built(texts(12)), logits, rtol=1e-5, atol=1e-6)
    alone = torch.cat([built(row[None, :n]) for row, n in zip(texts(), LENGTHS, strict=True)])
    torch.testing.assert_close(alone, logits, rtol=1e-5, atol=1e-6)
    assert (logits[0] - logits[1]).abs().max() > 1e-3
    assert built(torch.full((2, 3), PAD)).isfinite().all()


@pytest.mark.parametrize("name", OWN)
def test_taps_of_the_config_exist_and_have_their_shapes(name):
    built, paths = net(name), dict(config(name).taps)
    outputs = Taps(built, paths, paths).outputs(texts())
    width = outputs.taps["embeddings"].shape[2]
    for tap, tensor in outputs.taps.items():
        kind = tap.partition("_")[0]
        if kind == "attention":
            assert tensor.shape == (3, 4, 7, 7)
        elif kind == "value":
            assert tensor.shape == (3, 4, 7, width // 4)
        else:
            assert tensor.shape[:-1] == ((3, 7) if kind in ("embeddings", "layer") else (3,))


@pytest.mark.parametrize("name", OWN)
def test_every_parameter_learns(name):
    built = net(name)
    built(texts()).square().sum().backward()
    dead = [n for n, p in built.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


def test_convolutions_see_windows_of_words():
    torch.manual_seed(0)
    built: Any = TextCNN(**FACTS, dim=4, filters=2, widths=[2, 3]).eval()
    found = []
    for row, length in zip(texts(), LENGTHS, strict=True):
        words = built.embeddings.weight[row[:length]].tolist() + [[0.0] * 4] * 3
        values = []
        for convolution in built.convolutions:
            weight, bias = convolution.weight.tolist(), convolution.bias.tolist()
            for filter, shift in zip(weight, bias, strict=True):
                windows = [
                    shift + sum(
                        filter[d][k] * words[at + k][d]
                        for d in range(4) for k in range(len(filter[0]))
                    )
                    for at in range(length)
                ]  # fmt: skip
                values.append(max(0.0, *windows))
        found.append(values)
    torch.testing.assert_close(built(texts()), built.fc(torch.tensor(found)), rtol=1e-4, atol=1e-5)


def test_both_directions_are_those_of_a_packed_lstm():
    torch.manual_seed(0)
    built: Any = BiLSTM(**FACTS, dim=4, hidden=5).eval()
    other = nn.LSTM(4, 5, batch_first=True, bidirectional=True)
    layer = built.layers[0]
    for name, value in layer.forwards.named_parameters():
        other.get_parameter(name).data.copy_(value)
    for name, value in layer.backwards.named_parameters():
        other.get_parameter(f"{name}_reverse").data.copy_(value)
    packed = pack_padded_sequence(
        built.embeddings(texts()), torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False
    )
    states, _ = pad_packed_sequence(other(packed)[0], batch_first=True)
    largest = [row[:n].amax(0) for row, n in zip(states, LENGTHS, strict=True)]
    torch.testing.assert_close(built(texts()), built.fc(torch.stack(largest)))


def test_layers_are_those_of_torch():
    torch.manual_seed(0)
    built: Any = TextTransformer(**FACTS, dim=8, depth=2, heads=2, pooling="cls").eval()
    hidden, mask = built.embeddings(texts()), texts() == PAD
    for layer in built.layers:
        other = nn.TransformerEncoderLayer(
            8, 2, 32, 0.0, nn.functional.gelu, batch_first=True, norm_first=True
        ).train()  # the fused operation of eval() leaves padding out
        names = {
            "self_attn.in_proj_": layer.attention.projections, "norm1.": layer.norm1,
            "self_attn.out_proj.": layer.attention.output, "norm2.": layer.norm2,
            "linear1.": layer.inner[0], "linear2.": layer.inner[2],
        }  # fmt: skip
        other.load_state_dict(
            {f"{to}{k}": v for to, module in names.items() for k, v in module.named_parameters()}
        )
        hidden = other(hidden, src_key_padding_mask=mask)
    expected = built.fc(built.norm(hidden)[:, 0])
    torch.testing.assert_close(built(texts()), expected, rtol=1e-4, atol=1e-5)


def test_the_mean_leaves_padding_out_and_cls_is_the_first_token():
    means, firsts = (net("transformer_mini", pooling=kind) for kind in ("mean", "cls"))
    pooled = [
        Taps(n, {"pooled": "pooled"}, ["pooled"]).outputs(texts()).taps for n in (means, firsts)
    ]
    states = Taps(means, {"norm": "norm"}, ["norm"]).outputs(texts()).taps["norm"]
    expected = [row[:n].mean(0) for row, n in zip(states, LENGTHS, strict=True)]
    torch.testing.assert_close(pooled[0]["pooled"], torch.stack(expected))
    torch.testing.assert_close(pooled[1]["pooled"], states[:, 0])


def test_texts_longer_than_the_positions_are_refused():
    with pytest.raises(UserError, match=r"13 tokens.*12 positions.*data.max_length"):
        net("transformer_mini")(torch.ones(1, 13, dtype=torch.int64))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("transformer_mini", {"heads": 5}, "a multiple of heads"),
        ("transformer_mini", {"pooling": "max"}, r"pooling must be one of \['cls', 'mean'\]"),
        ("text_cnn", {"widths": []}, "widths must be numbers"),
        ("bilstm", {"layers": 0}, "layers must be ≥ 1, got 0"),
    ],
)
def test_impossible_settings_are_refused(name, options, message):
    with pytest.raises(Exception, match=message):
        net(name, **options)


def test_hidden_words_are_named_by_what_stands_around_them():
    ids = texts()
    built = net("transformer_mini", mask_index=1, dropout=0.0)
    paths = {"masked_words": "masked_words", "embeddings": "embeddings"}
    taps = Taps(built, paths, paths)
    assert (taps.outputs(ids).taps["masked_words"] == -1).all()  # outside training
    built.train()
    assert built.masked_words is not None
    shown: list[Tensor] = []
    handle = built.embeddings.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    outputs = taps.outputs(ids)
    handle.remove()
    hidden = shown[0] != ids
    assert shown[1].equal(ids)
    assert (shown[0][hidden] == 1).all()
    assert hidden.sum(1).tolist() == [1, 0, 1]  # ⌈0.15 · words⌉ behind the first token
    errors = outputs.taps["masked_words"]
    assert errors.shape == (3, 2)
    assert (errors >= 0).sum(1).tolist() == [1, 0, 1]
    built.eval()
    states = built._hidden(shown[0])
    logits = built.masked_words.transform(states) @ built.embeddings.tokens.weight.T
    expected = -logits.log_softmax(2).gather(2, ids[..., None])[..., 0][hidden]
    torch.testing.assert_close(errors[errors >= 0], expected)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("text_cnn", {"dim": 0}, "dim must be ≥ 1, got 0"),
        ("text_cnn", {"filters": -2}, "filters must be ≥ 1, got -2"),
        ("bilstm", {"hidden": 0}, "hidden must be ≥ 1, got 0"),
        ("transformer_mini", {"inner": -1}, "inner must be ≥ 1, got -1"),
        ("transformer_mini", {"heads": 3}, "dim must be a multiple of heads"),
        ("transformer_mini", {"mask_index": WORDS}, r"mask_index must be in 0\.\.29, got 30"),
    ],
)
def test_sizes_that_no_net_has_are_refused(name, options, message):
    with pytest.raises((ValueError, InstantiationException), match=message):
        net(name, **options)
