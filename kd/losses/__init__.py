"""Distillation losses as pure functions of tensors, named as the methods on the command line.

Each function is defined in `kd/objectives/<name>.py`, beside the loss term that `kd.train` uses,
and is imported when it is first read:

    >>> import torch
    >>> from kd import losses
    >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[4.0, 0.0]])
    >>> losses.kd(student, teacher, temperature=4.0)
    tensor(1.7751)
"""

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from kd import objectives

if TYPE_CHECKING:
    from torch import Tensor

    # For type checkers and editors; at run time every file of kd/objectives that defines a function
    # of its own name is found without this list.
    from kd.objectives.ab import ab as ab
    from kd.objectives.afd import afd as afd
    from kd.objectives.at import at as at
    from kd.objectives.catkd import catkd as catkd
    from kd.objectives.cc import cc as cc
    from kd.objectives.ce import ce as ce
    from kd.objectives.cosine import cosine as cosine
    from kd.objectives.crd import crd as crd
    from kd.objectives.ctkd import ctkd as ctkd
    from kd.objectives.cwd import cwd as cwd
    from kd.objectives.deit import deit as deit
    from kd.objectives.det_kd import det_kd as det_kd
    from kd.objectives.dist import dist as dist
    from kd.objectives.distilbert import distilbert as distilbert
    from kd.objectives.dkd import dkd as dkd
    from kd.objectives.fgfi import fgfi as fgfi
    from kd.objectives.fitnet import feature as feature
    from kd.objectives.fitnet import fitnet as fitnet
    from kd.objectives.fsp import fsp as fsp
    from kd.objectives.ft import ft as ft
    from kd.objectives.ickd import ickd as ickd
    from kd.objectives.irg import irg as irg
    from kd.objectives.itrd import itrd as itrd
    from kd.objectives.kd import kd as kd
    from kd.objectives.logit_mse import logit_mse as logit_mse
    from kd.objectives.mgd import mgd as mgd
    from kd.objectives.minilm import minilm as minilm
    from kd.objectives.mlkd import mlkd as mlkd
    from kd.objectives.nkd import nkd as nkd
    from kd.objectives.nst import nst as nst
    from kd.objectives.ofa import ofa as ofa
    from kd.objectives.ofd import ofd as ofd
    from kd.objectives.pkd import pkd as pkd
    from kd.objectives.pkd_features import pkd_features as pkd_features
    from kd.objectives.pkt import pkt as pkt
    from kd.objectives.reviewkd import reviewkd as reviewkd
    from kd.objectives.rkd import rkd as rkd
    from kd.objectives.semckd import semckd as semckd
    from kd.objectives.simkd import simkd as simkd
    from kd.objectives.soft_ce import soft_ce as soft_ce
    from kd.objectives.sp import sp as sp
    from kd.objectives.spherical import spherical as spherical
    from kd.objectives.srd import srd as srd
    from kd.objectives.srrl import srrl as srrl
    from kd.objectives.tfkd import tfkd as tfkd
    from kd.objectives.tinybert import tinybert as tinybert
    from kd.objectives.ttm import ttm as ttm
    from kd.objectives.ttm import wttm as wttm
    from kd.objectives.vid import vid as vid
    from kd.objectives.vkd import vkd as vkd
    from kd.objectives.wsld import wsld as wsld


def _find() -> dict[str, str]:
    """Names of the functions and of the modules that define them, from the files' text."""
    files = {path.stem: path for path in Path(objectives.__path__[0]).glob("*.py")}
    names = {name: name for name in files} | objectives.VARIANTS
    texts = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    return {
        name: module
        for name, module in names.items()
        if re.search(rf"^(def {name}\(|{name} = )", texts[module], re.MULTILINE)
    }


_MODULES = _find()

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> "Callable[..., Tensor]":
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    function = getattr(import_module(f"kd.objectives.{_MODULES[name]}"), name)
    globals()[name] = function  # found without __getattr__ from now on
    return function


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
