"""The shop's addresses."""

from __future__ import annotations

from django.urls import path

from project.shop import views

app_name = "shop"

urlpatterns = [
    path("", views.storefront, name="storefront"),
    path("orders/", views.order_new, name="order_new"),
    path("orders/<uuid:reference>/", views.order_page, name="order"),
    path("products/<slug:slug>/", views.product_page, name="product"),
    path("supplier/", views.supplier, name="supplier"),
]
