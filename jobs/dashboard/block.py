"""What a job of a `{% background %}` tag renders, for its page: where the tag stands, and the block's source."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent

from jobs.conf import jobs_settings
from jobs.dashboard.story import Branch
from jobs.envelope import unpack_body
from jobs.models import Block, FinishedJob, Job
from jobs.recipe import Recipe, read, verifies
from outbox.text import clean

MOST_SOURCE = 20_000

GONE = "Its source is not kept any more: the job could not run again."
UNREADABLE = "What it should render cannot be read."
FORGED = "Its signature does not fit: the row was not written by this site, or SECRET_KEY has changed since."


@dataclass(frozen=True)
class Shown:
    """A recipe as a person sees it; None where no worker would take it, and why."""

    recipe: Recipe | None
    problem: str = ""

    @property
    def source(self) -> str:
        """As it stands in the template, without the indentation of the whole."""
        lines = self.recipe.source.rstrip().split("\n") if self.recipe is not None else []
        return clean(dedent("\n".join(lines)).lstrip("\n"), MOST_SOURCE)

    @property
    def libraries(self) -> str:
        """The libraries that were loaded, with the names where only some were taken."""
        loads = self.recipe.loads if self.recipe is not None else ()
        return ", ".join(name if names is None else f"{name} ({', '.join(names)})" for name, names in loads)


def block(job: Job | FinishedJob) -> Shown:
    """What the job says it renders. Nothing in a row can make this fail."""
    try:
        args, kwargs = unpack_body(job.arguments)
        reference = kwargs["template"] if "template" in kwargs else args[0]
        if "digest" in reference:
            rows = Block.objects.using(jobs_settings().DATABASE).filter(digest=str(reference["digest"])[:64])
            found = list(rows.order_by("-id").values_list("recipe", "signature"))
            if not found:
                return Shown(None, GONE)
        else:
            found = [(str(reference["recipe"]), str(reference["signature"]))]
        signed = [text for text, signature in found if verifies(text, signature)]
        return Shown(read(signed[0])) if signed else Shown(None, FORGED)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return Shown(None, UNREADABLE)


def variables(tree: list[Branch] | None) -> list[Branch] | None:
    """Of a job's arguments those that its block sees: what it renders stands beside them, in words."""
    for branch in tree or ():
        if branch.name == "variables" and branch.kind == "object":
            return branch.below
    return tree
