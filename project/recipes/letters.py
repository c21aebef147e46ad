"""Write a letter."""

from __future__ import annotations

from email.utils import make_msgid

from django.core.mail import EmailMessage


def send_letter(to: str, subject: str, text: str) -> None:
    # Django would ask the DNS for this machine's name, which takes seconds where nobody answers.
    EmailMessage(subject, text, to=[to], headers={"Message-ID": make_msgid(domain="example.com")}).send()
