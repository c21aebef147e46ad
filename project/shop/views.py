"""The shop's pages, and the supplier next door."""

from __future__ import annotations

import hashlib
import json
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from project.shop.forms import OrderForm, PictureForm
from project.shop.models import Order, Product, Rate
from project.shop.ordering import OutOfStock, PaymentFailed, change_picture, place_order
from project.shop.progress import progress_of


def staged() -> bool:
    """Whether visitors may play with failures and pictures."""
    return bool(settings.DEBUG or settings.DEMO)


@never_cache
@require_GET
def storefront(request: HttpRequest) -> HttpResponse:
    return shelf(request, OrderForm(Product.objects.all()))


def shelf(request: HttpRequest, form: OrderForm, status: int = 200) -> HttpResponse:
    return render(request, "shop/storefront.html", {"form": form, "staged": staged()}, status=status)


@require_http_methods(["GET", "POST"])
def order_new(request: HttpRequest) -> HttpResponse:
    """Place an order: 302 to its page, or a page that says why there is none."""
    if request.method == "GET":  # somebody went back to the address of such a page
        return redirect("shop:storefront")
    form = OrderForm(Product.objects.all(), request.POST)
    if not form.is_valid():
        return shelf(request, form, status=400)
    wish = form.wish(may_fail=staged())
    # Sent twice, by an impatient customer or a browser that lost the answer: it is the same order.
    already = Order.objects.filter(reference=wish.reference).first()
    if already is not None:
        return redirect(already)
    try:
        return redirect(place_order(wish))
    except OutOfStock as reason:
        form.add_error(None, str(reason))
        return shelf(request, form, status=409)
    except PaymentFailed:
        return render(request, "shop/refused.html", {"wish": wish}, status=409)
    except IntegrityError:
        return redirect(get_object_or_404(Order, reference=wish.reference))


@never_cache
@require_GET
def order_page(request: HttpRequest, reference: UUID) -> HttpResponse:
    order = get_object_or_404(Order, reference=reference)
    progress = list(progress_of(order))
    context = {
        "order": order,
        "lines": order.lines.select_related("product").order_by("pk"),
        "progress": progress,
        "all_over": all(job.is_over for job in progress),
    }
    return render(request, "shop/order.html", context)


@never_cache
@require_http_methods(["GET", "POST"])
def product_page(request: HttpRequest, slug: str) -> HttpResponse:
    """A product; staff (or anybody in the demo) may give it a picture."""
    product = get_object_or_404(Product, slug=slug)
    may_change = staged() or request.user.has_perm("shop.change_product")
    abroad = [rate.of(product.price) for rate in Rate.objects.all()]
    if request.method == "GET":
        form = PictureForm() if may_change else None
        return render(request, "shop/product.html", {"product": product, "form": form, "abroad": abroad})
    if not may_change:
        raise PermissionDenied
    form = PictureForm(request.POST, request.FILES, instance=product)
    if not form.is_valid():
        product.refresh_from_db()  # the form has put the refused picture into it
        return render(request, "shop/product.html", {"product": product, "form": form, "abroad": abroad}, status=400)
    change_picture(form.save(commit=False))
    messages.success(request, "Thank you. The small picture is being made: it will be here in a moment.")
    return redirect(product)


@require_GET
def rates(request: HttpRequest) -> JsonResponse:
    """Somebody else's service too: what a euro is worth today, which is made up anew each day."""
    day = timezone.now().date().isoformat()
    usual = {"CHF": 0.94, "GBP": 0.86, "JPY": 162.0, "USD": 1.09}
    drift = {name: hashlib.sha256(f"{day} {name}".encode()).digest()[0] / 255 - 0.5 for name in usual}
    return JsonResponse({"rates": {name: round(rate * (1 + drift[name] / 20), 4) for name, rate in usual.items()}})


@csrf_exempt
@require_POST
def supplier(request: HttpRequest) -> JsonResponse:
    """Somebody else's service, as it were: busy now and then, and the same answer to the same key."""
    try:
        order = str(UUID(json.loads(request.body)["order"]))
        key, attempt = request.headers["Idempotency-Key"], int(request.headers["Attempt"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return JsonResponse({"error": "send an order, an Idempotency-Key and an Attempt"}, status=400)
    if is_busy(order, attempt):
        return JsonResponse({"error": "busy, ask again"}, status=503, headers={"Retry-After": "1"})
    return JsonResponse({"reference": f"PP-{hashlib.sha256(key.encode()).hexdigest()[:10].upper()}"})


def is_busy(order: str, attempt: int) -> bool:
    """One call in five, by lot; the lot is the same every time, and never falls on a third attempt."""
    return attempt < 3 and hashlib.sha256(f"{order} {attempt}".encode()).digest()[0] % 5 == 0
