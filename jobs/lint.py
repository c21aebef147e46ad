"""Look through templates for background blocks and partials that use variables they are not given.

It reads the templates of every Django engine of the project and compiles those that have the tag; it runs nothing and
touches no database. What depends on values (the name of an included template that is a variable, a tag that takes the
whole context) cannot be told, and is not followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.template import Engine, NodeList, Origin, Template, TemplateDoesNotExist, TemplateSyntaxError
from django.template.base import FilterExpression, Node, TokenType, Variable
from django.template.defaulttags import FilterNode, ForNode, WithNode
from django.template.loader_tags import BlockNode, ExtendsNode, IncludeNode
from django.template.smartif import TokenBase
from django.templatetags.i18n import BlockTranslateNode

from jobs.rebuild import backends
from jobs.tag import BackgroundNode

TAG = re.compile(r"\{%\s*background\b")

ALWAYS = {"True", "False", "None"}

BINDS = ("asvar", "as_var", "target_var", "var_name", "varname", "variable", "variable_name")
"""Attributes in which nodes keep the name of a variable they set."""

UNREACHED = "it stands outside {% block %} in a template that extends another, so Django never renders it"


@dataclass(frozen=True)
class Use:
    """One tag in one template."""

    template: str
    line: int
    form: str
    """block or partial."""
    renders: str
    """The partial: its name, or the expression for it."""
    given: list[str]
    missing: list[str]
    """Used without a value: it would be empty in the worker."""
    unused: list[str]
    unfollowed: list[str]
    """Templates it includes or extends that could not be read from here."""
    problem: str = ""


@dataclass(frozen=True)
class Broken:
    """A template with the tag that does not compile."""

    template: str
    error: str


def lint() -> Iterator[Use | Broken]:
    """Every use of the tag in the project's templates, by engine and name."""
    for backend in backends():
        for name, origin, text in sources(backend.engine):
            if not TAG.search(text):
                continue
            try:
                made = Template(text, origin, name, backend.engine)
            except (TemplateSyntaxError, TemplateDoesNotExist) as error:
                yield Broken(name, str(error))
                continue
            for node, unreached in tags_in(made.nodelist):
                yield use_of(node, name, backend.engine, UNREACHED if unreached else "")


def sources(engine: Engine) -> Iterator[tuple[str, Origin, str]]:
    """Name, origin and text of every template that a loader of the engine can list."""
    loaders = list(engine.template_loaders)
    seen = set()
    while loaders:
        loader: Any = loaders.pop(0)
        loaders += getattr(loader, "loaders", [])
        for name, text in getattr(loader, "templates_dict", {}).items():
            yield name, Origin(name, name, loader), text
        for folder in loader.get_dirs() if hasattr(loader, "get_dirs") else []:
            for path in sorted(path for path in Path(folder).rglob("*") if path.is_file() and path not in seen):
                seen.add(path)
                try:
                    text = path.read_text(encoding=engine.file_charset)
                except (UnicodeDecodeError, OSError):
                    continue
                name = path.relative_to(folder).as_posix()
                yield name, Origin(str(path), name, loader), text


def tags_in(found: Any, extending: bool = False) -> Iterator[tuple[BackgroundNode, bool]]:
    """Every tag below, blocks in blocks too, and whether it is in a part of a template that is never rendered."""
    if isinstance(found, BackgroundNode):
        yield found, extending
        yield from tags_in(found.body)
    elif isinstance(found, Node):
        below = isinstance(found, ExtendsNode) or (extending and not isinstance(found, BlockNode))
        for part in parts(found):
            yield from tags_in(part, below)
    elif isinstance(found, list | tuple | dict):
        for part in found.values() if isinstance(found, dict) else found:
            yield from tags_in(part, extending)


def parts(node: Node) -> list[Any]:
    """What a node holds, lists of nodes last: a name that it sets is set for what comes after."""
    twice = ("blocks",) if isinstance(node, ExtendsNode) else ()  # they stand in its list of nodes as well
    held = [value for name, value in vars(node).items() if name not in ("token", "origin", "parent", *twice)]
    return sorted(held, key=lambda value: isinstance(value, NodeList))


