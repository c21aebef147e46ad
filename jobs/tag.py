"""The `{% background %}` tag: its block form and its partial form.

At compile it takes the block's tokens out of the template and says what is wrong with constants; at render it resolves
its arguments in the page's context and enqueues. It leaves nothing on the page. A crash is the rendering's.
"""

from __future__ import annotations

import datetime
import re
from contextlib import suppress
from copy import copy
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from django.db.models import Model
from django.template import NodeList, TemplateDoesNotExist, TemplateSyntaxError, VariableDoesNotExist
from django.template.base import FilterExpression, Node
from django.template.loader_tags import construct_relative_path
from django.utils.functional import Promise

from jobs.background import enqueue
from jobs.envelope import MAX_NESTING, MAX_VALUES, check_json
from jobs.errors import InvalidArguments, InvalidOption
from jobs.options import check_attempts, check_source_name, delay_seconds, priority_number
from jobs.rebuild import alias_of, checked, engine_of, loaded, source_of, take
from jobs.recipe import Recipe

END = "endbackground"
KEYWORD = re.compile(r"(\w+)=(.+)", re.DOTALL)
RESERVED = ("True", "False", "None", "block", "forloop", "csrf_token")

USAGE = (
    '{% background priority="low" delay=5 name=value %} ... {% endbackground %}, or'
    ' {% background "its/template.html" as job_id name=value %}'
)


def label(value: Any) -> str:
    """A source_name as it is stored. The documents write "my custom job": blanks become underscores."""
    name = re.sub(r"\s+", "_", value.strip()) if isinstance(value, str) else value
    check_source_name(name)
    return str(name)


def attempts(value: Any) -> int:
    check_attempts(value)
    return int(value)


OPTIONS: dict[str, Any] = {
    "priority": priority_number, "delay": delay_seconds, "max_attempts": attempts, "source_name": label,
}  # fmt: skip
"""What checks the value of each option. `delay` is passed on as it was given."""


def is_block(contents: str) -> bool:
    """Whether this tag has an end: it begins with a keyword argument, with `as`, or has no argument at all."""
    words = contents.split(None, 2)
    if not words or words[0] != "background":
        return False
    return len(words) == 1 or words[1] == "as" or KEYWORD.match(words[1]) is not None


def do_background(parser: Any, token: Any) -> BackgroundNode:
    """Compile the tag, and the block up to its end where it has one."""
    _, *bits = token.split_contents()
    if wrong := next((bit for bit in bits if bit.endswith((":", ",")) or bit == "="), None):
        raise TemplateSyntaxError(
            f"{{% background %}}: {wrong!r} is another system's spelling. Django's has no colons and no"
            f" commas: {USAGE}."
        )
    line = token.lineno or 1
    partial = None if is_block(token.contents) else bits.pop(0)
    given, asvar = _arguments(bits, parser)
    options = {name: given.pop(name) for name in OPTIONS if name in given}
    for name, expression in options.items():
        _check_constant(name, expression)
    node = BackgroundNode(options, given, asvar, parser.origin.template_name or "", line)
    if partial is not None:
        node.partial = _partial(partial, parser)
        return node
    loads = loaded(parser)
    tokens = take(parser, END, is_block)
    node.source, node.loads = source_of(tokens), loads
    node.line = (tokens[0].lineno or line) if tokens else line
    node.body = checked(tokens, parser)
    return node


def _arguments(bits: list[str], parser: Any) -> tuple[dict[str, Any], str]:
    """The keyword arguments, compiled, and the name after `as`."""
    given: dict[str, Any] = {}
    asvar = ""
    while bits:
        bit = bits.pop(0)
        if bit == "as" and not asvar and bits:
            asvar = bits.pop(0)
            if not asvar.isidentifier() or asvar in RESERVED:
                raise TemplateSyntaxError(f"{{% background %}}: {asvar!r} after `as` cannot be the name of a variable.")
            continue
        found = KEYWORD.fullmatch(bit)
        if found is None:
            raise TemplateSyntaxError(f"{{% background %}}: what is {bit!r}? The tag is written {USAGE}.")
        name = found[1]
        if not name.isidentifier() or name.startswith("_") or name in RESERVED:
            raise TemplateSyntaxError(f"{{% background %}}: {name!r} cannot be the name of a variable in a template.")
        if name in given:
            raise TemplateSyntaxError(f"{{% background %}}: {name} is given twice.")
        given[name] = parser.compile_filter(found[2])
    return given, asvar


def _constant(expression: Any) -> bool:
    if expression.filters:
        return False
    if expression.is_var:
        return expression.var.lookups is None and not expression.var.translate
    return not isinstance(expression.var, Promise)


def _check_constant(name: str, expression: Any) -> None:
    if _constant(expression):
        value = expression.var.literal if expression.is_var else expression.var
        try:
            OPTIONS[name](plain(value))
        except InvalidOption as error:
            raise TemplateSyntaxError(f"{{% background %}}: {error}") from error


def _partial(bit: str, parser: Any) -> Any:
    """The expression for the name of a partial; a constant one must be there now."""
    name = parser.origin.template_name
    expression = parser.compile_filter(construct_relative_path(name, bit, allow_recursion=True) if name else bit)
    if _constant(expression):
        value = expression.var
        if not isinstance(value, str) or not value:
            raise TemplateSyntaxError(
                f"{{% background %}}: {bit} is no name of a template. The tag is written {USAGE}."
            )
        engine = engine_of(parser)
        if engine is not None and not _is_there(engine, value):
            raise TemplateSyntaxError(f"{{% background %}}: there is no template {str(value)!r}.")
    return expression


