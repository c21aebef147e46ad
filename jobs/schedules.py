"""The pages of the schedules, and what a person does there: each act a POST, its own permission, and a trace.

What stands in the code can be paused, resumed and run here; it is edited and deleted in the code.
"""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID
from zoneinfo import available_timezones

from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE, DELETION
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.views.decorators.http import require_safe

from jobs import arrange
from jobs.acts import Acts, name_of, reason_of
from jobs.conf import jobs_settings
from jobs.dashboard import filters, look, schedules, story
from jobs.declare import registry
from jobs.pages import HIDDEN
from jobs.plan import Plan
from jobs.proposal import EMPTY, Proposal, of_row, read
from jobs.recur import UNITS
from jobs.timetable import Schedule

PERMISSIONS = {"pause": "manage_schedule", "resume": "manage_schedule", "delete": "manage_schedule",
               "run": "run_schedule"}  # fmt: skip

ASKS = ("pause", "delete")

GONE = "There is no such schedule: somebody has deleted it."


class Schedules(Acts):
    """A list, a page for each, a form, and four acts."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("schedules/", wrap(require_safe(self.schedules)), name="jobs_job_schedules"),
            path("schedules/new/", wrap(self.new_schedule), name="jobs_job_new_schedule"),
            path("schedules/act/", wrap(self.act_on_schedule), name="jobs_job_act_on_schedule"),
            path("schedules/<uuid:number>/", wrap(require_safe(self.schedule)), name="jobs_job_schedule"),
            path("schedules/<uuid:number>/edit/", wrap(self.edit_schedule), name="jobs_job_edit_schedule"),
        ]
        return [*own, *super().get_urls()]

    def schedules(self, request: HttpRequest) -> HttpResponse:
        """Every schedule with its next times."""
        self.allow(request)
        found = schedules.schedules()
        context = {
            "title": "Schedules", "schedules": found[: schedules.MOST], "more": len(found) > schedules.MOST,
            "off": not jobs_settings().SCHEDULES,
        }  # fmt: skip
        return self.show(request, "schedules", context)

    def schedule(self, request: HttpRequest, number: UUID) -> HttpResponse:
        """One schedule: when, what, and the jobs it has made."""
        self.allow(request)
        found = schedules.schedule(number)
        if found is None:
            raise Http404(GONE)
        may = request.user.has_perm("jobs.view_arguments")
        context: dict[str, Any] = {
            "title": found.row.name, "schedule": found, "row": found.row, "may_view_arguments": may,
            "hidden_words": HIDDEN, "tab": "schedules",
            "missed": Schedule.Missed(found.row.missed).label, "overlap": Schedule.Overlap(found.row.overlap).label,
        }  # fmt: skip
        try:
            context["jobs"] = schedules.jobs_of(found.row)
        except look.TooSlow:
            context["too_slow"] = True
        if may:
            context["arguments"] = story.arguments_tree(found.row, registry.get(found.row.task))
        return self.show(request, "schedule", context)

    # The form --------------------------------------------------------------------------------------------------------

    def new_schedule(self, request: HttpRequest) -> HttpResponse:
        """Make one."""
        self._may_write(request)
        proposal = Proposal({**EMPTY, "timezone": timezone.get_default_timezone_name()})
        if request.method == "POST":
            proposal = read(request.POST)
            if proposal.plan is not None and request.POST.get("verb") == "save":
                try:
                    with transaction.atomic(using=jobs_settings().DATABASE):
                        number = arrange.create(proposal.plan)
                except IntegrityError:
                    proposal.problem = (
                        f"There is a schedule {proposal.said('name')!r} already: give this one another name."
                    )
                else:
                    self._trace(request, number, proposal.said("name"), "Created.", ADDITION)
                    messages.success(request, f"The schedule {proposal.said('name')} is made.")
                    return redirect(self.address("schedule", number))
        return self._form(request, proposal, "New schedule")

    def edit_schedule(self, request: HttpRequest, number: UUID) -> HttpResponse:
        """Change one that was made here."""
        self._may_write(request)
        row = look.one(schedules.ONE, (number,))
        if row is None or row.declared:
            raise Http404(GONE if row is None else "This schedule stands in the code: edit it there.")
        try:
            proposal = read(request.POST, row) if request.method == "POST" else of_row(row)
        except (ValueError, RecursionError):
            raise Http404("This schedule cannot be read; delete it and make another.") from None
        if proposal.plan is not None and request.POST.get("verb") == "save":
            try:
                with transaction.atomic(using=jobs_settings().DATABASE):
                    done = arrange.change(number, proposal.plan, seen=request.POST.get("digest", ""))
            except IntegrityError:
                proposal.problem = f"There is a schedule {proposal.said('name')!r} already: give this one another name."
            else:
                if done:
                    self._trace(request, number, proposal.said("name"), f"Edited. {reason_of(request)}".strip(), CHANGE)
                    messages.success(request, f"The schedule {proposal.said('name')} is changed.")
                else:
                    messages.warning(request, "Somebody else has changed it in the meantime; nothing was changed.")
                return redirect(self.address("schedule", number))
        return self._form(request, proposal, f"Edit {row.name}")

    def _form(self, request: HttpRequest, proposal: Proposal, title: str) -> HttpResponse:
        context = {
            "title": title, "proposal": proposal, "values": proposal.values, "before": proposal.before,
            "tasks": sorted(registry), "zones": sorted(available_timezones()), "missed": Schedule.Missed.choices,
            "overlaps": Schedule.Overlap.choices, "units": [unit for _, unit in UNITS], "tab": "schedules",
            "queues": jobs_settings().QUEUES, "preview": _preview(proposal.plan) if not proposal.problem else None,
        }  # fmt: skip
        return self.show(request, "schedule_form", context)

    # Acts ------------------------------------------------------------------------------------------------------------

    def act_on_schedule(self, request: HttpRequest) -> HttpResponse:
        """Pause, resume, run now, or delete."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self.allow(request)
        verb, given = request.POST.get("verb", ""), request.POST.get("schedule", "")
        if verb not in PERMISSIONS or not filters.UUID_LIKE.match(given):
            return HttpResponseBadRequest("There is no such verb.")
        self.require(request, f"jobs.{PERMISSIONS[verb]}")
        found = schedules.schedule(UUID(given))
        if found is None:
            messages.warning(request, GONE)
        elif verb in ASKS and request.POST.get("confirmed") != "yes":
            context = {
                "title": f"{verb.capitalize()} the schedule {found.row.name}?", "verb": verb, "row": found.row,
                "back": self._next(request), "action": self.address("act_on_schedule"), "tab": "schedules",
            }  # fmt: skip
            return self.show(request, "ask_schedule", context)
        else:
            try:
                self._carry_out_on(request, verb, found.row)
            except ValueError as error:
                messages.error(request, f"{found.row.name} cannot be run: {error}")
        return redirect(self.address("schedules")) if verb == "delete" else self._back(request)

    def _carry_out_on(self, request: HttpRequest, verb: str, row: look.Found) -> None:
        by, reason = name_of(request), reason_of(request)
        done: object
        if verb == "run":
            done = arrange.run_now(row.id, by=by)
            text = f"A job of {row.name} is on its way: {done}."
        elif verb == "pause":
            done = arrange.pause(row.id, by=by, reason=reason)
            text = f"{row.name} is paused: its ticks make no jobs until it is resumed."
        elif verb == "resume":
            done = arrange.resume(row.id)
            text = f"{row.name} goes on with its next tick."
        else:
            done = arrange.delete(row.id)
            text = f"{row.name} is deleted; the jobs it has made stay."
        if not done:
            messages.warning(request, f"{row.name} has changed in the meantime; nothing was done.")
            return
        what = f"{verb}{f': {reason}' if reason else ''}"
        self._trace(request, row.id, row.name, what, DELETION if verb == "delete" else CHANGE)
        messages.success(request, text)

    def _may_write(self, request: HttpRequest) -> None:
        """Whoever writes arguments sees them."""
        self.allow(request)
        if not (request.user.has_perm("jobs.manage_schedule") and request.user.has_perm("jobs.view_arguments")):
            raise PermissionDenied

    def _trace(self, request: HttpRequest, number: UUID, name: str, what: str, flag: int) -> None:
        self.log_one(request, None, f"schedule {name} {number}", what, flag)


def _preview(plan: Plan | None) -> dict[str, Any] | None:
    """What the form says, in plain words, with the next times."""
    if plan is None:
        return None
    ticks = list(itertools.islice(plan.rhythm.ticks(timezone.now()), 5))
    return {"sentence": plan.rhythm.sentence, "zone": plan.rhythm.timezone, "ticks": ticks}
