"""The reference pages of the documentation, made from the code: `python -m tests.reference` writes them anew."""
