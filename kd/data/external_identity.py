"""Content that identifies a user's data, and a warning of samples that two splits share."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from kd.data.external_facts import in_memory, some_of
from kd.data.external_loader import Request, Samples
from kd.data.external_source import MapSource, Source

log = logging.getLogger(__name__)


def recognised(
    sources: Mapping[str, Source], convert: Callable[[str], Callable[[Any, int, int], Any]]
) -> Iterator[Any]:
    """Yield the rows of each split, some samples of it, and all that lies in memory.

    Args:
        sources: a `MapSource` for each split.
        convert: returns what makes a batch of a split's samples.
    """
    for split, source in sources.items():
        assert isinstance(source, MapSource)
        content = Samples(source, seed=0)[Request(0, 0, some_of(source.rows).tolist())][1]
        yield source.rows
        yield from convert(split)(content, 0, 0)
        yield from in_memory(source.dataset)


def warn_of_shared_samples(name: str, sources: Mapping[str, Source]) -> None:
    """Warn if test samples are samples of the same data set that train or validate.

    Images are not compared: random transforms may change them in every reading.
    """
    for other in ("train", "val"):
        one, test = sources[other], sources["test"]
        if isinstance(one, MapSource) and isinstance(test, MapSource):
            (dataset, rows), (tested, test_rows) = map(_whole, (one, test))
            shared = int(torch.isin(test_rows, rows).sum()) if dataset is tested else 0
            if shared:
                log.warning(
                    "data %r: %d of %d test samples are %s samples as well, of the same data set: "
                    "the test accuracy is too high",
                    *(name, shared, len(test_rows), other),
                )


def _whole(source: MapSource) -> tuple[Any, Tensor]:
    """The data set behind `Subset`s, and the rows of it that are used."""
    dataset, rows = source.dataset, source.rows
    while type(dataset) is Subset:
        rows, dataset = torch.as_tensor(dataset.indices)[rows], dataset.dataset
    return dataset, rows
