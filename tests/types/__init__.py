"""What type checkers must say about calls of tasks: `calls.py` is read by them, never run."""
