"""What a person does on the dashboard: a POST, its own permission, a question first where it destroys, and a trace.

Each act is a verb of `operate`; nothing is written here but admin's own log. What may go to many jobs is done in steps
of bounded size, each committed by itself; where time runs out the page says how many are done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import parse_qsl
from uuid import UUID

from django.contrib import messages
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.admin.options import get_content_type_for_model
from django.db import router
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme

from jobs import operate
from jobs.dashboard import failures, filters, listing
from jobs.dashboard.counts import MOST, Count, bounded
from jobs.dashboard.look import TooSlow, rows
from jobs.models import Job, State, Worker
from jobs.pages import Pages
from outbox.ask import ask, writing
from outbox.models import SetAsideMessage
from outbox.relay import replay
from outbox.wake import wake_after_commit

STEP = 1000
"""Jobs that are acted upon in one transaction."""

PATIENCE = 20.0
"""Seconds that one request goes on with the next step."""


@dataclass(frozen=True)
class Verb:
    """Something that can be done to jobs."""

    name: str
    label: str
    done: str
    permission: str
    states: tuple[str, ...]
    act: Callable[[list[UUID], str, str], int]
    asks: bool = False
    """Even for one job."""
    destroys: bool = False
    tells: str = ""
    """What it means, on the page that asks."""


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "requeue", "Requeue", "requeued", "jobs.requeue_job", (State.DEAD, State.CANCELLED),
            lambda ids, by, why: operate.requeue(ids, by=by, reason=why),
            tells="They run again as soon as a slot is free, with all their attempts. What has been kept stays.",
        ),
        Verb(
            "run_now", "Run now", "will run now", "jobs.run_job", (State.SCHEDULED, State.RETRYING),
            lambda ids, by, why: operate.run_now(ids, by=by, reason=why),
            tells="They do not wait for their time but run as soon as a slot is free.",
        ),
        Verb(
            "cancel", "Cancel", "cancelled or told to stop", "jobs.cancel_job",
            (State.READY, State.RUNNING, State.SCHEDULED, State.RETRYING),
            lambda ids, by, why: sum(operate.cancel(ids, by=by, reason=why)),
            asks=True, destroys=True,
            tells="What waits will not run. What runs is told to stop and killed a second later; what it has already"
            " done stays done.",
        ),
        Verb(
            "discard", "Discard", "discarded", "jobs.discard_job", (State.DEAD, State.CANCELLED),
            lambda ids, by, why: operate.discard(ids),
            asks=True, destroys=True,
            tells="They are deleted with their attempts, log lines and results. This cannot be undone.",
        ),
        Verb(
            "replay", "Deliver again", "will be delivered again", "outbox.replay_message", (State.SET_ASIDE,),
            lambda ids, by, why: replay_messages(ids),
            tells="The relay tries them again. What is still wrong with them sets them aside once more.",
        ),
        Verb(
            "discard_message", "Discard", "discarded", "outbox.replay_message", (State.SET_ASIDE,),
            lambda ids, by, why: discard_messages(ids),
            asks=True, destroys=True, tells="They are deleted and never become jobs. This cannot be undone.",
        ),
    )
}  # fmt: skip


@dataclass
class Aim:
    """What an act is aimed at."""

    count: Count
    batches: Callable[[], Iterator[list[UUID]]]
    words: str
    fields: dict[str, list[str]]
    """What says so in the form that asks."""


class Acts(Pages):
    """What can be done."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("act/", wrap(self.act), name="jobs_job_act"),
            path("queues/act/", wrap(self.act_on_queue), name="jobs_job_act_on_queue"),
            path("workers/act/", wrap(self.act_on_worker), name="jobs_job_act_on_worker"),
        ]
        return [*own, *super().get_urls()]

    def verbs_for(self, request: HttpRequest, state: str) -> list[Verb]:
        return [verb for verb in VERBS.values() if state in verb.states and request.user.has_perm(verb.permission)]

    def act(self, request: HttpRequest) -> HttpResponse:
        """Do something to one job, to the selected ones, to all that match, or to a group of failures."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self.allow(request)
        verb = VERBS.get(request.POST.get("verb", ""))
        if verb is None:
            return HttpResponseBadRequest("There is no such verb.")
        self.require(request, verb.permission)
        try:
            aim = self._aim(request, verb)
        except TooSlow:
            messages.error(request, "Counting what matches takes too long. Narrow the list and try again.")
            return self._back(request)
        if aim is None or not aim.count.n:
            messages.warning(request, "Nothing was selected, or it has moved on in the meantime.")
            return self._back(request)
        if request.POST.get("confirmed") != "yes" and (verb.asks or aim.count.n > 1):
            return self._ask(request, verb, aim)
        done, complete = self._carry_out(verb, aim, name_of(request), reason_of(request))
        self._log(request, verb, aim, done)
        noun = "message" if State.SET_ASIDE in verb.states else "job"
        text = f"{done:,} {noun}{'s' * (done != 1)} {verb.done}."
        if not complete:
            text += " Time ran out before all of them were done: do it again for the rest."
        (messages.success if done and complete else messages.warning)(request, text)
        return self._back(request)

    def _aim(self, request: HttpRequest, verb: Verb) -> Aim | None:
        scope = request.POST.get("scope", "selected")
        if scope == "matching":
            wanted = filters.read(request.POST.get("state", ""), _query(request.POST.get("query", "")))
            if wanted.state not in verb.states or wanted.state == State.SET_ASIDE:
                return None
            narrowed = f" that match {wanted.address()}" if wanted.narrows else ""
            words = f"{State(wanted.state).label} jobs{narrowed}"
            fields = {"state": [wanted.state], "query": [wanted.address()]}
            return Aim(listing.matching(wanted), lambda: listing.batches(wanted, STEP), words, fields)
        if scope == "group":
            group = self.group(request.POST)
            words = f"dead jobs with {group.exception or 'no exception'}"
            fields = {"exception": [group.exception], "frame": [group.frame]}
            return Aim(failures.count(group), lambda: failures.batches(group, STEP), words, fields)
        ids = list(dict.fromkeys(_ids(request.POST.getlist("job"))))[:STEP]
        return Aim(Count(len(ids)), lambda: iter([ids]), "selected", {"job": [str(each) for each in ids]})

    def _carry_out(self, verb: Verb, aim: Aim, by: str, reason: str) -> tuple[int, bool]:
        """Step by step; how many were done, and whether that was all."""
        until, done = time.monotonic() + PATIENCE, 0
        with suppress(TooSlow):
            for ids in aim.batches():
                done += verb.act(ids, by, reason)
                if time.monotonic() > until:
                    return done, False
            return done, True
        return done, False

    def _ask(self, request: HttpRequest, verb: Verb, aim: Aim) -> HttpResponse:
        context = {
            "title": f"{verb.label}?", "verb": verb, "aim": aim, "back": self._next(request),
            "scope": request.POST.get("scope", "selected"), "action": self.address("act"),
            "noun": "message" if State.SET_ASIDE in verb.states else "job",
        }  # fmt: skip
        return self.show(request, "ask", context)

    def _log(self, request: HttpRequest, verb: Verb, aim: Aim, done: int) -> None:
        """Admin's log: an entry for each job by name where they were named, one for all where they were not."""
        if not done:
            return
        ids, reason = aim.fields.get("job", []), reason_of(request)
        what = f"{verb.label}{f': {reason}' if reason else ''}"
        if ids:
            for each in ids:
                self.log_one(request, each, each, what, DELETION if verb.name.startswith("discard") else CHANGE)
        else:
            self.log_one(request, None, f"{done:,} {aim.words}", f"{what} ({done:,})", CHANGE)

    def log_one(
        self, request: HttpRequest, number: str | None, shown: str, what: str, flag: int, model: type[Model] = Job
    ) -> None:
        LogEntry.objects.create(
            user_id=request.user.pk or 0,
            content_type_id=get_content_type_for_model(model).pk,
            object_id=number,
            object_repr=shown[:200],
            action_flag=flag,
            change_message=what,
        )

    # Queues and workers ---------------------------------------------------------------------------------------------

    def act_on_queue(self, request: HttpRequest) -> HttpResponse:
        """Pause, resume or clear."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self.allow(request)
        verb, queue = request.POST.get("verb", ""), request.POST.get("queue", "")[:64].replace("\x00", "")
        if verb not in ("pause", "resume", "clear") or not queue:
            return HttpResponseBadRequest("There is no such verb.")
        self.require(request, "jobs.clear_queue" if verb == "clear" else "jobs.pause_queue")
        if verb != "resume" and request.POST.get("confirmed") != "yes":
            waiting = rows(COUNT_WAITING, (queue, MOST))[0].n if verb == "clear" else 0
            context = {
                "title": f"{verb.capitalize()} the queue {queue}?", "verb": verb, "queue": queue,
                "waiting": bounded(waiting), "back": self._next(request),
                "action": self.address("act_on_queue"),
            }  # fmt: skip
            return self.show(request, "ask_queue", context)
        self._tell_queue(request, verb, queue)
        return self._back(request)

    def _tell_queue(self, request: HttpRequest, verb: str, queue: str) -> None:
        by, reason = name_of(request), reason_of(request)
        if verb == "pause":
            minutes = request.POST.get("minutes", "")
            until = timezone.now() + timedelta(minutes=min(int(minutes), 525_600)) if minutes.isdecimal() else None
            operate.pause(queue, by=by, reason=reason, until=until)
            text = f"The queue {queue} is paused: what runs goes on, nothing new is started."
        elif verb == "resume":
            text = f"The queue {queue} goes on." if operate.resume(queue) else f"The queue {queue} was not paused."
        else:
            until_then, done = time.monotonic() + PATIENCE, 0
            while (step := operate.clear(queue, by=by, reason=reason)) and time.monotonic() < until_then:
                done += step
            text = f"{done:,} jobs of the queue {queue} were cancelled."
        self.log_one(request, None, f"queue {queue}", f"{verb}{f': {reason}' if reason else ''}: {text}", CHANGE)
        messages.success(request, text)

    def act_on_worker(self, request: HttpRequest) -> HttpResponse:
        """Quiet, stop, or have it work again."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self.allow(request)
        wish, number = request.POST.get("wish", ""), request.POST.get("worker", "")
        if wish not in Worker.Wish.values or not number.isdecimal() or int(number) >= 2**63:
            return HttpResponseBadRequest("There is no such wish.")
        self.require(request, "jobs.control_worker")
        told = Worker.Wish(wish)
        if told is Worker.Wish.STOP and request.POST.get("confirmed") != "yes":
            context = {
                "title": f"Stop worker {number}?", "worker": number, "back": self._next(request),
                "action": self.address("act_on_worker"),
            }  # fmt: skip
            return self.show(request, "ask_worker", context)
        if operate.tell_worker(int(number), told):
            self.log_one(request, None, f"worker {number}", told.label, CHANGE)
            messages.success(request, f"Worker {number} is told: {told.label}.")
        else:
            messages.warning(request, f"Worker {number} is gone.")
        return self._back(request)

    # What they share ------------------------------------------------------------------------------------------------

    def _next(self, request: HttpRequest) -> str:
        given = request.POST.get("next", "")
        safe = url_has_allowed_host_and_scheme(given, {request.get_host()}, require_https=request.is_secure())
        return given if safe else self.address("changelist")

    def _back(self, request: HttpRequest) -> HttpResponse:
        return redirect(self._next(request))


