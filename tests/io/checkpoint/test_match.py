"""Every wrapper and prefix around a net's weights is found, and what does not fit is listed."""

import pytest
import torch
from checkpoint_files import LAYOUTS, PublicResNet, prefixed, save, small_net, without_counters
from torch import nn

from kd.errors import UserError
from kd.io.weights import load_weights
from kd.models.resnet_cifar import resnet_cifar

W = small_net(seed=1).state_dict()
EMA = {key: value + 1 if value.is_floating_point() else value for key, value in W.items()}

WRAPPED = {
    "bare": W,
    "without counters": without_counters(W),
    "any wrapper": {"weights_after_training": W, "epoch": 3},
    "nested wrappers": {"a": {"b": {"c": W}}, "d": [1, 2]},
    "in a tuple": (W, 7),
    "FSDP outside": prefixed(W, "_fsdp_wrapped_module."),
    "self-supervised": {"state_dict": {**prefixed(W, "encoder."), "projector.weight": W["4.bias"]}},
    "MoCo": {"state_dict": {**prefixed(W, "module.encoder_q."), "module.queue": W["4.bias"]}},
    "private": {"model_state": prefixed(W, "_model.")},
    "several": prefixed(W, "model.student._orig_mod.module."),
    "FSDP inside": {key.replace(".", "._fsdp_wrapped_module."): v for key, v in W.items()},
    "compiled inside": {key.replace(".", "._orig_mod.", 1): v for key, v in W.items()},
    "own wrapper inside": {f"net.{k.replace('.', '.inner.')}": v for k, v in W.items()},
    "thop": {**W, "total_ops": torch.zeros(1), "0.total_params": torch.zeros(1)},
    "optimizer beside": {"net": W, "optimizer": {"state": {0: {"exp_avg": W["0.weight"]}}}},
    "name by name": {"0": {"weight": W["0.weight"], "bias": W["0.bias"]},
                     "1": {k.partition(".")[2]: v for k, v in W.items() if k[0] == "1"},
                     "4": {"weight": W["4.weight"], "bias": W["4.bias"]}},
    "twice the same": {"model": W, "best": {k: v.clone() for k, v in W.items()}},
    "other names": {f"x{k}": v for k, v in W.items()},
    "average beside": {"model": W, "model_ema": EMA},
    "average first": {"state_dict_ema": prefixed(EMA, "module."), "state_dict": W},
    "run of kd": {"state_dict": {**prefixed(W, "student."), **prefixed(EMA, "peers.a."),
                                 "objectives.x.weight": W["4.bias"]}, "identity": {},
                  "plan": []},
}  # fmt: skip


@pytest.mark.parametrize("kind", WRAPPED)
def test_the_only_weights_that_fit_are_found(kind, tmp_path):
    net = small_net()
    load_weights(net, save(tmp_path / "x.bin", WRAPPED[kind]))
    loaded = net.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in W.items() if not k.endswith("tracked")), kind


def test_missing_counters_stay_those_of_the_net_as_in_torch(tmp_path):
    ours, theirs = small_net(seed=2), small_net(seed=2)
    theirs.load_state_dict(without_counters(W), strict=True)
    load_weights(ours, save(tmp_path / "x.pt", without_counters(W)))
    assert ours.state_dict()["1.num_batches_tracked"] == theirs[1].num_batches_tracked == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_public_resnet20_loads_and_computes_the_same(layout, tmp_path, caplog):
    names, wrap = LAYOUTS[layout]
    torch.manual_seed(0)
    public = PublicResNet(*names)
    with torch.no_grad():
        public(torch.randn(4, 3, 32, 32))  # other statistics than those of a new net
    shortcut = "pad" if names[1] is None else "projection"
    net = resnet_cifar(3, 32, 10, depth=20, shortcut=shortcut).eval()
    with caplog.at_level("INFO"):
        load_weights(net, save(tmp_path / "resnet20.th", wrap(public.state_dict())))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(net(images), public.eval()(images), atol=1e-5, rtol=1e-4)
    assert "matched by order" in caplog.text


