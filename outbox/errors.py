"""What can go wrong in the outbox. Each message says what to do about it."""

from __future__ import annotations


class OutboxError(Exception):
    """Base of every error the outbox raises at its callers."""


class TransactionRequired(OutboxError):
    """OUTBOX["REQUIRE_TRANSACTION"] is on, and a message was written outside a transaction."""

    def __init__(self, alias: str) -> None:
        super().__init__(
            f"A message was written outside a transaction on the database {alias!r}, and"
            ' OUTBOX["REQUIRE_TRANSACTION"] is True. Wrap the business change and this call together in'
            f" transaction.atomic(using={alias!r})."
        )


class OutboxMissing(OutboxError):
    """The database the message should be written to has no outbox table."""

    def __init__(self, alias: str, app: str = "outbox") -> None:
        what = "outbox table" if app == "outbox" else f"table of {app} for this"
        super().__init__(
            f"The database {alias!r} has no {what}. Run `manage.py migrate {app} --database {alias}`, or name"
            " another database with using(database=...)."
        )


class Undeliverable(OutboxError):
    """A message that can never be delivered as it stands. The relay sets it aside with this text."""


class NoDestination(OutboxError):
    """The relay was started, but no app has registered where messages go."""

    def __init__(self) -> None:
        super().__init__(
            "No destination is registered for the messages of the outbox. Add 'jobs' to INSTALLED_APPS, or call"
            " outbox.relay.deliver_to(...) in your app's ready()."
        )
