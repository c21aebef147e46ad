"""Read what the code says of itself, from its text: nothing is imported, so every Python makes the same pages."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Said(NamedTuple):
    """A name, how it is written, what is said about it, and what is in it."""

    name: str
    signature: str
    text: str
    members: tuple[Said, ...] = ()


@cache
def tree(module: str) -> ast.Module:
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text())


def of_module(module: str) -> str:
    """Its docstring."""
    return ast.get_docstring(tree(module)) or ""


def named(module: str, name: str) -> Said:
    """What a module says about one of its names; an overloaded function by what implements it."""
    found = [each for each in _in(tree(module).body) if each.name == name]
    assert found, f"{module} has no {name}"
    return found[-1]


def classes(module: str) -> list[Said]:
    """Those that a module defines, as they stand."""
    return [named(module, node.name) for node in tree(module).body if isinstance(node, ast.ClassDef)]


def homes(package: str) -> list[tuple[str, str]]:
    """The public names of a package that imports them when they are asked for, and the module each comes from."""
    for node in tree(package).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES":
            return sorted(ast.literal_eval(node.value).items(), key=lambda item: item[0].lower())
    raise AssertionError(f"{package} has no _HOMES")


def _in(body: list[ast.stmt]) -> Iterator[Said]:
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, Function) and not _is(node, "overload"):
            yield Said(node.name, _signature(node), ast.get_docstring(node) or "")
        elif isinstance(node, ast.ClassDef):
            yield Said(node.name, _made(node), ast.get_docstring(node) or "", tuple(_members(node)))
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name):
                yield Said(target.id, _assigned(node, target.id), _below(after))


def _members(node: ast.ClassDef) -> Iterator[Said]:
    seen = set()
    for each in _in(node.body):
        if not each.name.startswith("_") and each.name not in seen and not each.signature.startswith("ClassVar"):
            seen.add(each.name)
            yield each


def _made(node: ast.ClassDef) -> str:
    """How one is made: by its __init__, where it has one that says more than the class."""
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__" and _error(node):
            return f"{node.name}({_parameters(each.args, skip=1)})"
    return node.name


def _error(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id in ("Exception", "OutboxError") for base in node.bases)


def _signature(node: Function) -> str:
    if _is(node, "property") or _is(node, "cached_property"):
        return f"{node.name}: {ast.unparse(node.returns)}" if node.returns else node.name
    parameters = _parameters(node.args, skip=1 if node.args.args[:1] and node.args.args[0].arg == "self" else 0)
    # A method whose `self` stands before a slash.
    parameters = re.sub(r"^self, /(, )?", "", parameters)
    given = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    one = f"{prefix}{node.name}({parameters}){given}"
    if len(one) <= 100:
        return one
    return f"{prefix}{node.name}(\n    " + ",\n    ".join(split(parameters)) + f",\n){given}"


def _parameters(arguments: ast.arguments, *, skip: int) -> str:
    if skip and arguments.args:
        arguments = ast.arguments(
            posonlyargs=arguments.posonlyargs, args=arguments.args[skip:], vararg=arguments.vararg,
            kwonlyargs=arguments.kwonlyargs, kw_defaults=arguments.kw_defaults, kwarg=arguments.kwarg,
            defaults=arguments.defaults,
        )  # fmt: skip
    text = ast.unparse(arguments).replace(" | Unset", "").replace("=UNSET", "=...")
    return ", ".join(re.sub(r"^(\*?\w+: [^=]+?)=", r"\1 = ", part) for part in split(text) if part)


def split(parameters: str) -> list[str]:
    """At the commas that are not in brackets."""
    parts, depth = [""], 0
    for sign in parameters:
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def _assigned(node: ast.AnnAssign | ast.Assign, name: str) -> str:
    said = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
    if said.startswith("ClassVar"):
        return said
    value = "" if node.value is None or "field(" in (text := ast.unparse(node.value)) else f" = {text}"
    return f"{name}: {said}{value}" if said else f"{name}{value}"


def _below(node: ast.stmt | None) -> str:
    """The text under an assignment."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return inspect.cleandoc(node.value.value)
    return ""


def _is(node: Function, decorator: str) -> bool:
    return any(ast.unparse(each) == decorator for each in node.decorator_list)


# Checks and metrics: what is given to their makers ----------------------------------------------------------------


def calls(module: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call):
            yield node


def words(node: ast.expr | None) -> str:
    """A text as a person reads it: what is filled in at run time is an ellipsis."""
    if node is None:
        return ""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(words(part) for part in node.values)
    return "…"
