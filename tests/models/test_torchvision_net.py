"""Nets of torchvision: any classifier, published weights, errors."""

import pytest
import torch
from torch import Tensor

from kd.errors import UserError
from kd.models.torchvision_net import torchvision_net


def test_any_classifier_can_be_built() -> None:
    net = torchvision_net(1, 32, 7, arch="squeezenet1_1")  # its classifier is a convolution
    assert net.train()(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    net = torchvision_net(4, 32, 7, arch="googlenet", dropout=0.0)  # plain logits in training
    assert net.train()(torch.randn(2, 4, 32, 32)).shape == (2, 7)


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="'resnet81'; did you mean 'resnet18'"):
        torchvision_net(3, 32, 10, arch="resnet81")
    with pytest.raises(UserError, match=r"cannot take 32x32 images.*size that works is 64"):
        torchvision_net(3, 32, 10, arch="alexnet")
    with pytest.raises(UserError, match=r"at 8x8 with .*image_size.*: Input shape indivisible"):
        torchvision_net(3, 8, 10, arch="vit_b_16")
    with pytest.raises(UserError, match="has no weights 'IMAGENET'; did you mean 'IMAGENET1K_V1'"):
        torchvision_net(3, 32, 10, arch="resnet18", weights="IMAGENET")
    with pytest.raises(UserError, match="unexpected keyword argument 'width'"):
        torchvision_net(3, 32, 10, arch="resnet18", width=0.5)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Stand in for the download of resnet18's weights: 3 channels, 1000 classes, all sevens."""
    from torchvision import models

    net = models.resnet18()
    state = {k: torch.full_like(v, 7) for k, v in net.state_dict().items()}
    monkeypatch.setattr(models.ResNet18_Weights, "get_state_dict", lambda *_, **__: state)
    return state


def test_published_weights_are_loaded_if_they_fit(published: dict[str, Tensor]) -> None:
    state = torchvision_net(1, 32, 10, arch="resnet18", weights="DEFAULT").state_dict()
    fresh = {k for k, v in state.items() if not (v == 7).all()}
    assert fresh == {"conv1.weight", "fc.weight", "fc.bias"}


def test_failed_download_names_the_file_to_provide(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    def fail(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(models.ResNet18_Weights, "get_state_dict", fail)
    with pytest.raises(UserError, match=r"no route to host.*weights=null.*resnet18-f37072fd\.pth"):
        torchvision_net(3, 32, 10, arch="resnet18", weights="IMAGENET1K_V1")
