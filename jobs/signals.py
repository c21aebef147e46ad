"""Signals about jobs, for code in the worker's own process: best effort, and only after the outcome is committed.

Each is sent with the declared task as `sender` (None where this code does not know it) and `job_id`, `task` (its dotted
name), `queue`, `attempt`, `outcome`, `error` and `duration` (seconds of the last attempt, None where nobody knows).

A signal is not a promise: a process that dies between the commit and the send has sent none. What must follow an
outcome is a callback: `on_success=`, `on_failure=`, `on_complete=`.
"""

from django.dispatch import Signal

job_succeeded = Signal()
"""A job has succeeded."""

job_retried = Signal()
"""An attempt failed, timed out or crashed, and the job will run again."""

job_died = Signal()
"""A job has failed for good."""

job_cancelled = Signal()
"""A job was cancelled, by a person or because its condition said no."""

process_started = Signal()
"""A process of `runworkers` has started, and has done nothing yet; `process` says which: "slot" (it runs tasks),
"keeper" or "relay". The place to set up what does not survive a fork, such as an exporter with a thread. A receiver
that hangs keeps the process from working."""

ALL = (job_succeeded, job_retried, job_died, job_cancelled)
