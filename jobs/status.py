"""The status address: how a job is doing, for the page that its owner watches. It exists only where you add it.

    from jobs.status import JobStatus

    path("status/<str:token>/", JobStatus.as_view(allowed=may_see), name="job_status")

The token is the job's id, signed: nobody can make one for a job whose token they were not given, and a wrong one is
answered like a job that does not exist. `allowed(request, handle)` decides who else may not look; without it whoever
has the address may. Answers JSON, or with `Accept: text/html` a fragment with a bar for a page to put in its place.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.signing import BadSignature, Signer
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.views.generic import View

from jobs.errors import JobDoesNotExist
from jobs.find import get
from jobs.handle import JobHandle
from jobs.models import State

SALT = "jobs.status"


def token_of(job: JobHandle[Any] | UUID | str) -> str:
    """The signed id of a job, for an address."""
    return Signer(salt=SALT).sign(UUID(str(job.id if isinstance(job, JobHandle) else job)).hex)


def job_of(token: str) -> UUID | None:
    """The id in a token; None for one that was not made by `token_of`."""
    try:
        return UUID(Signer(salt=SALT).unsign(token))
    except (BadSignature, ValueError):
        return None


def told(handle: JobHandle[Any]) -> dict[str, Any]:
    """What the owner of a job is told: nothing of its arguments, its errors or its result."""
    progress = handle.progress if handle.status not in (State.DEAD, State.CANCELLED) else None
    over = handle.is_finished or handle.status is State.SET_ASIDE
    done = handle.status is State.SUCCEEDED
    return {
        "id": str(handle.id),
        "status": handle.status.value,
        "finished": over,
        "attempts": handle.attempts,
        "progress": None
        if progress is None
        else {
            "done": progress.done,
            "total": progress.total,
            "share": 1.0 if done else progress.share,
            "text": progress.text,
            "seconds_left": None if over else progress.seconds_left,
        },
    }


class JobStatus(View):
    """GET of one job's status."""

    http_method_names = ["get", "head", "options"]
    allowed: Any = None
    """A function `(request, handle)`, or a method of a subclass; None lets everybody in who has the address."""
    template_name = "jobs/status.html"

    def get(self, request: HttpRequest, token: str) -> HttpResponseBase:
        handle = self.handle(request, token)
        if handle is None:
            # The same for a wrong token, a job that is gone and one that is somebody else's.
            raise Http404("There is no such job.")
        facts = told(handle)
        if request.get_preferred_type(["application/json", "text/html"]) == "text/html":
            answer: HttpResponse = render(request, self.template_name, {"job": facts, "state": handle.status})
        else:
            answer = JsonResponse(facts)
        answer["Cache-Control"] = "no-store"
        answer["Vary"] = "Accept, Cookie"
        return answer

    def handle(self, request: HttpRequest, token: str) -> JobHandle[Any] | None:
        """The job, if there is one and this request may see it."""
        job = job_of(token)
        if job is None:
            return None
        try:
            handle = get(job)
        except JobDoesNotExist:
            return None
        return handle if self.allowed is None or self.allowed(request, handle) else None
