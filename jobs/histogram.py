"""Durations as counts in buckets, small enough to keep for every minute, fine enough for a percentile.

Bucket 0 holds everything up to a millisecond; each further one reaches the square root of two times as far, the last
about a day and a half. As text it is "bucket:count" for what is not zero: "3:12 4:40". Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log2

SIZE = 56

SMALLEST = 0.001


def bucket_of(seconds: float) -> int:
    """The bucket that a duration falls into."""
    if seconds <= SMALLEST:
        return 0
    return min(SIZE - 1, int(2.0 * log2(seconds / SMALLEST)) + 1)


def upper(bucket: int) -> float:
    """The longest duration a bucket holds, in seconds."""
    return float(SMALLEST * 2.0 ** (bucket / 2.0))


def pack(counts: Sequence[int]) -> str:
    return " ".join(f"{bucket}:{count}" for bucket, count in enumerate(counts) if count)


def add(into: list[int], text: str) -> None:
    """Add a packed histogram; what is not one is left out."""
    for part in text.split():
        bucket, _, count = part.partition(":")
        if bucket.isdecimal() and count.isdecimal() and int(bucket) < SIZE:
            into[int(bucket)] += int(count)


def merged(texts: Iterable[str]) -> list[int]:
    counts = [0] * SIZE
    for text in texts:
        add(counts, text)
    return counts


def percentile(counts: Sequence[int], share: float) -> float | None:
    """The duration that `share` (0 to 1) of them do not exceed, by the middle of its bucket; None without any."""
    total = sum(counts)
    if not total:
        return None
    left = share * total
    for bucket, count in enumerate(counts):
        if count and left <= count:
            low = upper(bucket - 1) if bucket else 0.0
            return low + (upper(bucket) - low) * max(0.0, left) / count
        left -= count
    return upper(SIZE - 1)
