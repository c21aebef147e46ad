"""The pages of the dashboard, inside Django admin: they live in the addresses of the registered `Job` model.

Any AdminSite that has `Job` registered has them, under whatever address and name that site has. Each page asks for the
permission to view jobs, reads, and renders; what a person does goes to `acts`. The same address answers a fragment of
itself when the page on screen asks for it, so what is live is what is shown.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from jobs.conf import jobs_settings
from jobs.dashboard import block, counts, failures, filters, listing, schedules, state, story, trends
from jobs.dashboard.failures import Group
from jobs.dashboard.look import TooSlow
from jobs.models import State
from jobs.recipe import RENDER
from outbox.admin import ReadOnlyAdmin

TABS = ("overview", "jobs", "failures", "events", "schedules", "queues", "workers")

LIVE = (
    *("overview", "list", "job", "failures", "failure", "events", "event", "schedules", "schedule"),
    *("queues", "workers"),
)

HIDDEN = "hidden: you lack the permission to see arguments and results"

EVERY = 5
"""Seconds between two looks of a page that is live."""


class Pages(ReadOnlyAdmin):
    """What can be looked at."""

    def get_urls(self) -> list[URLPattern]:

        def wrap(view: Any) -> Any:
            return self.admin_site.admin_view(require_safe(view))

        own = [
            path("", wrap(self.overview), name="jobs_job_changelist"),
            path("list/<str:state>/", wrap(self.jobs), name="jobs_job_list"),
            path("failures/", wrap(self.failures), name="jobs_job_failures"),
            path("failures/group/", wrap(self.failure), name="jobs_job_failure"),
            path("queues/", wrap(self.queues), name="jobs_job_queues"),
            path("workers/", wrap(self.workers), name="jobs_job_workers"),
            path("find/", wrap(self.find), name="jobs_job_find"),
            path("<uuid:job_id>/change/", wrap(self.job), name="jobs_job_change"),
            path("<uuid:job_id>/history/", wrap(self.history), name="jobs_job_history"),
        ]
        return [*own, *super().get_urls()]

    # Pages ----------------------------------------------------------------------------------------------------------

    def overview(self, request: HttpRequest) -> HttpResponse:
        """What needs a person, what is where, and what happened over time."""
        self.allow(request)
        span = self._one_of(request, "span", trends.RANGES, "1h")
        depths = counts.depths()
        by_state = counts.by_state(depths)
        queues = state.queues(depths, trends.rates())
        workers = state.workers()
        over_time = trends.trends(span)
        return self.show(
            request,
            "overview",
            {
                "title": "Jobs",
                "needs": state.needs(by_state, queues, workers) + schedules.needs(jobs_settings().TICK_GRACE),
                "counts": self._tabs(by_state),
                "queues": queues,
                "workers": workers,
                "spans": list(trends.RANGES),
                "span": span,
                "trends": over_time,
                "plots": json.dumps(over_time.plots),
                "tasks": over_time.tasks[:12],
                "more_tasks": len(over_time.tasks) - 12,
            },
        )

    def jobs(self, request: HttpRequest, state: str) -> HttpResponse:
        """The jobs of one state."""
        self.allow(request)
        wanted = filters.read(state, request.GET)
        after = listing.cursor(request.GET.get("after", ""))
        depths = counts.depths()
        context: dict[str, Any] = {
            "title": f"{State(wanted.state).label.capitalize()} jobs",
            "wanted": wanted,
            "counts": self._tabs(counts.by_state(depths)),
            "bands": filters.BANDS,
            "spans": filters.SPANS,
            "after": after,
            "verbs": self.verbs_for(request, wanted.state),
            "query": wanted.address(),
        }
        try:
            context["page"] = listing.page(wanted, after, [row.queue for row in depths])
        except TooSlow:
            context["too_slow"] = True
        return self.show(request, "list", context)

    def job(self, request: HttpRequest, job_id: UUID) -> HttpResponse:
        """One job."""
        self.allow(request)
        told = story.story(job_id)
        if told is None:
            raise Http404("There is no such job: it was rolled back, discarded, or pruned from the history.")
        may = request.user.has_perm("jobs.view_arguments")
        context: dict[str, Any] = {
            "title": told.label,
            "story": told,
            "job": told.job,
            "may_view_arguments": may,
            "hidden_words": HIDDEN,
            "may_view_body": request.user.has_perm("outbox.view_body"),
            "verbs": self.verbs_for(request, told.state),
        }
        if may and told.job is not None:
            context["arguments"] = story.arguments_tree(told.job, told.task)
            result = getattr(told.job, "result", None)
            context["result"] = story.value_tree(result, told.task) if result is not None else None
        if told.job is not None and told.job.task == RENDER:
            context["renders"] = renders = block.block(told.job)
            if renders.recipe is not None:
                context["arguments"] = block.variables(context.get("arguments"))
        return self.show(request, "job", context)

    def history(self, request: HttpRequest, job_id: UUID) -> HttpResponse:
        """Admin's own address for what people have done: that stands on the job's page."""
        return redirect(self.address("change", job_id))

    def failures(self, request: HttpRequest) -> HttpResponse:
        """Failed attempts by what they have in common."""
        self.allow(request)
        within = self._one_of(request, "within", filters.SPANS, "7d")
        wanted = filters.read(State.DEAD, request.GET)
        context: dict[str, Any] = {
            "title": "Failures", "within": within, "spans": filters.SPANS, "task": wanted.task, "search": wanted.search,
        }  # fmt: skip
        try:
            context["groups"] = failures.groups(within, wanted.task, wanted.search)
        except TooSlow:
            context["too_slow"] = True
        return self.show(request, "failures", context)

    def failure(self, request: HttpRequest) -> HttpResponse:
        """The dead jobs of one group."""
        self.allow(request)
        group = self.group(request.GET)
        context: dict[str, Any] = {"title": group.exception or "Failures", "group": group, "tab": "failures"}
        try:
            context |= {"jobs": failures.newest(group), "count": failures.count(group)}
        except TooSlow:
            context["too_slow"] = True
        return self.show(request, "failure", {**context, "verbs": self.verbs_for(request, State.DEAD)})

    def queues(self, request: HttpRequest) -> HttpResponse:
        """Every queue: how much waits, for how long, how fast it goes."""
        self.allow(request)
        found = state.queues(counts.depths(), trends.rates())
        return self.show(request, "queues", {"title": "Queues", "queues": found})

    def workers(self, request: HttpRequest) -> HttpResponse:
        """Every worker, and what each of its slots executes."""
        self.allow(request)
        return self.show(request, "workers", {"title": "Workers", "workers": state.workers()})

    def find(self, request: HttpRequest) -> HttpResponse:
        """The search field: the id of a job leads to its page, anything else to a list."""
        self.allow(request)
        term = request.GET.get("q", "").strip()
        if filters.UUID_LIKE.match(term):
            return redirect(self.address("change", UUID(term)))
        wanted = filters.read(str(request.GET.get("state", "")), {"search": term})
        return redirect(f"{self.address('list', wanted.state)}?{wanted.address()}")

    # What they share ------------------------------------------------------------------------------------------------

    def allow(self, request: HttpRequest) -> None:
        """Whoever may not view jobs sees nothing and does nothing."""
        self.require(request, "jobs.view_job")

    def require(self, request: HttpRequest, permission: str) -> None:
        if not request.user.has_perm(permission):
            raise PermissionDenied

    def show(self, request: HttpRequest, page: str, context: dict[str, Any]) -> HttpResponse:
        """Render a page, or the live part of it where that is what was asked for."""
        fragment = request.headers.get("HX-Request") == "true"
        request.current_app = self.admin_site.name
        full = {
            **({} if fragment else self.admin_site.each_context(request)),
            "opts": self.opts,
            "site_name": self.admin_site.name,
            "page_name": page,
            "part": f"admin/jobs/{page}.html",
            "live": page in LIVE,
            "every": EVERY,
            "tabs": TABS,
            "tab": {"list": "jobs", "job": "jobs", "event": "events", "ask_replay": "events"}.get(page, page),
            "here": request.get_full_path(),
            "may": Permissions(request),
            **context,
        }
        answer = TemplateResponse(request, full["part"] if fragment else "admin/jobs/page.html", full)
        patch_vary_headers(answer, ("HX-Request", "Cookie"))
        answer["Cache-Control"] = "no-store"
        return answer

    def address(self, page: str, *args: Any) -> str:
        """The address of a page on this site."""
        return reverse(f"admin:jobs_job_{page}", args=args, current_app=self.admin_site.name)

    def group(self, given: Any) -> Group:
        wanted = str(given.get("exception", ""))[:200], str(given.get("frame", ""))[:300]
        return Group(*(text.replace("\x00", "") for text in wanted))

    def group_address(self, group: Group) -> str:
        return f"{self.address('failure')}?{urlencode({'exception': group.exception, 'frame': group.frame})}"

    def verbs_for(self, request: HttpRequest, state: str) -> list[Any]:
        """What this person may do to jobs of that state."""
        return []

    def _tabs(self, by_state: dict[str, counts.Count]) -> list[dict[str, Any]]:
        return [{"state": each.value, "label": each.label, "count": by_state[each.value]} for each in counts.STATES]

    def _one_of(self, request: HttpRequest, name: str, known: Any, otherwise: str) -> str:
        given = request.GET.get(name, "")
        return given if given in known else otherwise


class Permissions:
    """What a person may do, for templates: `may.pause_queue`."""

    def __init__(self, request: HttpRequest) -> None:
        self._user = request.user

    def __getattr__(self, name: str) -> bool:
        app = "outbox" if name in ("replay_message", "view_body") else "jobs"
        return bool(self._user.has_perm(f"{app}.{name}"))
