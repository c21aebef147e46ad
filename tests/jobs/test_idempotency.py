"""`assert_idempotent` finds the tasks that a second run would harm, and passes the others."""

from __future__ import annotations

import os
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User

from jobs.testing import assert_idempotent
from outbox.models import Message
from tests import tasks
from tests.models import Effect

pytestmark = [pytest.mark.kills, pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("task", "points"),
    [(tasks.two_effects_once, 4), (tasks.two_effects_in_one_transaction, 1), (tasks.async_effect_once, 2)],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_task_that_bears_a_second_run_passes(task: Any, points: int) -> None:
    assert assert_idempotent(task, "note") == points


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("task", "said"),
    [
        (tasks.two_effects_again_and_again, "killed just before commit 2.*extra .*note first"),
        (tasks.enqueue_again_and_again, "killed after its last commit.*outbox.Message: extra"),
        (tasks.only_the_first_time, "killed after its last commit, raised when it was run again.*it is there already"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_task_that_does_not_is_found_with_the_point_and_the_rows(task: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=f"(?s){said}"):
        assert_idempotent(task, "note")


@pytest.mark.django_db(transaction=True)
def test_a_task_that_raises_is_not_judged() -> None:
    with pytest.raises(AssertionError, match=r"(?s)raised when nobody disturbed it.*RuntimeError: no"):
        assert_idempotent(tasks.async_fail_always, "no")


@pytest.mark.django_db(transaction=True)
def test_the_database_is_as_it_was_afterwards() -> None:
    user = User.objects.create_user("ann")
    group = Group.objects.create(name="staff")
    user.groups.add(group)
    user.user_permissions.add(Permission.objects.all()[0])
    effect = Effect.objects.create(note="there before")

    assert_idempotent(tasks.two_effects_once, "note")

    assert list(Effect.objects.all()) == [effect]
    assert list(User.objects.get().groups.all()) == [group]
    assert User.objects.get().user_permissions.count() == 1
    assert not Message.objects.exists()


@pytest.mark.django_db
def test_inside_a_transaction_it_says_what_it_needs() -> None:
    with pytest.raises(AssertionError, match="TransactionTestCase, or transactional_db"):
        assert_idempotent(tasks.two_effects_once, "note")


@pytest.mark.django_db(transaction=True)
def test_what_differs_by_nature_can_be_left_out() -> None:
    with pytest.raises(AssertionError, match="is not idempotent"):
        assert_idempotent(tasks.note_of_the_process)

    assert assert_idempotent(tasks.note_of_the_process, ignore=["tests.Effect.note"]) == 2
