"""What customers may send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django import forms
from django.core.files.uploadedfile import UploadedFile

from project.shop.models import Product
from project.shop.ordering import Wish

if TYPE_CHECKING:  # generic for the type checker only
    ModelForm = forms.ModelForm[Product]
else:
    ModelForm = forms.ModelForm

MOST = 99

BIGGEST_PICTURE = 8_000_000


class OrderForm(forms.Form):
    """The basket and the address. A field for each product, 0 or empty for none of it."""

    customer = forms.CharField(
        label="Your name",
        max_length=100,
        widget=forms.TextInput({"autocomplete": "name"}),
        error_messages={"required": "Please tell us who orders."},
    )
    email = forms.EmailField(
        label="Your e-mail",
        max_length=254,
        widget=forms.EmailInput({"autocomplete": "email"}),
        error_messages={"required": "Please tell us where the receipt goes."},
    )
    reference = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)
    fail = forms.BooleanField(required=False, widget=forms.HiddenInput)

    def __init__(self, products: Iterable[Product], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._products = list(products)
        for product in self._products:
            looks = {"inputmode": "numeric", "data-price": product.price, "data-name": product.name}
            # The page alone: an order for what has just been sold out must be refused, not shortened.
            if not product.stock and not self.is_bound:
                looks["disabled"] = True
            self.fields[quantity_name(product)] = forms.IntegerField(
                label=f"How many: {product.name}",
                min_value=0,
                max_value=MOST,
                required=False,
                initial=0,
                widget=forms.NumberInput(looks),
            )

    def shelf(self) -> Iterator[tuple[Product, forms.BoundField]]:
        """The products, each with its field."""
        for product in self._products:
            yield product, self[quantity_name(product)]

    def address(self) -> Iterator[forms.BoundField]:
        yield self["customer"]
        yield self["email"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        wrong = any(quantity_name(product) in self.errors for product in self._products)
        if not wrong and not self._basket():
            raise forms.ValidationError("Your basket is empty: choose at least one thing.")
        return cleaned

    def wish(self, *, may_fail: bool) -> Wish:
        """What a valid form asks for."""
        data = self.cleaned_data
        return Wish(
            reference=data["reference"],
            customer=data["customer"],
            email=data["email"],
            basket=self._basket(),
            payment_fails=may_fail and data["fail"],
        )

    def _basket(self) -> list[tuple[Product, int]]:
        found = ((product, self.cleaned_data.get(quantity_name(product))) for product in self._products)
        return [(product, quantity) for product, quantity in found if quantity]


def quantity_name(product: Product) -> str:
    return f"quantity-{product.pk}"


class PictureForm(ModelForm):
    """A new picture of a product. Pillow has looked at it before it is accepted."""

    class Meta:
        model = Product
        fields = ["picture"]
        widgets = {"picture": forms.FileInput({"accept": "image/jpeg,image/png,image/webp"})}
        labels = {"picture": "New picture"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["picture"].required = True

    def clean_picture(self) -> Any:
        picture = self.cleaned_data["picture"]
        if isinstance(picture, UploadedFile) and (picture.size or 0) > BIGGEST_PICTURE:
            raise forms.ValidationError(f"At most {BIGGEST_PICTURE // 1_000_000} MB, please.")
        return picture
