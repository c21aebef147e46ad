"""Edit the arguments of a job that nobody runs, and requeue it: checked against the task before anything is written."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin.models import CHANGE
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path

from jobs import operate
from jobs.acts import Acts, name_of, reason_of
from jobs.conf import jobs_settings
from jobs.dashboard import story
from jobs.envelope import check_json, loads, pack_body, unpack_body
from jobs.models import FinishedJob, Job, State
from jobs.redact import restored
from jobs.tasks import Task

EDITABLE = (State.READY, State.SCHEDULED, State.RETRYING, State.DEAD, State.CANCELLED)


class Edits(Acts):
    """One form."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [path("<uuid:job_id>/edit/", wrap(self.edit), name="jobs_job_edit"), *super().get_urls()]

    def edit(self, request: HttpRequest, job_id: UUID) -> HttpResponse:
        """Show the arguments as text, check what comes back, and put it in place."""
        self.allow(request)
        for permission in ("jobs.view_arguments", "jobs.edit_job"):
            self.require(request, permission)
        told = story.story(job_id)
        if told is None or told.job is None or told.state not in EDITABLE:
            raise Http404("Only a job that waits or has ended badly can be edited.")
        job, problem = told.job, ""
        try:
            text = story.editable(job, told.task)
        except (ValueError, RecursionError):
            raise Http404("The arguments of this job cannot be read.") from None
        if request.method == "POST":
            text = request.POST.get("arguments", "")
            packed, problem = checked(text, job, told.task)
            if packed is not None:
                return self._put(request, job, packed, told.task)
        context = {"title": "Edit the arguments", "story": told, "job": job, "text": text, "problem": problem}
        return self.show(request, "edit", context)

    def _put(
        self, request: HttpRequest, job: Job | FinishedJob, packed: str, task: Task[Any, Any] | None
    ) -> HttpResponse:
        # The guard is what the form showed, and the lease it showed it under.
        lease = request.POST.get("lease", "")
        done = (
            lease.isdecimal()
            and int(lease) == job.lease
            and operate.edit(
                job.pk,
                packed,
                seen=job.arguments,
                lease=job.lease,
                version=task.version if task is not None else job.version,
                by=name_of(request),
                reason=reason_of(request),
            )
        )
        if done:
            self.log_one(request, str(job.pk), str(job), f"Edited the arguments. {reason_of(request)}".strip(), CHANGE)
            messages.success(request, "The arguments are changed, and the job is on its way.")
        else:
            messages.warning(request, "The job has moved on in the meantime; nothing was changed.")
        return redirect(self.address("change", job.pk))


def checked(text: str, job: Job | FinishedJob, task: Task[Any, Any] | None) -> tuple[str | None, str]:
    """The arguments as they are stored, or None and what is wrong with them."""
    try:
        content = loads(text)
    except (ValueError, RecursionError) as error:
        return None, f"This is not JSON: {error}"
    if type(content) is not dict or set(content) != {"args", "kwargs"}:
        return None, 'Give an object with a list "args" and an object "kwargs", and nothing else.'
    args, kwargs = unpack_body(job.arguments)
    content = restored(content, {"args": args, "kwargs": kwargs})
    if type(content["args"]) is not list or type(content["kwargs"]) is not dict:
        return None, '"args" must be a list and "kwargs" an object.'
    if (problem := check_json(content["args"], "args") or check_json(content["kwargs"], "kwargs")) is not None:
        return None, problem
    if task is not None:
        try:
            task.check_call(content["args"], content["kwargs"])
        except ValueError as error:
            return None, str(error)
    packed, most = pack_body(content["args"], content["kwargs"]), jobs_settings().MAX_PAYLOAD
    if (size := len(packed.encode())) > most:
        return None, f'That is {size:,} bytes; JOBS["MAX_PAYLOAD"] is {most:,}.'
    return packed, ""
