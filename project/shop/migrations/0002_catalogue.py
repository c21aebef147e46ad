"""Something to sell from the first minute."""

from __future__ import annotations

from typing import Any

from django.db import migrations

CATALOGUE = [
    ("Fountain pen", "pen", "Brass nib, fine. Fills straight from the bottle.", 4800, 14),
    ("Midnight ink", "ink", "50 ml of blue that is almost black. Dries in eleven seconds.", 1450, 30),
    ("Letter paper", "paper", "Forty sheets with a soft edge. Takes ink on both sides.", 1800, 40),
    ("Lined envelopes", "envelopes", "Twenty-five, blue inside. What is in them stays in them.", 1200, 50),
    ("Wax and seal", "seal", "Red wax and a brass seal: committed, once and for all.", 2650, 18),
    ("Lighthouse postcards", "postcards", "Ten woodcuts, for when a whole letter is too much.", 950, 60),
    ("Letter opener", "opener", "Olive wood. Kind to thumbs, strict with paper.", 1900, 12),
    ("Stamps", "stamps", "A sheet of eight with a swallow on it. Delivery is not our business.", 880, 75),
    ("Sorting tray", "tray", "Oak, with three floors: in, out, and later.", 5400, 9),
]


def stock_the_shelf(apps: Any, schema_editor: Any) -> None:
    product = apps.get_model("shop", "Product")
    product.objects.using(schema_editor.connection.alias).bulk_create(
        product(name=name, slug=slug, blurb=blurb, price=price, stock=stock)
        for name, slug, blurb, price, stock in CATALOGUE
    )


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunPython(stock_the_shelf, migrations.RunPython.noop, elidable=True)]
