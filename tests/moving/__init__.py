"""Coming from another queue: what docs/moving shows, and the two side by side while the old one drains."""
