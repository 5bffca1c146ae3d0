"""The jobs of a sweep, as far as they are checked before the first one runs."""

import itertools
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from kd.config.grammar import parse, shorten
from kd.errors import UserError

# Up to this number all jobs are checked, 0.1 s each; above it every value once.
_ALL = 24
_MANY = 10_000  # values of one setting


def swept(cfg: DictConfig, loader: Any) -> list[Override]:
    """Return what the config itself sweeps over, as `sweep=seeds` does.

    Args:
        cfg: the composed config with Hydra's part.
        loader: Hydra's config loader.
    """
    params = OmegaConf.select(cfg, "hydra.sweeper.params") or {}
    return [parse(f"{key}={value}", loader) for key, value in params.items()]


def values(override: Override) -> list[str]:
    """Return the overrides, one a job, that a swept one stands for."""
    if not override.is_discrete_sweep():
        return []  # an interval, which only other sweepers read
    key = override.get_key_element()
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def refuse_endless(override: Override) -> None:
    """Check that the values of a sweep can be listed.

    Raises:
        UserError: a range has no end, a step of 0, or too many values.
    """
    if not override.is_discrete_sweep():
        return
    word = shorten(override.input_line or "")
    try:
        count = sum(1 for _ in itertools.islice(override.sweep_iterator(), _MANY + 1))
    except (ValueError, ArithmeticError) as error:
        raise UserError(f"{word}: {error}") from error
    if count > _MANY:
        raise UserError(f"{word}: more than {_MANY} values")


def jobs(sweeps: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return combinations of the values of a sweep: all, or those that have every value once.

    Args:
        sweeps: the values of each swept setting, as overrides.

    Example:
        >>> jobs([["a=0", "a=1"], ["b=0", "b=1"]])
        [['a=0', 'b=0'], ['a=0', 'b=1'], ['a=1', 'b=0'], ['a=1', 'b=1']]
    """
    count = 1
    for each in sweeps:
        count *= len(each)
    if count <= _ALL:
        return [list(job) for job in itertools.product(*sweeps)]
    first = [each[0] for each in sweeps]
    varied = [
        [*first[:place], word, *first[place + 1 :]]
        for place, each in enumerate(sweeps)
        for word in each[1:]
    ]
    return [first, *varied]


def outside_a_sweep(override: Override) -> str:
    """Return the message for several values in a command that is no sweep."""
    key, word = override.get_key_element(), override.input_line or ""
    text = shorten(word.partition("=")[2])
    also = f"; a list is {key}=[{text}]" if "." in key else ""
    if override.is_choice_sweep() and "'" not in text and "(" not in text and "." in key:
        also += f", and text with a comma {key}=\\'{text}\\'"
    return f"{key}={text}: several values are a sweep, which needs -m{also}"
