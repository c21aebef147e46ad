"""Transactions. Django promises nothing here and points to `transaction.on_commit`; this is what one gets without."""

from __future__ import annotations

from django.db import transaction

from tests.conformance.ground import Ground, behaviour
from tests.django_tasks import effects_seen, enqueue_and_roll_back
from tests.models import Effect
from tests.support.wait import wait_until

TOPIC = "Transactions (beyond Django's promises)"


@behaviour(TOPIC, "a job enqueued in a transaction that rolls back never runs", "run")
def _(ground: Ground) -> None:
    ground.side_file.path.write_text("")
    enqueue_and_roll_back(ground.task("leave_mark"), "rolled back")
    ground.finished(ground.task("leave_mark").enqueue("after it"))
    wait_until(lambda: ground.side_file.count("after it"), what="the later one")
    assert ground.side_file.count("rolled back") == 0


@behaviour(TOPIC, "a job sees everything that was committed with it", "run")
def _(ground: Ground) -> None:
    Effect.objects.all().delete()
    with transaction.atomic():
        result = ground.task("effects_seen").enqueue()
        Effect.objects.create(note="written after enqueue")
    assert ground.finished(result).return_value == ["written after enqueue"]
    assert effects_seen.call() == ["written after enqueue"]


@behaviour(TOPIC, "within the transaction the job has its id and can be found", "get_result")
def _(ground: Ground) -> None:
    with transaction.atomic():
        result = ground.task("add").enqueue(1)
        assert ground.backend.get_result(result.id).status == "READY"