COUNT_WAITING = """SELECT count(*) AS n FROM (SELECT 1 FROM jobs_job
WHERE queue = %s AND state IN ('scheduled', 'retrying', 'ready') LIMIT %s) AS these"""


def replay_messages(ids: list[UUID]) -> int:
    """Put set-aside messages back into the outbox, for the relay to try again."""
    alias = router.db_for_write(SetAsideMessage)
    with writing(alias):
        numbers = list(SetAsideMessage.objects.using(alias).filter(uid__in=ids).values_list("pk", flat=True))
        done = len(ask(alias, *replay(numbers)))
        wake_after_commit(alias)
    return done


def discard_messages(ids: list[UUID]) -> int:
    alias = router.db_for_write(SetAsideMessage)
    return int(SetAsideMessage.objects.using(alias).filter(uid__in=ids).delete()[0])


def _ids(given: list[str]) -> Iterator[UUID]:
    for text in given:
        if filters.UUID_LIKE.match(text):
            yield UUID(text)


def _query(text: str) -> dict[str, str]:
    return dict(parse_qsl(text[:4000]))


def name_of(request: HttpRequest) -> str:
    return str(request.user.get_username())[:150]


def reason_of(request: HttpRequest) -> str:
    return request.POST.get("reason", "").replace("\x00", "")[:200]
