"""Take a block out of a template as source, and make a template of it again, to the letter of its tags.

It takes the tokens between `{% background %}` and `{% endbackground %}`; it leaves text that gives the same tokens on
the same lines, and the libraries that were loaded where the block stands. A template made from a string has no name
and its tokens, outside DEBUG, no position, so the tokens are all there is to go by. Touches no database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.template import Engine, NodeList, Origin, Template, TemplateSyntaxError, engines
from django.template.backends.django import DjangoTemplates
from django.template.base import DebugLexer, Lexer, Parser, Token, TokenType

from jobs.recipe import Loads, Recipe

BRACKETS = {TokenType.BLOCK: "{{% {} %}}", TokenType.VAR: "{{{{ {} }}}}", TokenType.COMMENT: "{{# {} #}}"}


def take(parser: Any, end: str, opens: Callable[[str], bool]) -> list[Token]:
    """Take the tokens up to the tag named `end`, which is taken as well and left out.

    `opens` tells of the contents of a tag whether it begins a block with the same end. Nothing is compiled here: an
    `{% extends %}` in the block would swallow the end of it.
    """
    body: list[Token] = []
    depth, comment = 0, False
    while parser.tokens:
        token = parser.next_token()
        if token.token_type is TokenType.BLOCK:
            word = (token.contents.split(None, 1) or [""])[0]
            if comment:
                comment = token.contents != "endcomment"
            elif word == "comment":
                comment = True
            elif word == end:
                if not depth:
                    return body
                depth -= 1
            elif opens(token.contents):
                depth += 1
        body.append(token)
    parser.unclosed_block_tag([end])
    raise AssertionError("unclosed_block_tag raises")


def source_of(tokens: Sequence[Token]) -> str:
    """The source of these tokens. Blanks at the edges of a tag become one; nothing else changes, no line moves."""
    source = "".join(
        token.contents if token.token_type is TokenType.TEXT else BRACKETS[token.token_type].format(token.contents)
        for token in tokens
    )
    if _shape(Lexer(source).tokenize()) != _shape(tokens):
        raise TemplateSyntaxError(
            "The source of this block cannot be told from its tokens: has another tag changed them? Move the block to"
            ' a template of its own, and render that: {% background "its/name.html" %}.'
        )
    return source


def _shape(tokens: Sequence[Token]) -> list[tuple[TokenType, str, int]]:
    first = (tokens[0].lineno or 1) if tokens else 1
    return [(token.token_type, token.contents, (token.lineno or 1) - first) for token in tokens]


def loaded(parser: Any) -> Loads:
    """What the template has loaded up to here: each library with the names that are its own in this parser.

    By identity, since a parser remembers functions and not which `{% load %}` brought them. What comes from no library
    with a name is a builtin, which every template of the engine has.
    """
    found: list[tuple[str, tuple[str, ...] | None]] = []
    for name, library in sorted(parser.libraries.items()):
        everything = {*library.tags, *library.filters}
        here = {
            *(tag for tag, function in library.tags.items() if parser.tags.get(tag) is function),
            *(each for each, function in library.filters.items() if parser.filters.get(each) is function),
        }
        if here:
            found.append((name, None if here == everything else tuple(sorted(here))))
    return tuple(found)


def checked(tokens: Iterable[Token], parser: Any) -> NodeList:
    """Compile the block where it stands, so that its errors are the template's; what it loads stays inside it."""
    inner: Any = Parser(list(tokens), parser.libraries, [], parser.origin)
    inner.tags, inner.filters = dict(parser.tags), dict(parser.filters)
    nodes: NodeList = inner.parse()
    return nodes


class Rebuilt(Template):
    """A block as a template of its own. Raises TemplateSyntaxError where this code cannot compile it."""

    def __init__(self, recipe: Recipe, engine: Engine) -> None:
        self.recipe = recipe
        origin = Origin(recipe.where, recipe.name or None)  # relative names count from the template it stood in
        super().__init__(recipe.source, origin, recipe.name or None, engine)

    def compile_nodelist(self) -> NodeList:
        lexer = DebugLexer(self.source) if self.engine.debug else Lexer(self.source)
        tokens = lexer.tokenize()
        for token in tokens:
            token.lineno = (token.lineno or 1) + self.recipe.line - 1  # errors name the lines of the template
        parser: Any = Parser(tokens, self.engine.template_libraries, self.engine.template_builtins, self.origin)
        load(parser, self.recipe.loads)
        try:
            nodes: NodeList = parser.parse()
        except Exception as error:
            if self.engine.debug:
                error.template_debug = self.get_exception_info(error, error.token)  # type: ignore[attr-defined]
            raise
        self.extra_data = parser.extra_data
        return nodes


def load(parser: Any, loads: Loads) -> None:
    """Give a parser what another had loaded. What is gone from this code is left out: the block may not need it."""
    for name, names in loads:
        if (library := parser.libraries.get(name)) is None:
            continue
        if names is None:
            parser.add_library(library)
            continue
        parser.tags |= {each: library.tags[each] for each in names if each in library.tags}
        parser.filters |= {each: library.filters[each] for each in names if each in library.filters}


def backends() -> list[DjangoTemplates]:
    """The Django engines of settings.TEMPLATES."""
    return [backend for backend in engines.all() if isinstance(backend, DjangoTemplates)]


def engine_named(alias: str) -> Engine | None:
    return next((backend.engine for backend in backends() if backend.name == alias), None)


def alias_of(engine: Engine) -> str | None:
    """The engine's name in settings.TEMPLATES; None for one that is not there."""
    return next((backend.name for backend in backends() if backend.engine is engine), None)


def engine_of(parser: Any) -> Engine | None:
    """The engine that a template is being compiled for: its loader knows, and else the libraries tell."""
    loader = getattr(parser.origin, "loader", None)
    if loader is not None:
        engine: Engine = loader.engine
        return engine
    found = (b.engine for b in backends() if b.engine.template_libraries is parser.libraries)
    return next(found, None)
