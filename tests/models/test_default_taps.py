"""Default taps of torchvision's and timm's nets: they exist, and each stage halves the side."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import composed
from torch import nn

from kd.models.default_taps import default_taps
from kd.taps import Taps
from kd.training.run import run

# Sides of the stages' maps of an image of 64x64; of all other families: 1/4, 1/8, 1/16, 1/32
SIDES: dict[str, list[int]] = {
    **{"shufflenet": [8, 4, 2], "vgg": [64, 32, 16, 8, 4]},
    **{"vit": [], "deit": [], "swin": []},
}

TORCHVISION = ("mobilenet_v3_small", "shufflenet_v2_x0_5", "vgg11")
TIMM = (
    *("resnet10t", "resnet18.a1_in1k", "resnext50_32x4d", "wide_resnet50_2", "seresnet18"),
    *("densenet121", "mobilenetv2_050", "mobilenetv3_small_050", "mobilenetv3_large_100"),
    *("tf_mobilenetv3_small_minimal_100", "efficientnet_b0", "efficientnetv2_rw_t"),
    *("tf_efficientnetv2_b0", "tf_efficientnetv2_m.in21k", "regnetx_002", "regnety_002"),
    *("convnext_atto", "convnextv2_atto", "vgg13_bn", "vgg19"),
    *("vit_tiny_patch16_224", "deit_tiny_patch16_224", "swin_tiny_patch4_window7_224"),
)


def check(library: str, arch: str, net: nn.Module, side: int) -> None:
    names = default_taps(library, arch)
    taps = Taps(net.eval(), names, names)
    device = next(net.parameters()).device
    with torch.no_grad():
        outputs = taps.outputs(torch.zeros(2, 3, side, side, device=device)).taps
    stages = [outputs[name] for name in sorted(names) if name.startswith("stage")]
    family = re.match("[a-z]+", arch)
    sides = SIDES.get(family[0] if family else "", [16, 8, 4, 2])
    assert [stage.shape[2] for stage in stages] == sides
    assert all(stage.dim() == 4 and stage.shape[2] == stage.shape[3] for stage in stages)
    assert isinstance(taps.head, nn.Linear)
    assert outputs["embedding"].shape == (2, taps.head.in_features)
    if "stem" in names and stages:
        assert outputs["stem"].shape[2] >= stages[0].shape[2]


def check_torchvision(arch: str) -> None:
    from torchvision import models

    side = 56 if arch == "vit_h_14" else 64
    size = {"image_size": side} if arch.startswith("vit") else {}
    # RegNet's initialisation reads values, which a meta tensor does not have.
    with torch.device("cpu" if arch.startswith("regnet") else "meta"):
        net = models.get_model(arch, num_classes=10, **size)
    check("torchvision", arch, net, side)


def check_timm(arch: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        net = timm.create_model(arch.partition(".")[0], num_classes=10)
    check("timm", arch, net, 224 if arch.endswith("_224") else 64)


@pytest.mark.parametrize("arch", TORCHVISION)
def test_taps_of_torchvision(arch: str) -> None:
    check_torchvision(arch)


@pytest.mark.slow
def test_taps_of_all_of_torchvision() -> None:
    from torchvision import models

    unknown = set()
    for arch in models.list_models(module=models):
        if not default_taps("torchvision", arch):
            unknown.add(re.split(r"\d|_", arch)[0])
        elif not (arch.startswith("regnet") and arch.endswith("gf")):  # several GB on the CPU
            check_torchvision(arch)
    assert unknown == {"alexnet", "googlenet", "inception", "maxvit", "mnasnet", "squeezenet"}


def test_taps_of_timm() -> None:
    check_timm("vgg11_bn.tv_in1k")


@pytest.mark.slow
@pytest.mark.parametrize("arch", TIMM)
def test_taps_of_all_families_of_timm(arch: str) -> None:
    check_timm(arch)


@pytest.mark.parametrize(
    ("library", "arch"),
    [("torchvision", "alexnet"), ("timm", "resnet51q"), ("timm", "nosuch"), ("torchvision", 5)],
)
def test_an_unknown_family_has_none(library: str, arch: object) -> None:
    assert default_taps(library, arch) == {}


@pytest.mark.slow
def test_methods_pair_the_stages_of_two_wrapped_nets(tmp_path: Path) -> None:
    cfg = composed(
        *("method=fitnet", "student=torchvision", "student.net.arch=mobilenet_v3_small"),
        *("teacher=torchvision", "teacher.net.arch=resnet18", "trainer=cpu", "logger=none"),
        *("teacher.training.trainer.max_epochs=1", "trainer.max_epochs=2", "method.initial=0.5"),
        *(
            f"{trainer}limit_train_batches=1"
            for trainer in ("+trainer.", "+teacher.training.trainer.")
        ),
        *(f"paths.output={tmp_path}", f"paths.run={tmp_path / 'run'}"),
    )
    assert run(cfg, tmp_path / "run")["status"] == "completed"


def test_no_heavy_library_is_loaded() -> None:
    code = "import sys, kd.models.default_taps; assert not {'torch', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
