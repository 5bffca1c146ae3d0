"""The lock of all workers of a storage."""

from contextlib import nullcontext

import pytest
import sqlalchemy

from kd.errors import UserError
from kd.tuning.exclusive import Exclusive
from kd.tuning.storage_url import StorageUrl


@pytest.mark.parametrize(("answer", "held"), [("1", True), ("''", True), ("0", False)])
def test_a_lock_that_a_server_does_not_give_is_not_taken_for_held(answer, held, tmp_path):
    """MySQL's GET_LOCK answers 0 after its timeout; PostgreSQL's lock answers an empty text."""
    lock = Exclusive(StorageUrl(str(tmp_path / "study.db")), {})
    lock.url.file = None
    lock._engine = sqlalchemy.create_engine("sqlite://")
    lock.statements = (f"SELECT {answer}", "SELECT 1")
    refused = pytest.raises(UserError, match="another worker held its lock")
    with nullcontext() if held else refused, lock():
        assert held
