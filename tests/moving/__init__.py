"""Coming from another queue: what docs/moving shows, before and after, and the two side by side while a queue drains."""
