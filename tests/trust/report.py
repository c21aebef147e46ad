"""Figures and verdicts of one row: what was measured, what was demanded, and whether it was met."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

COMPARE: dict[str, Callable[[Any, Any], bool]] = {"==": operator.eq, "<=": operator.le, ">=": operator.ge}


@dataclass
class Report:
    """One row's outcome as it comes together."""

    row: str
    title: str
    seed: int
    scale: float
    figures: dict[str, Any] = field(default_factory=dict)
    verdicts: list[tuple[str, str, Any, bool]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: str = ""

    def figure(self, name: str, value: Any) -> None:
        """Something to know that is not judged."""
        self.figures[name] = round(value, 4) if isinstance(value, float) else value

    def must(self, name: str, value: Any, comparison: str, target: Any) -> None:
        """A figure that is judged: `value comparison target` has to hold."""
        self.figure(name, value)
        self.verdicts.append((name, comparison, target, bool(COMPARE[comparison](value, target))))

    def note(self, text: str) -> None:
        """Something a reader of the figures should know, such as a part that could not be run here."""
        self.notes.append(text)

    @property
    def not_met(self) -> list[str]:
        return [name for name, _, _, met in self.verdicts if not met]

    @property
    def met(self) -> bool:
        return bool(self.verdicts or self.skipped) and not self.not_met

    def as_json(self) -> str:
        """One flat object."""
        said: dict[str, Any] = {"row": self.row, "seed": self.seed, "scale": self.scale, **self.figures}
        return json.dumps(
            {**said, "met": self.met, "not_met": self.not_met, "notes": self.notes, "skipped": self.skipped}
        )

    def as_text(self) -> str:
        targets = {name: f"{comparison} {target}" for name, comparison, target, _ in self.verdicts}
        lines = [f"{self.row}  {self.title}   (seed {self.seed}, scale {self.scale:g})"]
        for name, value in self.figures.items():
            mark = "" if name not in targets else "NOT MET" if name in self.not_met else "ok"
            lines.append(f"  {name:<44} {_spell(value):>14}   {targets.get(name, ''):<12} {mark}".rstrip())
        lines += [f"  note: {note}" for note in self.notes]
        if self.skipped:
            lines.append(f"  skipped: {self.skipped}")
        else:
            lines.append(f"  verdict: {'met' if self.met else 'NOT MET: ' + ', '.join(self.not_met)}")
        return "\n".join(lines)


def _spell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of them do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
