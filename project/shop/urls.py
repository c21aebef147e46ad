"""The shop's addresses."""

from __future__ import annotations

from django.urls import path

from jobs.status import JobStatus
from project.shop import views
from project.shop.progress import belongs_to_an_order

app_name = "shop"

urlpatterns = [
    path("", views.storefront, name="storefront"),
    path("orders/", views.order_new, name="order_new"),
    path("orders/<uuid:reference>/", views.order_page, name="order"),
    path("products/<slug:slug>/", views.product_page, name="product"),
    path("status/<str:token>/", JobStatus.as_view(allowed=belongs_to_an_order), name="job_status"),
    path("rates/", views.rates, name="rates"),
    path("supplier/", views.supplier, name="supplier"),
]
