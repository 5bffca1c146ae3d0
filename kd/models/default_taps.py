"""Default taps of torchvision's and timm's nets by the name of the architecture.

Configs need them before torch is loaded: methods pair the stages of both nets when Hydra composes.
Only maps [B, C, H, W] and embeddings [B, C] are listed. The stages of a ViT depend on its depth, as
in conf/model/vit_tiny_cifar.yaml, and no method reads the channels-last maps of Swin.
"""

import re
from itertools import accumulate

# Convolutions of each of VGG's five stages: Simonyan and Zisserman 2015, table 1
_VGG = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}

# Regular expression of the architecture -> stem, stages, embedding. The stages are the last modules
# at 1/4, 1/8, 1/16 and 1/32 of the image's side; ShuffleNet has none at 1/4.
_Modules = tuple[str, str, str]
_TORCHVISION: dict[str, _Modules] = {
    r"(wide_)?(resnet|resnext)\d+.*": ("relu", "layer1 layer2 layer3 layer4", "fc"),
    r"densenet\d+": (
        "features.relu0",
        "features.transition1.relu features.transition2.relu features.transition3.relu features",
        "classifier",
    ),
    r"mobilenet_v2": (
        "features.0",
        "features.3 features.6 features.13 features.17",
        "classifier.1",
    ),
    r"mobilenet_v3_large": (
        "features.0",
        "features.3 features.6 features.12 features.15",
        "classifier.3",
    ),
    r"mobilenet_v3_small": (
        "features.0",
        "features.1 features.3 features.8 features.11",
        "classifier.3",
    ),
    r"efficientnet_(b\d|v2_[ml])": (
        "features.0",
        "features.2 features.3 features.5 features.7",
        "classifier.1",
    ),
    r"efficientnet_v2_s": (
        "features.0",
        "features.2 features.3 features.5 features.6",
        "classifier.1",
    ),
    r"shufflenet_v2_.*": ("conv1", "stage2 stage3 stage4", "fc"),
    r"regnet_.*": (
        "stem",
        "trunk_output.block1 trunk_output.block2 trunk_output.block3 trunk_output.block4",
        "fc",
    ),
    r"convnext_.*": ("features.0", "features.1 features.3 features.5 features.7", "classifier.2"),
    r"vit_.*": ("conv_proj", "", "heads.head"),
    r"swin_.*": ("", "", "head"),
}
_TIMM: dict[str, _Modules] = {
    # Those of ByobNet and with CLIP's attention pooling have other modules.
    r"(wide_|se)?(resnet|resnext)\d+(?!\w*(ts|q|clip|mlp)).*": (
        "act1",
        "layer1 layer2 layer3 layer4",
        "fc",
    ),
    r"densenet\d+.*": (
        "features.norm0",
        "features.denseblock1 features.denseblock2 features.denseblock3 features.norm5",
        "classifier",
    ),
    r"mobilenetv2_.*": ("bn1", "blocks.1 blocks.2 blocks.4 blocks.6", "classifier"),
    r"(tf_)?mobilenetv3_(large|rw).*": ("bn1", "blocks.1 blocks.2 blocks.4 blocks.5", "classifier"),
    r"(tf_)?mobilenetv3_small.*": ("bn1", "blocks.0 blocks.1 blocks.3 blocks.4", "classifier"),
    r"(tf_)?efficientnet_(b\d|l2).*": ("bn1", "blocks.1 blocks.2 blocks.4 blocks.6", "classifier"),
    r"(tf_)?efficientnetv2_(s|b\d|rw).*": (
        "bn1",
        "blocks.1 blocks.2 blocks.4 blocks.5",
        "classifier",
    ),
    r"(tf_)?efficientnetv2_(m|l|xl)(\..*)?": (
        "bn1",
        "blocks.1 blocks.2 blocks.4 blocks.6",
        "classifier",
    ),
    r"regnet[xy]_.*": ("stem", "s1 s2 s3 s4", "head.fc"),
    r"convnext(v2)?_.*": ("stem", "stages.0 stages.1 stages.2 stages.3", "head.fc"),
    r"(vit|deit3?)_.*_patch\d+_.*": ("patch_embed.proj", "", "head"),
    r"swin_.*": ("", "", "head.fc"),
}


def default_taps(library: str, arch: object) -> dict[str, str]:
    """Return the taps of an architecture: canonical name -> module path.

    Args:
        library: `torchvision` or `timm`.
        arch: name of the architecture, as a config has it; of another type: the net refuses it.

    Returns:
        `stem`, `stage1` … and `embedding`, as far as the net has them; empty for an unknown family.

    Example:
        >>> default_taps("torchvision", "shufflenet_v2_x1_0")["stage3"]
        'stage4'
        >>> default_taps("timm", "vit_tiny_patch16_224")
        {'stem': 'patch_embed.proj', 'embedding': 'head:in'}
    """
    if not isinstance(arch, str):
        return {}
    if match := re.fullmatch(r"vgg(11|13|16|19)(_bn)?(\..*)?", arch):
        head = "classifier.6" if library == "torchvision" else "head.fc"
        return _vgg(int(match[1]), 3 if match[2] else 2, head)
    families = {"torchvision": _TORCHVISION, "timm": _TIMM}[library]
    for pattern, modules in families.items():
        if re.fullmatch(pattern, arch):
            return _named(*modules)
    return {}


def _named(stem: str, stages: str, head: str) -> dict[str, str]:
    named = {f"stage{number}": path for number, path in enumerate(stages.split(), start=1)}
    return ({"stem": stem} if stem else {}) | named | {"embedding": f"{head}:in"}


def _vgg(depth: int, modules: int, head: str) -> dict[str, str]:
    """Return the taps of a VGG: the inputs of its five poolings.

    Args:
        depth: layers with weights.
        modules: for each convolution; the last is its ReLU.
        head: path of the classifier.
    """
    ends = accumulate(modules * count + 1 for count in _VGG[depth])  # one pooling a stage
    stages = {f"stage{n}": f"features.{end - 1}:in" for n, end in enumerate(ends, start=1)}
    return {"stem": f"features.{modules - 1}", **stages, "embedding": f"{head}:in"}
