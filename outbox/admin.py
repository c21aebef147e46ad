"""The outbox in Django admin: what waits and what was set aside, to look at; a person may replay or discard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from outbox.ask import ask
from outbox.models import Message, SetAsideMessage
from outbox.relay import replay
from outbox.wake import wake_after_commit

if TYPE_CHECKING:  # generic for the type checker only
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


class ReadOnlyAdmin(ModelAdmin):
    """Rows are to be looked at: they belong to the machine."""

    show_full_result_count = False  # a count of everything reads everything
    list_per_page = 50
    secret: ClassVar[tuple[str, ...]] = ()
    """Columns that may not be filtered by, or what they hold could be guessed."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        if lookup.partition("__")[0] in self.secret:
            return False
        return bool(super().lookup_allowed(lookup, value, request))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class EnvelopeAdmin(ReadOnlyAdmin):
    """What a message carries is for those who may see it."""

    secret = ("body",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        names = [field.name for field in self.opts.fields]
        may = request.user.has_perm("outbox.view_body")
        return names if may else ["hidden" if name == "body" else name for name in names]

    @admin.display(description="body")
    def hidden(self, message: Message | SetAsideMessage) -> str:
        return "hidden: you lack the permission to see what messages carry"

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["hidden"]


@admin.register(Message)
class MessageAdmin(EnvelopeAdmin):
    list_display = ["id", "uid", "written_at", "headers"]
    search_fields = ["=uid"]
    ordering = ["id"]


@admin.register(SetAsideMessage)
class SetAsideMessageAdmin(EnvelopeAdmin):
    list_display = ["id", "uid", "written_at", "set_aside_at", "error"]
    search_fields = ["=uid", "error"]
    ordering = ["id"]
    actions = ["replay", "discard"]

    @admin.action(description="Deliver the selected messages again", permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[SetAsideMessage]) -> None:
        with transaction.atomic(using=queryset.db):
            rows = list(queryset)
            ask(queryset.db, *replay([row.pk for row in rows]))
            wake_after_commit(queryset.db)
        for row in rows:
            self.log_change(request, row, "Delivered again.")
        messages.success(request, f"{len(rows)} messages will be delivered again.")

    @admin.action(description="Discard the selected messages for good", permissions=["replay"])
    def discard(self, request: HttpRequest, queryset: QuerySet[SetAsideMessage]) -> None:
        rows = list(queryset)
        self.log_deletions(request, queryset)
        queryset.delete()
        messages.success(request, f"{len(rows)} messages were discarded.")

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("outbox.replay_message")
