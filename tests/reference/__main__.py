"""`python -m tests.reference`: write docs/reference anew."""

from __future__ import annotations

import os


def main() -> None:
    os.environ.setdefault("DATABASE_URL", "postgres://nobody@localhost/nothing")  # nobody connects
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django

    django.setup()
    from tests.reference.pages import PAGES
    from tests.reference.source import ROOT

    for name, page in PAGES.items():
        path = ROOT / "docs" / "reference" / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(page())
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
