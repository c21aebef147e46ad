"""Pictures to upload: hills by the sea, drawn and not photographed, but as large as photographs are."""

from __future__ import annotations

import math
import random
from io import BytesIO

from PIL import Image, ImageDraw, ImageFilter

SIZE = (1600, 1200)

Colour = tuple[int, int, int]

SKIES: list[tuple[Colour, Colour]] = [
    ((244, 200, 150), (52, 78, 122)),
    ((250, 226, 190), (170, 66, 58)),
    ((214, 228, 236), (38, 92, 96)),
]


def draw(number: int, random_: random.Random) -> bytes:
    """A JPEG, another one for each number."""
    light, dark = SKIES[number % len(SKIES)]
    width, height = SIZE
    strip = Image.new("RGB", (1, height))
    strip.putdata([_between(light, dark, (y / height) ** 1.6 * 0.55) for y in range(height)])
    picture = strip.resize(SIZE)
    pen = ImageDraw.Draw(picture)
    x, y, radius = random_.randint(350, 1250), random_.randint(260, 420), 110
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_between(light, (255, 255, 255), 0.6))
    picture = picture.filter(ImageFilter.GaussianBlur(1.5))
    pen = ImageDraw.Draw(picture)
    for layer in range(1, 6):
        base, swing = height * (0.42 + 0.11 * layer), 90 - 10 * layer
        phase, waves = random_.uniform(0, math.tau), random_.uniform(1.2, 2.6)
        ridge = [
            (x, base + swing * math.sin(phase + waves * math.tau * x / width) * math.cos(x / 310 + layer))
            for x in range(0, width + 20, 20)
        ]
        pen.polygon([*ridge, (width, height), (0, height)], fill=_between(light, dark, 0.3 + 0.14 * layer))
    data = BytesIO()
    picture.save(data, "JPEG", quality=90)
    return data.getvalue()


def _between(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * min(share, 1.0)) for a, b in zip(one, other, strict=True))
    return red, green, blue
