"""The demo shop at the root, Django admin with the jobs in it at /admin/."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views.static import serve

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("project.shop.urls")),
    path("admin/", admin.site.urls),
]

if settings.DEBUG or settings.DEMO:
    urlpatterns.append(path("recipes/", include("project.recipes.views")))
    urlpatterns.append(re_path(r"^media/(?P<path>.*)$", serve, {"document_root": settings.MEDIA_ROOT}))
