"""Arguments that the families refuse."""

from typing import Any

import pytest
from model_configs import build

MISTAKES = [
    ("resnet20", {"depth": 21}, r"depth must be 6n\+2, got 21"),
    ("resnet20", {"channels": [16, 32]}, "stem and three stages"),
    ("wrn_16_2", {"depth": 18}, r"depth must be 6n\+4, got 18"),
    ("wrn_16_2", {"widen": 0}, "widen must be"),
    ("resnet18", {"depth": 19}, r"depth must be one of \[18, 34, 50\], got 19"),
    ("vgg8", {"depth": 9}, r"depth must be one of \[8, 11, 13, 16\], got 9"),
    ("vgg8", {"pools": 6}, "pools must be 0 to 5, got 6"),
    ("densenet121", {"depth": 100}, "depth must be one of"),
    ("densenet121", {"stem": "tiny"}, r"stem must be one of \['cifar', 'imagenet'\], got 'tiny'"),
    ("shufflenet_v1", {"groups": 5}, "groups must be one of"),
    ("shufflenet_v2", {"channels": [24]}, "channels must be five"),
    ("mlp800", {"hidden": []}, "hidden must name"),
]


@pytest.mark.parametrize(("name", "options", "message"), MISTAKES)
def test_impossible_architectures_are_refused(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, **options)
