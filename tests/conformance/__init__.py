"""What Django documents of task backends, one behaviour at a time, against any backend of `TASKS`.

Each behaviour is a function that takes a Ground (a backend, and a way to wait for what it runs) and raises where the
backend does otherwise. What a backend says it does not support (its `supports_` flags) is not asked of it.
`python -m tests.conformance` prints the table of docs/django-tasks.md.
"""
