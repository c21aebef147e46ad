"""The recipes as a Django app beside the shop."""

from __future__ import annotations

from django.apps import AppConfig


class RecipesConfig(AppConfig):
    name = "project.recipes"
    label = "recipes"
    verbose_name = "Recipes"
    default_auto_field = "django.db.models.BigAutoField"
