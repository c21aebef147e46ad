"""Text that PostgreSQL will take, whatever it was: nothing a task or a message says may make a write fail."""

from __future__ import annotations

from outbox.faults import primary


def clean(text: str, limit: int) -> str:
    """`text` without NUL and lone surrogates (each becomes U+FFFD), cut to `limit` characters with a mark."""
    text = text.replace("\x00", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def describe(error: BaseException) -> str:
    """One error as `module.Class: message`, as Python prints it, safe to store.

    Nothing an error does when it is read gets out of here. Of what PostgreSQL says only the first part is kept: its
    details quote whole rows.
    """
    try:
        kind = type(error)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    except BaseException:
        name = "(an error without a name)"
    try:
        message = primary(error) or str.__str__(str(error))
    except BaseException:
        message = "(its message could not be read)"
    # In one line, or it could pass for another line of a log.
    return clean(r"\n".join(f"{name}: {message}".splitlines()) if message else name, 2000)
