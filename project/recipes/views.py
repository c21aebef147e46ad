"""The other side of the recipes, for the demo: a service that takes what it is told."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST


@csrf_exempt
@require_POST
def hook(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=204)


urlpatterns = [path("hook/", hook, name="hook")]
