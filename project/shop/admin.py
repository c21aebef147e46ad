"""The shop in Django admin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest

from project.shop.models import Order, OrderJob, OrderLine, Product, Rate, SalesReport, SupplierCall
from project.shop.tasks import make_thumbnail
from project.shop.templatetags.shop import money

if TYPE_CHECKING:  # generic for the type checker only
    from django.forms import ModelForm

    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Any, Order]
else:
    ModelAdmin, TabularInline = admin.ModelAdmin, admin.TabularInline


class ReadOnly:
    """What the shop writes is not for people to edit."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Product)
class ProductAdmin(ModelAdmin):
    list_display = ["name", "slug", "cost", "stock", "picture", "thumbnail"]
    search_fields = ["name", "slug"]
    readonly_fields = ["thumbnail"]
    prepopulated_fields = {"slug": ["name"]}

    @admin.display(description="price", ordering="price")
    def cost(self, product: Product) -> str:
        return money(product.price)

    def save_model(self, request: HttpRequest, obj: Product, form: ModelForm[Product], change: bool) -> None:
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            if "picture" in form.changed_data and obj.picture:
                make_thumbnail.enqueue(obj.pk)


class OrderLineInline(ReadOnly, TabularInline):
    model = OrderLine
    fields = ["product", "quantity", "cost"]
    readonly_fields = ["cost"]
    extra = 0

    @admin.display(description="price")
    def cost(self, line: OrderLine) -> str:
        return money(line.price)


class OrderJobInline(ReadOnly, TabularInline):
    model = OrderJob
    fields = ["task", "job"]
    readonly_fields = ["job"]
    extra = 0


@admin.register(Order)
class OrderAdmin(ReadOnly, ModelAdmin):
    list_display = ["number", "customer", "email", "cost", "placed_at", "confirmed"]
    list_filter = ["placed_at"]
    list_select_related = ["supplier_call"]
    search_fields = ["reference", "customer", "email"]
    date_hierarchy = "placed_at"
    fields = ["reference", "customer", "email", "placed_at", "cost"]
    inlines = [OrderLineInline, OrderJobInline]

    @admin.display(description="total", ordering="total")
    def cost(self, order: Order) -> str:
        return money(order.total)

    @admin.display(description="supplier", ordering="supplier_call")
    def confirmed(self, order: Order) -> str | None:
        call: SupplierCall | None = getattr(order, "supplier_call", None)
        return call.reference if call is not None else None


@admin.register(SupplierCall)
class SupplierCallAdmin(ReadOnly, ModelAdmin):
    list_display = ["reference", "order", "attempt", "confirmed_at"]
    list_filter = ["attempt"]
    list_select_related = ["order"]
    search_fields = ["reference", "order__reference"]


@admin.register(Rate)
class RateAdmin(ReadOnly, ModelAdmin):
    list_display = ["currency", "per_euro", "as_of"]


@admin.register(SalesReport)
class SalesReportAdmin(ReadOnly, ModelAdmin):
    list_display = ["made_at", "orders", "items", "income", "best_seller"]

    @admin.display(description="revenue", ordering="revenue")
    def income(self, report: SalesReport) -> str:
        return money(report.revenue)
