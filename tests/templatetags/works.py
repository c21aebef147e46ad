"""Tags that do something, as an application's own would: what a background block is there to call."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils import timezone, translation

from jobs.context import current
from tests.models import Effect

register = template.Library()


@register.simple_tag
def effect(*words: Any, **named: Any) -> str:
    """Leave a row that says what the tag was given, and for which job."""
    said = [str(word) for word in words] + [f"{name}={value}" for name, value in sorted(named.items())]
    context = current.get()
    Effect.objects.create(job=context.job_id if context else None, note=" ".join(said)[:200])
    return ""


@register.simple_tag(takes_context=True)
def everything_known(context: Any) -> str:
    """Leave a row with the names of all variables that are here."""
    return effect(",".join(sorted(str(name) for name in context.flatten())))


@register.simple_tag
def where_we_are() -> str:
    return f"{translation.get_language()} {timezone.get_current_timezone_name()}"


@register.simple_tag
def explode(text: str) -> str:
    raise ValueError(text)


# What the documents' examples call instead of the vendor's own tags ---------------------------------------------------


@register.simple_tag
def log(*words: Any) -> str:
    return effect("log:", *words)


@register.simple_tag
def update_rates(currency: str) -> str:
    return effect("rates of", currency)


@register.simple_tag
def all_products() -> list[dict[str, Any]]:
    return [{"id": number, "price": 100 * number} for number in range(1, 501)]


@register.simple_tag
def set_price(product: int, price: int, factor: float) -> str:
    return effect(product, int(price * factor))


class Keep(template.Node):
    def __init__(self, nodes: template.NodeList) -> None:
        self.nodelist = nodes

    def render(self, context: Any) -> str:
        return effect(self.nodelist.render(context))


@register.tag
def kept(parser: Any, token: Any) -> Keep:
    """Leave what is rendered in between as a row."""
    nodes = parser.parse(("endkept",))
    parser.delete_first_token()
    return Keep(nodes)


@register.filter
def shout(text: str) -> str:
    return f"{text}!".upper()
