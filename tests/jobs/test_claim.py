import time
import pytest
from outbox.session import Session
from tests.factories import JobFactory
from outbox.session import Query

@pytest.mark.parametrize("n", range(30))
def test_x(session: Session, n: int) -> None:
    JobFactory.create_batch(5)
    session.run(Query("SELECT 1"))
