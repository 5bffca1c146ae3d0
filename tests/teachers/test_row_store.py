"""Rows by id from several files."""

import torch

from kd.teachers.row_store import RowStore


def test_rows_of_several_files_are_gathered_in_the_order_of_ids(tmp_path):
    store = RowStore(tmp_path, "key", (2,), torch.int64)
    everything = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    for ids in everything.split(7):
        store.append(ids, torch.stack([ids, ids**2], 1))
    reader = RowStore(tmp_path, "key", (2,), torch.int64)
    reader.refresh()
    ids = torch.tensor([49, 3, 3, 20, 0, 31, 7])
    assert reader.missing(torch.tensor([1, 50, -1, 49])).tolist() == [False, True, True, False]
    assert not reader.missing(ids).any()
    assert torch.equal(reader.gather(ids), torch.stack([ids, ids**2], 1))