def test_average_is_offered_and_taken_by_its_name(tmp_path, caplog):
    file = save(tmp_path / "x.pt", {"model": W, "model_ema": prefixed(EMA, "module.")})
    with caplog.at_level("INFO"):
        load_weights(small_net(), file)
    assert "teacher.checkpoint_key=model_ema.module takes their moving average" in caplog.text
    for key in ("model_ema", "model_ema.module", "model_ema.module."):
        net = small_net()
        load_weights(net, file, key)
        assert torch.equal(net.get_parameter("4.bias"), EMA["4.bias"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"student": W, "teacher": EMA}, r"2 different sets .*checkpoint_key=student, .*=teacher"),
        ({"a": prefixed(W, "q."), "b": {"c": EMA}}, r"checkpoint_key=a\.q, .*checkpoint_key=b\.c"),
        ({**prefixed(W, "x."), **prefixed(EMA, "y.")}, "checkpoint_key=x, .*checkpoint_key=y"),
        (
            {"n": {"x": W["4.bias"], **{f"{k}s": v for k, v in W.items()}}},
            "nearest names, net ~ file",
        ),
        ({"n": {k: v for k, v in W.items() if k != "4.bias"}}, "missing in the file .1.: 4.bias"),
        ({**W, "5.weight": W["4.bias"]}, "unknown to the net .1.: 5.weight"),
        ({**W, "4.weight": torch.ones(7, 4)}, r"4.weight \[7, 4\] instead of \[10, 4\]"),
        (small_net(7).state_dict(), "it is for 7 classes; these data have 10"),
        ({"opt": {"m": W["4.bias"]}, "epoch": 1}, r"the file holds: opt \(1 tensors: m\)"),
        (
            {"\x1b[2J": {"\x1b]0;x": W["4.bias"]}},
            r"the file holds: \\x1b\[2J \(1 tensors: \\x1b\]0;x\)",
        ),
    ],
)
def test_what_does_not_fit_is_listed(content, message, tmp_path):
    net = small_net()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(UserError, match=f"(?s){message}"):
        load_weights(net, save(tmp_path / "x.pt", content))
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_unknown_key_lists_those_of_the_file(tmp_path):
    with pytest.raises(UserError, match=r"checkpoint_key=ema: .*it holds model \(9 tensors"):
        load_weights(small_net(), save(tmp_path / "x.pt", {"model": W}), "ema")


@pytest.mark.parametrize("deeper", [26, 32])
def test_the_first_blocks_of_a_deeper_net_are_not_taken(deeper, tmp_path):
    content = resnet_cifar(3, 32, 10, depth=deeper).state_dict()
    with pytest.raises(UserError, match="unknown to the net"):
        load_weights(resnet_cifar(3, 32, 10, depth=20), save(tmp_path / "x.pt", content))
    nested: dict = {}
    for key, value in content.items():
        *path, last = key.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    with pytest.raises(UserError, match="unknown to the net"):
        load_weights(resnet_cifar(3, 32, 10, depth=20), save(tmp_path / "x.pt", nested))


def test_shortcuts_without_weights_name_the_setting(tmp_path):
    content = PublicResNet("linear", None).state_dict()
    with pytest.raises(UserError, match=r"without the weights of 'shortcut' .*shortcut=pad"):
        load_weights(resnet_cifar(3, 32, 10), save(tmp_path / "x.pt", content))


class Wrapper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = small_net(seed=1)
        self.register_buffer("temporary", torch.ones(1), persistent=False)


@pytest.mark.parametrize("zipped", [True, False])
def test_modules_saved_whole_load_by_their_own_keys(zipped, tmp_path):
    file = save(tmp_path / "x.pt", Wrapper(), _use_new_zipfile_serialization=zipped)
    net = small_net()
    load_weights(net, file)
    assert torch.equal(net.get_parameter("0.weight"), W["0.weight"])


def replaced(*names: str):
    """The weights with others in the place of the classifier's weight."""
    rest = {key: value for key, value in W.items() if key != "4.weight"}
    return {**rest, **{f"4.{name}": W["4.weight"] for name in names}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**W, "4.weight": W["4.weight"].t().contiguous()}, "its classifier is transposed: save w"),
        (replaced("weight_orig", "weight_mask"), r"looks pruned: call torch\.nn\.utils\.prune\.re"),
        (replaced("weight_g", "weight_v"), "looks under weight norm: call"),
        (replaced("parametrizations.weight.original"), "looks parametrised: call"),
        ({"_fsdp_wrapped_module._flat_param": W["4.bias"]}, "looks in flat parameters of FSDP"),
        ({**W, "4.weight_scale": W["4.bias"]}, "looks quantised: save"),
        ({"optimizer": {"state": {0: {"exp_avg": W["4.bias"]}}}}, "state of an optimizer, and no"),
        ({**W, "normalizer.mean": W["4.bias"]}, "if the net's outputs do not depend on them"),
        ({k: v.to("meta") for k, v in W.items()}, "weight is on the device 'meta', which"),
        (W["4.bias"], r"no state dict \(found one tensor, without a name\)"),
    ],
)  # fmt: skip
def test_the_message_names_the_remedy(content, message, tmp_path):
    with pytest.raises(UserError, match=message):
        load_weights(small_net(), save(tmp_path / "x.pt", content))


def test_a_part_of_several_files_is_named(tmp_path):
    file = save(tmp_path / "pytorch_model-00001-of-00002.bin", {"0.weight": W["0.weight"]})
    with pytest.raises(UserError, match="one part of several: name its folder or index file"):
        load_weights(small_net(), file)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.int32])
def test_counters_are_converted_from_any_number(dtype, tmp_path):
    net = small_net(seed=2)
    content = {k: v.to(dtype) if k.endswith("tracked") else v for k, v in W.items()}
    load_weights(net, save(tmp_path / "x.pt", content))
    assert torch.equal(net.state_dict()["1.num_batches_tracked"], W["1.num_batches_tracked"])
