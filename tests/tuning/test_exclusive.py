"""The lock of all workers of a storage."""

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
    entered = []
    try:
        with lock():
            entered.append(True)
    except UserError as error:
        assert "another worker held its lock" in str(error)
    assert bool(entered) == held
