"""`TASKS = {"default": {"BACKEND": "jobs.backend.JobsBackend"}}`: Django's own `@task` runs on this system.

    declared   the task class: Django's, with this system's options beside Django's
    settings   what stands in TASKS beside the backend's name
    backend    JobsBackend: checks, enqueues, finds results
    adopt      a declared task becomes a task of the registry, the only thing a worker runs
    call       what a worker calls: Django's context, Django's signals, around the application's function
    results    a job as Django's TaskResult, made of what is known without a look
    look       the same, looked up wherever the job is
    hearers    whether anybody hears a signal
    api        where Django's interface comes from

A task is declared where its module is imported, which may be before any model is loaded: the rooms that need models
are entered later.
"""

from jobs.backend.backend import JobsBackend as JobsBackend
from jobs.backend.declared import JobsTask as JobsTask

__all__ = ["JobsBackend", "JobsTask"]
