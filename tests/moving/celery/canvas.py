from django.contrib.auth.models import User
from shop.letters import send_letter

from jobs import Ended, task


# chain(fetch.s(name), weigh.s(), store.s()): each gets what the one before returned.
@task
def fetch(name: str) -> str:
    return f"{name}.csv"


@task
def weigh(*, ended: Ended) -> int:
    return len(ended["result"])


@task
def store(*, ended: Ended) -> None:
    send_letter("stored", ended["result"])


def import_file(name: str) -> None:
    fetch.using(on_success=weigh.using(on_success=store).callback()).enqueue(name)


# chord(group(activate.s(pk) for pk in ...), announce.s(group)): one more when all are done.
@task(atomic=True)
def activate(user_id: int) -> None:
    User.objects.filter(pk=user_id).update(is_active=True)


@task
def announce(group: int) -> None:
    send_letter("announced", group)


@task
def announce_when_all_are(group: int) -> None:
    if not User.objects.filter(groups=group, is_active=False).exists():
        announce.using(idempotency_key=f"announce-{group}").enqueue(group)


def activate_all(group: int) -> None:
    pieces = User.objects.filter(groups=group, is_active=False).values_list("pk")
    activate.using(on_success=announce_when_all_are.callback(group)).enqueue_many(pieces)


# link_error=, errbacks.
@task
def tell_support(user_id: int, *, ended: Ended) -> None:
    send_letter("support", f"{user_id} ({ended['error']})")


@task
def charge(user_id: int) -> None:
    raise ValueError("no money")


def charge_or_tell(user_id: int) -> None:
    charge.using(on_failure=tell_support.callback(user_id)).enqueue(user_id)
