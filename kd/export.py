"""`python -m kd.export`: write a run's student as a file for a device."""

from pathlib import Path

from omegaconf import DictConfig

from kd.config.arguments import typed_command
from kd.config.command import command


@command("export")
def main(cfg: DictConfig) -> None:
    """Export the student, compare the file with it, and print its sheet."""
    from kd.deploy.exporting.formats import MIN_CALIBRATION, find_format
    from kd.errors import UserError
    from kd.io.printable import printable

    if cfg.run is None:
        raise UserError("no run is given: add run=FOLDER")
    find_format(cfg.format, cfg.precision)  # before the run is opened
    _check_number("max_drop", cfg.max_drop, 0)
    _check_number("calibration_images", cfg.calibration_images, MIN_CALIBRATION, whole=True)
    from kd.config.trust import given_trust
    from kd.deploy.exporting.export import export
    from kd.deploy.exporting.request import Request
    from kd.deploy.exporting.sheet import sheet_files
    from kd.deploy.finished_run import FinishedRun

    request = Request(
        format=str(cfg.format),
        precision=cfg.precision,
        output=None if cfg.output is None else Path(str(cfg.output)),
        max_drop=float(cfg.max_drop),
        force=bool(cfg.force),
        calibration_images=int(cfg.calibration_images),
        latency=bool(cfg.latency),
        command=typed_command("export"),
    )
    output = export(FinishedRun(str(cfg.run), "run", given_trust(cfg)), request)
    print(printable(sheet_files(output)[1].read_text(encoding="utf-8"), lines=True))
    print(printable(f"written: {output}"))


def _check_number(name: str, value: object, least: int, whole: bool = False) -> None:
    from kd.errors import UserError

    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not value >= least:
        raise UserError(f"{name}={value}: must be a {'whole ' * whole}number ≥ {least}")


if __name__ == "__main__":
    main()
