"""The recipes of docs/recipes.md, as they run: one file for each."""
