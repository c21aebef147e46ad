"""The shop's web server for the demo: `python -m project.shop.demo.web PORT`.

Django's own threaded server, as `runserver` has it, with one difference: an answer goes out in one piece. Of
the small ones that `runserver` sends, the last waits 40 ms for an acknowledgement on a kept connection.
"""

from __future__ import annotations

import os
import sys


def serve(port: int) -> None:
    """Answer until the process is ended."""
    import django
    from django.conf import settings

    # A customer who keeps the connection to the shop keeps the shop's connection to the database too.
    settings.DATABASES["default"].setdefault("CONN_MAX_AGE", 60)
    django.setup()

    from django.contrib.staticfiles.handlers import StaticFilesHandler
    from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
    from django.core.wsgi import get_wsgi_application

    class OnePiece(WSGIRequestHandler):
        wbufsize = -1
        disable_nagle_algorithm = True

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """A thousand lines that all say the same are not worth writing."""

        def handle_one_request(self) -> None:
            super().handle_one_request()
            self.wfile.flush()

    server = ThreadedWSGIServer(("127.0.0.1", port), OnePiece)
    server.set_app(StaticFilesHandler(get_wsgi_application()))
    server.serve_forever()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    serve(int(sys.argv[1]))
