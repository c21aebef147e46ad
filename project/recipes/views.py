"""The other side of the recipes, for the demo: a bank with rates, and a service that takes what it is told."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe


@require_safe
def rates(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"base": "EUR", "rates": {"CHF": 0.9312, "GBP": 0.8605, "USD": 1.0842}})


@csrf_exempt
@require_POST
def hook(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=204)


urlpatterns = [path("rates/", rates, name="rates"), path("hook/", hook, name="hook")]
