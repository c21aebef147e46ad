"""The pages of events, and the one act there is: giving them to their consumers, counted and asked first, and traced.

What is written is `replay`'s, in batches that are each committed; where time runs out the page says how far it came,
and the same again goes on from there.
"""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin.models import CHANGE
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.views.decorators.http import require_safe

from jobs import replay
from jobs.acts import PATIENCE, Acts, name_of, reason_of
from jobs.conf import jobs_settings
from jobs.dashboard import events, filters, listing
from jobs.dashboard.look import TooSlow, rows
from jobs.dashboard.tail import now
from jobs.delivery import REPETITION
from jobs.errors import JobsError
from jobs.events import Event
from jobs.ids import new_id
from jobs.pages import HIDDEN

MOST = 20_000
"""Events that the question counts."""


class Replays(Acts):
    """What has happened, to look at and to give again."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("events/", wrap(require_safe(self.events)), name="jobs_job_events"),
            path("events/replay/", wrap(self.replay_events), name="jobs_job_replay"),
            path("events/<uuid:event_id>/", wrap(require_safe(self.event)), name="jobs_job_event"),
        ]
        return [*own, *super().get_urls()]

    def events(self, request: HttpRequest) -> HttpResponse:
        """The log, newest first."""
        self.allow(request)
        given = request.GET
        if filters.UUID_LIKE.match(term := given.get("search", "").strip()):
            return redirect(self.address("event", UUID(term)))
        wanted, after = events.read(given), listing.cursor(given.get("after", ""))
        kinds = events.kinds()
        context: dict[str, Any] = {
            "title": "Events", "wanted_events": wanted, "after": after, "kinds": kinds, "query": wanted.address(),
            "consumers": {task.name for kind in kinds if wanted.type in ("", kind.name) for task in kind.tasks},
        }  # fmt: skip
        try:
            context["page"] = events.page(wanted, after)
        except TooSlow:
            context["too_slow"] = True
        return self.show(request, "events", context)

    def event(self, request: HttpRequest, event_id: UUID) -> HttpResponse:
        """One event, and what came of it."""
        self.allow(request)
        told = events.story(event_id)
        if told is None:
            raise Http404("There is no such event: it was rolled back, or pruned from the log.")
        may = request.user.has_perm("jobs.view_arguments")
        context: dict[str, Any] = {
            "title": told.event.type, "story": told, "event": told.event, "may_view_arguments": may,
            "hidden_words": HIDDEN, "consumers": [task.name for task in told.kind.tasks],
        }  # fmt: skip
        if may:
            context["payload"] = events.payload_tree(told.event)
        return self.show(request, "event", context)

    def find(self, request: HttpRequest) -> HttpResponse:
        """The id of an event leads to its page, too."""
        self.allow(request)
        term = request.GET.get("q", "").strip()
        if filters.UUID_LIKE.match(term) and Event.objects.using(jobs_settings().DATABASE).filter(pk=term).exists():
            return redirect(self.address("event", UUID(term)))
        return super().find(request)

    def replay_events(self, request: HttpRequest) -> HttpResponse:
        """Give one event, or all that match, to all consumers or to one: count, ask, do, and leave a trace."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self.allow(request)
        self.require(request, "jobs.replay_event")
        verb, again = request.POST.get("verb", ""), request.POST.get("again", "")
        if verb not in ("ask", "give", "repeat") or (verb == "repeat" and not REPETITION.match(again)):
            return HttpResponseBadRequest("There is no such verb.")
        if request.POST.get("event") and not filters.UUID_LIKE.match(request.POST["event"]):
            return HttpResponseBadRequest("There is no such event.")
        try:
            wanted = self._replay(request, again if verb == "repeat" else "")
            counted = replay.Counted(**rows(*wanted.counting(MOST))[0])
        except JobsError as error:
            messages.error(request, str(error))
            return self._back(request)
        except TooSlow:
            messages.error(request, "Counting what matches takes too long. Narrow the list and try again.")
            return self._back(request)
        if not counted.jobs:
            messages.warning(request, "Nobody consumes what matches: nothing was done.")
            return self._back(request)
        if verb == "ask":
            return self._ask_replay(request, wanted, counted)
        self._give(request, wanted)
        return self._back(request)

    def _replay(self, request: HttpRequest, again: str) -> replay.Replay:
        one = request.POST.get("event", "")
        given: dict[str, Any]
        if one:
            found = Event.objects.using(jobs_settings().DATABASE).filter(pk=one).values_list("type", flat=True)
            given = {"ids": [UUID(one)], "type": next(iter(found), "")}
        else:
            listed = events.read(dict(request.POST.items()))
            given = {
                "type": listed.type, "since": events.moment(listed.since), "until": events.moment(listed.until),
            }  # fmt: skip
        consumer = request.POST.get("consumer", "")[:200]
        return replay.Replay(**given, consumer=consumer, again=again, by=name_of(request), reason=reason_of(request))

    def _ask_replay(self, request: HttpRequest, wanted: replay.Replay, counted: replay.Counted) -> HttpResponse:
        fields = {name: request.POST.get(name, "")[:200] for name in ("event", "type", "since", "until", "consumer")}
        if not wanted.ids and wanted.until is None:
            fields["until"] = now().isoformat()  # what happens from here on was not counted, and is not repeated
        context = {
            "title": "Replay?", "counted": counted, "most": counted.events >= MOST, "wanted": None, "replay": wanted,
            "fields": {name: value for name, value in fields.items() if value}, "back": self._next(request),
            "action": self.address("replay"), "again": f"r-{new_id().hex[-12:]}",
            "names": sorted({name for theirs in wanted.tasks.values() for name in theirs}),
        }  # fmt: skip
        return self.show(request, "ask_replay", context)

    def _give(self, request: HttpRequest, wanted: replay.Replay) -> None:
        until, seen, written, complete = time.monotonic() + PATIENCE, 0, 0, True
        for done in replay.steps(wanted, database=jobs_settings().DATABASE):
            seen, written = seen + done.events, written + done.written
            if time.monotonic() > until:
                complete = False
                break
        what = f"Repetition {wanted.again}" if wanted.again else "Given to who had not had it"
        whom = wanted.consumer or "all consumers"
        said = f"{what}, {whom}, {written:,} jobs{f': {wanted.reason}' if wanted.reason else ''}"
        one = str(wanted.ids[0]) if wanted.ids else None
        self.log_one(request, one, f"event {one}" if one else f"{seen:,} events", said, CHANGE, Event)
        are = f"job{'s' * (written != 1)} of {seen:,} event{'s' * (seen != 1)} {'are' if written != 1 else 'is'}"
        text = f"{written:,} {are} on the way."
        if not complete:
            text += f" Time ran out before all of them were; this does the rest: {command_for(wanted)}"
        (messages.success if written and complete else messages.warning)(request, text)


def command_for(wanted: replay.Replay) -> str:
    """What a person types to go on where a page has stopped."""
    options = {
        "--type": wanted.type, "--consumer": wanted.consumer, "--again": wanted.again,
        "--since": wanted.since.isoformat() if wanted.since else "",
        "--until": wanted.until.isoformat() if wanted.until else "",
    }  # fmt: skip
    return " ".join(["manage.py replayevents", *(f"{name} {value}" for name, value in options.items() if value)])
