"""Settings of the demo project, from the environment (django-environ). DATABASE_URL names the database;
manage.py starts a PostgreSQL of its own where it is not set, this file never does."""

from __future__ import annotations

from pathlib import Path

import django
import environ  # type: ignore[import-untyped, unused-ignore]

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
env.read_env(BASE_DIR / ".env", overwrite=False)

DEBUG = env.bool("DEBUG", default=True)
# Visitors of the shop may stage failures and upload pictures, as they may under DEBUG.
DEMO = env.bool("DEMO", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="not a secret: this project is a demonstration")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]", "testserver"])

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "outbox",
    "jobs",
    "project.shop",
    "project.recipes",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
ASGI_APPLICATION = "project.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {"default": env.db_url("DATABASE_URL", default="postgres:///outbox")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

# What the demo writes lies in one folder outside version control.
DATA_DIR = Path(env.str("DATA_DIR", default=str(BASE_DIR / ".data")))
STATIC_URL = "static/"
MEDIA_URL = "media/"
MEDIA_ROOT = DATA_DIR / "media"
mail_folder, files = str(DATA_DIR / "mail"), "django.core.mail.backends.filebased.EmailBackend"
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": files, "OPTIONS": {"file_path": mail_folder}}}
else:
    EMAIL_BACKEND, EMAIL_FILE_PATH = files, mail_folder
DEFAULT_FROM_EMAIL = "shop@example.com"

# The supplier of the demo shop is a page of the same site.
SUPPLIER_URL = env.str("SUPPLIER_URL", default="http://127.0.0.1:8000/supplier/")
# And so is its bank, which is asked for exchange rates.
RATES_URL = env.str("RATES_URL", default="http://127.0.0.1:8000/rates/")
# So is the warehouse of the recipes.
WAREHOUSE_URL = env.str("WAREHOUSE_URL", default="http://127.0.0.1:8000/recipes/hook/")

OUTBOX: dict[str, object] = {}
JOBS: dict[str, object] = {}
