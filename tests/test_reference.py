"""docs/reference is what the code says of itself today."""

from __future__ import annotations

import pytest

import jobs
import jobs.testing
from tests.reference.pages import PAGES
from tests.reference.source import ROOT, homes


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_the_reference_is_what_the_code_says(name: str) -> None:
    path = ROOT / "docs" / "reference" / f"{name}.md"

    assert path.read_text() == PAGES[name](), (
        f"run `uv run python -m tests.reference` again: {path.name} is of other code"
    )


@pytest.mark.parametrize("package", [jobs, jobs.testing])
def test_every_public_name_is_in_the_reference(package: object) -> None:
    name = package.__name__  # type: ignore[attr-defined]
    said = (ROOT / "docs" / "reference" / "python.md").read_text()

    assert sorted(each for each, _ in homes(name)) == sorted(package.__all__)  # type: ignore[attr-defined]
    for each, _ in homes(name):
        assert f"### {name}.{each}\n" in said
