"""Where the tasks of the recipes are found at start-up."""

from __future__ import annotations

from project.recipes import chasing, export, repricing, webhook, welcome

__all__ = ["chasing", "export", "repricing", "webhook", "welcome"]
