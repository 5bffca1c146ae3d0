"""`python -m kd.predict`: classify images or texts with a run's student or an exported model."""

import sys

from omegaconf import DictConfig

from kd.config.command import command

_SKIPPED = 2  # exit code if some images or texts could not be read


@command("predict", several="images", texts="texts", teacher="with_teacher")
def main(cfg: DictConfig) -> None:
    """Classify the images or texts, write the predictions and print a summary."""
    from rich.console import Console

    from kd.config.compose import plain
    from kd.config.trust import given_trust
    from kd.deploy.prediction.classify import Classification
    from kd.deploy.prediction.classify_texts import TextWork
    from kd.deploy.prediction.settings import prediction_settings
    from kd.deploy.prediction.summary import Summary
    from kd.io.printable import printable

    settings = prediction_settings(plain(cfg))
    kind = TextWork if settings.texts else Classification
    work = kind(settings, given_trust(cfg), Console(stderr=True))
    summary = work.run()
    console = Console()
    if summary.first:
        console.print(summary.first_predictions())
    console.print(summary.by_class())
    lines = [summary.difference()] if isinstance(summary, Summary) and settings.teacher else []
    if settings.draw is not None:
        lines.append(f"drawn: {settings.draw}")
    lines.append(f"written: {settings.output}")
    if work.skipped:
        lines.append(f"skipped {work.noun}s, which cannot be read: {work.skipped}")
    for line in lines:
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
    if work.skipped:
        sys.exit(_SKIPPED)


if __name__ == "__main__":
    main()
