"""Background blocks: what a `{% background %}` tag has rendered is enqueued here, and rendered here by a worker.

It takes a recipe and plain values; it leaves one message, and the block's signed source where no row has it yet, both
in the caller's transaction. A crash there is the caller's rollback. In the worker it is a task like any other: nothing
of the request is there, what the template gives is thrown away, and a crash is the job's next attempt.
"""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connections, transaction
from django.template import Context, Engine, TemplateDoesNotExist, TemplateSyntaxError
from django.utils import timezone, translation

from jobs.conf import jobs_settings
from jobs.declare import task
from jobs.errors import GiveUp, TagOutsideTransaction
from jobs.fit import Misfit
from jobs.models import Block
from jobs.rebuild import Rebuilt, engine_named
from jobs.recipe import RENDER, Recipe, read, sign, verifies
from outbox.ask import ask
from outbox.conf import outbox_settings
from outbox.write import alias_for, in_transaction

TRUSTED_FOR = timedelta(days=1)
"""A stored source used within this time is relied on; retention lets go of it after two days at the earliest."""

Reference = dict[str, str]
"""What stands in a job: `{"digest": ...}` of a stored block, or `{"recipe": text, "signature": ...}` as a whole."""


def enqueue(recipe: Recipe, options: dict[str, Any], variables: dict[str, Any]) -> UUID:
    """Write the job in the caller's transaction; returns its id.

    `options` are those of `Task.using`; `variables` are all that the block will see. Raises what `Task.enqueue` raises;
    then nothing is written.
    """
    alias = alias_for(None)
    inside = in_transaction(connections[alias])
    if outbox_settings().REQUIRE_TRANSACTION and not inside:
        raise TagOutsideTransaction(alias, recipe.where)
    job = render_block.using(**options, database=alias)
    # A partial is short. And what is written to another database than the queue's could not commit with its source.
    if recipe.partial or alias != jobs_settings().DATABASE:
        return job.enqueue({"recipe": recipe.text, "signature": sign(recipe.text)}, variables).id
    with nullcontext() if inside else transaction.atomic(using=alias):
        handle = job.enqueue({"digest": recipe.digest}, variables)
        keep(recipe, alias)
    return handle.id


# No unique index, so nobody waits for another request that writes the same block; and no memory of what has been
# written, so a rollback, a flush or a restored backup leaves nothing to be wrong about. Two rows of a block do no harm.
KEEP = """INSERT INTO jobs_block (digest, signature, recipe) SELECT %s, %s, %s
WHERE NOT EXISTS (SELECT 1 FROM jobs_block
  WHERE digest = %s AND signature = %s AND used_at > statement_timestamp() - %s::interval)"""


def keep(recipe: Recipe, alias: str) -> None:
    """See to it that the block's source is stored when this transaction commits."""
    signature = sign(recipe.text)
    params: Any = (recipe.digest, signature, recipe.text, recipe.digest, signature, TRUSTED_FOR)
    ask(alias, KEEP, params)


@task(name=RENDER)
def render_block(template: Reference, variables: dict[str, Any]) -> None:
    """Render it for its effects, with these variables and nothing else, in the site's own language and time zone."""
    recipe = fetch(template)
    made = template_of(recipe)
    with translation.override(settings.LANGUAGE_CODE), timezone.override(timezone.get_default_timezone()):
        made.render(Context(variables, autoescape=recipe.autoescape))


def fetch(template: Reference) -> Recipe:
    """The recipe a job names; raises GiveUp where it is not there, or not ours."""
    if (digest := template.get("digest")) is not None:
        rows = Block.objects.using(jobs_settings().DATABASE).filter(digest=digest).order_by("-id")
        texts = list(rows.values_list("recipe", "signature"))
        if not texts:
            raise GiveUp(f"the source of this block ({digest[:12]}…) is not kept any more: render its page again")
    else:
        texts = [(template.get("recipe", ""), template.get("signature", ""))]
    for text, signature in texts:
        if verifies(text, signature):
            return read(text)
    raise GiveUp(
        "the signature of this block does not fit: the row was not written by this site, or SECRET_KEY has changed"
        " since (keep the old key in SECRET_KEY_FALLBACKS until such jobs have run)"
    )


def template_of(recipe: Recipe) -> Any:
    """What to render. Where this code cannot, another version of it may: Misfit hands the job back for a while."""
    engine = engine_named(recipe.engine)
    if engine is None:
        raise Misfit(f"settings.TEMPLATES has no Django engine {recipe.engine!r} for the block at {recipe.where}")
    try:
        return engine.get_template(recipe.partial) if recipe.partial else _compiled(recipe, engine)
    except TemplateDoesNotExist as error:
        raise Misfit(f"this code has no template {error}, which {recipe.where} renders in the background") from error
    except TemplateSyntaxError as error:
        missing = [name for name, _ in recipe.loads if name not in engine.template_libraries]
        gone = f" (it has no library {', '.join(missing)})" if missing else ""
        raise Misfit(f"this code cannot compile the block at {recipe.where}{gone}: {error}") from error


def problem(template: Any) -> str:
    """Why this code could not render what a job names; empty where it could. For a look before a deploy."""
    try:
        template_of(fetch(template))
    except (GiveUp, Misfit) as error:
        return str(error)
    except AttributeError:
        return "what it should render cannot be read"
    return ""


@lru_cache(maxsize=256)
def _compiled(recipe: Recipe, engine: Engine) -> Rebuilt:
    return Rebuilt(recipe, engine)
