"""`python -m kd.search`: look for the settings with the best validation accuracy."""

import importlib.util
import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from kd.config.command import command, explained
from kd.config.compose import config_hash, content_hash, plain
from kd.errors import UserError
from kd.tuning.space import Choices, Range, Space, override, read_space

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from kd.tuning.study import Search

log = logging.getLogger(__name__)


@command("search")
def main(cfg: DictConfig) -> float:
    """Run the trials that are missing, print the best, and return its validation accuracy."""
    if importlib.util.find_spec("optuna") is None:
        raise UserError("python -m kd.search needs Optuna: pip install -e '.[search]'")
    settings = plain(cfg.search)
    check_settings(settings)
    space = read_space(settings.pop("space"))
    folder, base = Path(cfg.paths.run), run_overrides(HydraConfig.get().overrides.task)
    default = checked_space(space, base)
    from kd.tuning.study import Search

    experiment = content_hash([config_hash(default), {k: repr(v) for k, v in space.items()}])
    search = Search(
        space,
        defaults=default_values(space, base),
        compose=lambda overrides: composed(base, overrides),
        experiment=experiment,
        folder=folder,
        settings=settings,
    )
    try:
        search.run()
    except (KeyboardInterrupt, SystemExit):
        log.warning("interrupted; the same command goes on with: hydra.run.dir=%s", folder)
        raise
    return report(search, base, folder)


def check_settings(settings: dict[str, Any]) -> None:
    """Check what is said below `search` beside the space.

    Raises:
        UserError: names every mistake.
    """
    least = {"trials": 1, "seed": 0, "heartbeat": 1, "pruning.startup": 0, "pruning.warmup": 0}
    flat = settings | {f"pruning.{k}": v for k, v in settings["pruning"].items()}
    problems = [
        f"search.{key}={flat[key]}: must be a whole number ≥ {smallest}"
        for key, smallest in least.items()
        if type(flat[key]) is not int or flat[key] < smallest
    ]
    if not isinstance(settings["storage"], str | None):
        problems.append(f"search.storage={settings['storage']}: must be a file or a URL")
    if problems:
        raise UserError("\n  ".join(problems))


def run_overrides(overrides: list[str]) -> list[str]:
    """A command's overrides without those of the search itself: what each of its runs is given."""
    return [text for text in overrides if not _key(text).startswith(("search.", "search="))]


def _key(text: str) -> str:
    """An override without its sign; a deletion gets its end as well."""
    return (text if "=" in text else f"{text}=").lstrip("+~")


def composed(base: list[str], overrides: list[str], **flags: bool) -> DictConfig:
    """The config of `kd.train` with both."""
    return compose("train", merged(base, overrides), **flags)


def merged(base: list[str], overrides: list[str]) -> list[str]:
    """Both, without those of `base` whose key the others give."""
    taken = {text.partition("=")[0] for text in overrides}
    return [text for text in base if _key(text).partition("=")[0] not in taken] + overrides


def checked_space(space: Space, base: list[str]) -> DictConfig:
    """Check the default run, both ends of all ranges, and every choice; return the default's.

    Raises:
        UserError: names the values and what is wrong with the run that has them.
    """
    from kd.validation.check import check_config

    default = composed(base, [])
    check_config(default)
    ranges = {key: part for key, part in space.items() if isinstance(part, Range)}
    corners = [[override(k, part.ends[end]) for k, part in ranges.items()] for end in (0, 1)]
    choices = [(k, v) for k, p in space.items() if isinstance(p, Choices) for v in p.values]
    corners += [[override(key, value), *corners[1]] for key, value in choices]
    for overrides in corners:
        try:
            check_config(composed(base, overrides))
        except Exception as error:
            said = explained(error)
            if said is None:
                raise
            raise UserError(f"search.space, {' '.join(overrides)}: {said}") from error
    return default


def default_values(space: Space, base: list[str]) -> dict[str, Any]:
    """The values that the space's keys have in a run that nothing varies."""
    cfg = composed(base, [], return_hydra_config=True)
    options = cfg.hydra.runtime.choices
    return {key: options[key] if key in options else OmegaConf.select(cfg, key) for key in space}


def report(search: "Search", base: list[str], folder: Path) -> float:
    """Print the best trials and how to repeat the best; write `search.json`."""
    from rich.console import Console
    from rich.table import Table

    from kd.io.result_file import write_result

    best, trials = search.best(), search.claimed()
    words = command_line(base, best.user_attrs["overrides"])
    rows = [summary(trial) for trial in trials]
    counts = {state: sum(row["status"] == state for row in rows) for state in _STATES}
    content = {"best": summary(best), "command": words, **counts, "trials": rows}
    write_result(folder, content, "search.json")

    title = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    table = Table("trial", "validation accuracy", "settings", title=f"{len(rows)} trials: {title}")
    done = [row for row in rows if row["status"] == "completed"]
    done.sort(key=lambda row: (-row["val/acc"], row["number"]))
    for row in [*done[:5], *(row for row in done[5:] if row["defaults"])]:
        said = " ".join(row["overrides"]) or "the defaults"
        table.add_row(str(row["number"]), f"{row['val/acc']:.4f}", said)
    console = Console()
    console.print(table)
    console.print(
        "The best of many is best partly by luck; the test set has not been used. Run it:"
    )
    console.print(words, soft_wrap=True, highlight=False, markup=False)
    return float(best.value or 0.0)


_STATES = ("completed", "pruned", "failed", "running")


def summary(trial: "FrozenTrial") -> dict[str, Any]:
    """What search.json says of a trial."""
    known, state = trial.user_attrs, trial.state.name.lower()
    status = {"complete": "completed"}.get(state, "failed" if "error" in known else state)
    return {
        "number": trial.number,
        "status": status,
        "defaults": "defaults" in known,
        "val/acc": trial.value if status == "completed" else None,
        "epochs": max(trial.intermediate_values, default=0),
        "best_epoch": known.get("best_epoch"),
        "overrides": known.get("overrides"),
        "folder": known.get("folder"),
        "error": known.get("error"),
    }


def command_line(base: list[str], overrides: list[str]) -> str:
    """What repeats a trial as a run of its own, test set and all."""
    sources = HydraConfig.get().runtime.config_sources
    folders = [f"--config-dir={s.path}" for s in sources if s.provider == "command-line"]
    return shlex.join(["python", "-m", "kd.train", *folders, *merged(base, overrides)])


if __name__ == "__main__":
    main()