def _is_there(engine: Any, name: str) -> bool:
    """Whether a loader has it. Not compiled: a template may render itself in the background."""
    for loader in engine.template_loaders:
        try:
            sources = list(loader.get_template_sources(name.partition("#")[0]))
        except NotImplementedError:  # a loader of somebody's own that cannot be asked
            return True
        for origin in sources:
            with suppress(TemplateDoesNotExist):
                loader.get_contents(origin)
                return True
    return False


class BackgroundNode(Node):
    """One tag of one template. Nothing in it changes at render: threads share it.

    What is in the block are no child nodes of it: a `{% block %}` there belongs to the block, not to the page.
    """

    child_nodelists = ()
    partial: Any = None
    source = ""
    loads: Any = ()
    body: NodeList | None = None

    def __init__(self, options: dict[str, Any], given: dict[str, Any], asvar: str, name: str, line: int) -> None:
        self.options, self.given, self.asvar, self.name, self.line = options, given, asvar, name, line

    @property
    def where(self) -> str:
        return f"{{% background %}} at {self.name or 'a template without a name'}:{self.line}"

    def render(self, context: Any) -> str:
        variables = {name: self._value(name, expression, context) for name, expression in self.given.items()}
        for name, value in variables.items():
            self._check(name, value)
        options = {name: self._option(name, expression, context) for name, expression in self.options.items()}
        recipe = self._recipe(context)
        options.setdefault("source_name", re.sub(r"[^\w\-./]", "_", recipe.partial or self.name, flags=re.ASCII)[:200])
        job = enqueue(recipe, options, variables)
        if self.asvar:
            context[self.asvar] = str(job)
        return ""

    def _recipe(self, context: Any) -> Recipe:
        engine = context.template.engine
        alias = alias_of(engine)
        if alias is None:
            raise InvalidOption(
                f"{self.where}: its engine is none of settings.TEMPLATES, so a worker could not find it. Render it with"
                " an engine from there."
            )
        escapes = bool(context.autoescape)
        if self.partial is None:
            return Recipe(alias, self.name, self.line, escapes, source=self.source, loads=self.loads)
        name = self._value("the template", self.partial, context)
        if not isinstance(name, str) or not name:
            raise InvalidArguments(f"{self.where}: {self.partial} is {name!r}, which is no name of a template.")
        engine.get_template(name)  # raises TemplateDoesNotExist here, and not tomorrow in a worker
        return Recipe(alias, self.name, self.line, escapes, partial=name)

    def _option(self, name: str, expression: Any, context: Any) -> Any:
        value = self._value(name, expression, context)
        try:
            checked = OPTIONS[name](value)
        except InvalidOption as error:
            raise InvalidOption(f"{self.where}: {error}") from error
        return value if name == "delay" else checked

    def _value(self, name: str, expression: Any, context: Any) -> Any:
        try:
            return plain(resolve(expression, context))
        except (VariableDoesNotExist, Undefined):
            raise InvalidArguments(
                f"{self.where}: {name}={expression} has no value here: {expression.var} is not defined. Give it one, or"
                f' say what else to take: {name}={expression}|default:""'
            ) from None

    def _check(self, name: str, value: Any) -> None:
        expression = self.given[name]
        if isinstance(value, Model):
            key = name if name.endswith("_id") else f"{name}_id"
            raise InvalidArguments(
                f"{self.where}: {name}={expression} is a {value._meta.label}, and a job gets plain values only. Pass"
                f" its key, {key}={expression}.id, and load it in the job."
            )
        if (problem := check_json(value, name)) is not None:
            raise InvalidArguments(
                f"{self.where}: {name}={expression}: {problem}.{_filter_for(value, str(expression))}"
            )


def _filter_for(value: Any, expression: str) -> str:
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return f' In a template: {expression}|date:"c"'
    if isinstance(value, Decimal | UUID):
        return f' In a template: {expression}|stringformat:"s"'
    return ""


class Undefined(Exception):
    """A variable that is not there, where Django would go on with an empty text."""


MISSING: Any = object()

STRICT = SimpleNamespace(engine=SimpleNamespace(string_if_invalid=MISSING))


def resolve(expression: Any, context: Any) -> Any:
    """The value of an expression. Raises Undefined, or VariableDoesNotExist, where Django would say "".

    A filter `default` or `default_if_none` says what to take instead.
    """
    value = expression.var
    if expression.is_var:
        strict = copy(context)
        strict.template = STRICT
        try:
            value = value.resolve(strict)
        except VariableDoesNotExist:
            value = MISSING
        if value is MISSING:
            names = {getattr(function, "_filter_name", "") for function, _ in expression.filters}
            if not names & {"default", "default_if_none"}:
                raise Undefined
            value = None
    if not expression.filters:
        return value
    rest: FilterExpression = copy(expression)
    rest.var, rest.is_var = value, False
    return rest.resolve(context)


def plain(value: Any, left: list[int] | None = None, depth: int = 0) -> Any:
    """The same with every kind of text as `str`: a template hands out SafeString, lazy translations, choices.

    That a text was safe is not kept: a worker escapes it again. Everything else stays what it is.
    """
    if issubclass(type(value), str):
        return str.__str__(value)
    if isinstance(value, str | Promise):  # a lazy one
        return str.__str__(str(value))
    left = [MAX_VALUES] if left is None else left
    if type(value) not in (list, dict) or depth > MAX_NESTING or left[0] < 0:
        return value  # if it is wrong, check_json says so
    left[0] -= len(value)
    if type(value) is list:
        return [plain(item, left, depth + 1) for item in value]
    return {
        plain(key, left, depth) if isinstance(key, str) else key: plain(item, left, depth + 1)
        for key, item in value.items()
    }
