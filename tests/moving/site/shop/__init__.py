import os

if os.environ.get("PEER") == "celery" and os.environ.get("STAGE") != "after":
    from shop.celery import app as celery_app  # noqa: F401 - so that shared_task finds it
