"""What the shop knows. Money is in cents throughout."""

from __future__ import annotations

from uuid import uuid4

from django.db import models
from django.db.models.functions import Now
from django.urls import reverse

SCARCE = 10


class Product(models.Model):
    """Something on the shelf. The database refuses a stock below zero."""

    name = models.CharField(max_length=80)
    slug = models.SlugField(unique=True, help_text="Also names its drawing in shop/art.svg.")
    blurb = models.CharField(max_length=160, blank=True)
    price = models.PositiveIntegerField(help_text="In cents.")
    stock = models.PositiveIntegerField(default=0)
    picture = models.ImageField(upload_to="pictures", blank=True, help_text="As it was uploaded.")
    thumbnail = models.ImageField(upload_to="thumbnails", blank=True, editable=False)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("shop:product", args=[self.slug])

    @property
    def is_scarce(self) -> bool:
        return self.stock <= SCARCE

    @property
    def stock_note(self) -> str:
        """How much there is, as a shop would put it."""
        if not self.stock:
            return "Sold out"
        return f"Only {self.stock} left" if self.is_scarce else f"{self.stock:,} in stock"


class Order(models.Model):
    """A committed order. One that was rolled back leaves no row, here or anywhere."""

    reference = models.UUIDField(
        unique=True, default=uuid4, help_text="Chosen by the customer's page: a form sent twice is one order."
    )
    customer = models.CharField(max_length=100)
    email = models.EmailField()
    placed_at = models.DateTimeField(db_default=Now())
    total = models.PositiveIntegerField(help_text="In cents.")

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.number

    def get_absolute_url(self) -> str:
        return reverse("shop:order", args=[self.reference])

    @property
    def number(self) -> str:
        """What a person calls the order."""
        return self.reference.hex[:8].upper()


class OrderLine(models.Model):
    """So many of one product, at the price of that day."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, models.PROTECT)
    quantity = models.PositiveSmallIntegerField()
    price = models.PositiveIntegerField(help_text="Of one, in cents.")

    def __str__(self) -> str:
        return f"{self.quantity} of {self.product}"

    @property
    def total(self) -> int:
        return self.quantity * self.price


class OrderJob(models.Model):
    """A job that an order enqueued. Its id is known inside the transaction, so the order can remember it."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="jobs")
    job = models.UUIDField(editable=False)
    task = models.CharField(max_length=200)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.task} {self.job}"


class SupplierCall(models.Model):
    """The supplier has confirmed an order: one row for each, however often the supplier was asked."""

    order = models.OneToOneField(Order, models.CASCADE, related_name="supplier_call")
    reference = models.CharField(max_length=40, help_text="The supplier's own number.")
    attempt = models.PositiveSmallIntegerField(help_text="Which attempt got through.")
    confirmed_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.reference


class Rate(models.Model):
    """What a euro is worth in another currency, as the bank last said."""

    currency = models.CharField(primary_key=True, max_length=3)
    per_euro = models.DecimalField(max_digits=14, decimal_places=6)
    as_of = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["currency"]

    def __str__(self) -> str:
        return f"{self.per_euro.normalize():f} {self.currency}"

    def of(self, cents: int) -> str:
        """A price in this currency, rounded as one would say it."""
        return f"{self.per_euro * cents / 100:,.0f} {self.currency}"


class SalesReport(models.Model):
    """What had been sold at one moment."""

    made_at = models.DateTimeField(db_default=Now())
    orders = models.PositiveIntegerField()
    items = models.PositiveIntegerField()
    revenue = models.PositiveBigIntegerField(help_text="In cents.")
    best_seller = models.CharField(max_length=80, blank=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.orders:,} orders, {self.revenue / 100:,.2f} €"
