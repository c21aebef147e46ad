"""Durations as counts in buckets, small enough to keep for every minute, fine enough for a percentile.

Bucket 0 holds everything up to a millisecond; each further one reaches the square root of two times as far, the last
about a day and a half. As text it is "bucket:count" for what is not zero: "3:12 4:40". Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

SIZE = 56

SMALLEST = 0.001


def upper(bucket: int) -> float:
    """The longest duration a bucket holds, in seconds."""
    return float(SMALLEST * 2.0 ** (bucket / 2.0))


UPPERS = tuple(upper(bucket) for bucket in range(SIZE - 1))


def bucket_of(seconds: float) -> int:
    """The bucket that a duration falls into."""
    return bisect_left(UPPERS, seconds)


def pack(counts: Sequence[int]) -> str:
    return " ".join(f"{bucket}:{count}" for bucket, count in enumerate(counts) if count)


def merged(texts: Iterable[str]) -> list[int]:
    """Packed histograms added up; what is not one is left out."""
    counts = [0] * SIZE
    # Equal parts are counted first, which is done in C: a month of a busy site is half a million of them.
    for part, times in Counter(" ".join(texts).split()).items():
        bucket, _, count = part.partition(":")
        if bucket.isdecimal() and count.isdecimal() and int(bucket) < SIZE:
            counts[int(bucket)] += int(count) * times
    return counts


def total(histograms: Iterable[Sequence[int]]) -> list[int]:
    """Histograms added up."""
    return [sum(column) for column in zip([0] * SIZE, *histograms, strict=True)]


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