def use_of(node: BackgroundNode, template: str, engine: Engine, problem: str = "") -> Use:
    walk = Walk(engine)
    known = set(node.given)
    renders = ""
    if node.partial is None:
        walk.see(node.body, known)
    else:
        renders = str(node.partial)
        walk.follow(node.partial, known)
    unused = sorted(set(node.given) - walk.reached) if not walk.unfollowed else []
    form = "block" if node.partial is None else "partial"
    line = (node.token.lineno if node.token is not None else None) or node.line
    return Use(
        template, line, form, renders, sorted(node.given), sorted(walk.used), unused, sorted(walk.unfollowed), problem
    )


class Walk:
    """One look at what is rendered: which variables it takes from outside."""

    def __init__(self, engine: Engine) -> None:
        self.used: set[str] = set()
        """Names that nothing before them has set."""
        self.reached: set[str] = set()
        """All names, those that a filter `default` makes up for too."""
        self.unfollowed: set[str] = set()
        self._engine = engine
        self._open: list[str] = []
        self._overridden: set[str] = set()

    def see(self, found: Any, known: set[str]) -> None:
        """Anything that a node may hold; `known` is what has been set before it, and grows."""
        if isinstance(found, FilterExpression):
            excused = any(getattr(function, "_filter_name", "").startswith("default") for function, _ in found.filters)
            self.see(found.var, known | {_first(found.var)} if excused else known)
            for _, arguments in found.filters:
                for _, argument in arguments:
                    self.see(argument, known)
        elif isinstance(found, Variable):
            if found.lookups is not None:
                self._name(found.lookups[0], known)
        elif isinstance(found, Node):
            self._node(found, known)
        elif isinstance(found, TokenBase):
            self.see(list(vars(found).values()), known)
        elif isinstance(found, list | tuple | dict):
            for part in found.values() if isinstance(found, dict) else found:
                self.see(part, known)

    def _name(self, name: str, known: set[str]) -> None:
        self.reached.add(name)
        if name not in known | ALWAYS:
            self.used.add(name)

    def _node(self, node: Any, known: set[str]) -> None:
        if isinstance(node, BackgroundNode):  # its block is a use of its own
            self.see([node.options, node.given, node.partial], known)
        elif isinstance(node, ForNode):
            self.see(node.sequence, known)
            self.see(node.nodelist_loop, known | {*node.loopvars, "forloop"})
            self.see(node.nodelist_empty, set(known))
        elif isinstance(node, FilterNode):
            self.see(node.filter_expr, known | {"var"})  # Django's own word for what stands in between
            self.see(node.nodelist, set(known))
        elif isinstance(node, WithNode):
            self.see(node.extra_context, known)
            self.see(node.nodelist, known | set(node.extra_context))
        elif isinstance(node, IncludeNode):
            self.see([node.template, node.extra_context], known)
            self.follow(node.template, (set() if node.isolated_context else known) | set(node.extra_context))
        elif isinstance(node, ExtendsNode):
            mine: list[Any] = node.nodelist.get_nodes_by_type(BlockNode)
            for block in mine:
                if block.name not in self._overridden:
                    self.see(block.nodelist, known | {"block"})
            self._overridden |= {block.name for block in mine}
            self.see(node.parent_name, known)
            self.follow(node.parent_name, set(known))
        elif isinstance(node, BlockNode):
            if node.name not in self._overridden:
                self.see(node.nodelist, known | {"block"})
        elif isinstance(node, BlockTranslateNode):
            self.see([node.extra_context, node.counter], known)
            own = known | set(node.extra_context) | {str(node.countervar)}
            for token in [*(node.singular or []), *(node.plural or [])]:
                if token.token_type is TokenType.VAR:
                    self._name(re.split(r"[.|]", token.contents)[0], own)
        else:
            self.see(parts(node), known)
        known |= {name for name in (getattr(node, attribute, None) for attribute in BINDS) if isinstance(name, str)}

    def follow(self, expression: Any, known: set[str]) -> None:
        """Into a template that is named by a constant."""
        if expression.is_var or expression.filters or not isinstance(expression.var, str):
            self.unfollowed.add(str(expression))
            return
        name = str(expression.var)
        if name in self._open:
            return
        self._open.append(name)
        try:
            self.see(getattr(self._engine.get_template(name), "nodelist", ()), known)
        except (TemplateDoesNotExist, TemplateSyntaxError):
            self.unfollowed.add(name)
        self._open.pop()


def _first(variable: Any) -> str:
    return str(variable.lookups[0]) if isinstance(variable, Variable) and variable.lookups else ""


def bad(found: Iterable[Use | Broken]) -> list[Use | Broken]:
    """Those that somebody has to look at."""
    return [each for each in found if isinstance(each, Broken) or each.missing or each.problem]
