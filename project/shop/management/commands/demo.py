"""`manage.py demo`: the main job on real input, with real processes, checked from what they left behind."""

from __future__ import annotations

import json
import random
import secrets
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand
from django.db import transaction

from jobs.models import FinishedJob, Job
from outbox.models import Message
from project.shop.demo import pictures
from project.shop.demo.customers import Customers, Visit, make_plans
from project.shop.demo.database import own_database
from project.shop.demo.figures import Figures, Told, examine, pieces
from project.shop.demo.processes import Children, free_port, wait_for_web
from project.shop.demo.show import Progress, table
from project.shop.models import Product
from project.shop.tasks import never_ends

LIMIT = 80.0
"""Seconds for up to a thousand orders, after which the demo gives up; more orders get more."""

AT_ONCE = 4
LOOK_EVERY = 0.2

UPLOADS = ("postcards", "stamps", "paper")

USUAL_PORT = 8000


class Command(BaseCommand):
    help = "Place orders in the demo shop, with relay and workers running, and check what became of them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--orders", type=int, default=1000, help="Orders to place (default: 1000).")
        parser.add_argument("--seed", type=int, help="Repeat the customers of an earlier run.")
        parser.add_argument("--json", action="store_true", help="Print the figures as one JSON object.")
        parser.add_argument(
            "--serve", action="store_true", help="Then leave the shop and the workers running until Ctrl-C."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["orders"] < 1:
            raise CommandError("--orders: give at least 1.")
        self.started = time.monotonic()
        self.limit = LIMIT * max(1.0, options["orders"] / 1000)
        self.progress = Progress(self.stderr)
        self.stderr.style_func = None  # progress is no error
        good = False
        stack = ExitStack()
        try:
            with stopped_by_signals():
                good = self._demonstrate(stack, options)
        except KeyboardInterrupt:
            self.progress.clear()
            self.stderr.write("Stopped.")
            sys.exit(130)
        finally:
            with deaf():
                stack.close()
        if not good:
            sys.exit(1)

    def _demonstrate(self, stack: ExitStack, options: dict[str, Any]) -> bool:
        seed = options["seed"] if options["seed"] is not None else secrets.randbelow(10**6)
        self.progress.say(f"Preparing a database ({options['orders']:,} orders, --seed {seed})")
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outbox-demo-")))
        url = stack.enter_context(own_database())
        call_command("migrate", verbosity=0, interactive=False)
        usual_stock = dict(Product.objects.values_list("pk", "stock"))
        Product.objects.update(stock=10 * options["orders"])
        before = pieces()

        self.progress.say("Starting the shop, the relay and the workers")
        port = free_port(USUAL_PORT if options["serve"] else 0)
        children = Children(data, environment(data, url, port))
        stack.callback(children.stop)
        children.start("shop", "-m", "project.shop.demo.web", str(port))
        children.start("relay", "manage.py", "relay")
        children.start("workers", "manage.py", "runworkers", "--slots=2", "--drain-timeout=2")
        wait_for_web(port, children)

        told = self._open_the_doors(port, children, options["orders"], seed, before)
        self._wait_until_done(children)
        figures = examine(data, told)
        figures.seconds = round(time.monotonic() - self.started, 1)
        self._report(figures, options["json"])
        if options["serve"]:
            for number, stock in usual_stock.items():
                Product.objects.filter(pk=number).update(stock=stock)
            self._serve(port, children)
        return not figures.problems

    def _open_the_doors(self, port: int, children: Children, orders: int, seed: int, before: int) -> Told:
        """Have everything ordered and uploaded; returns what the customers were told."""
        dice = random.Random(seed)  # noqa: S311  to be repeated, not to be secret
        customers = Customers(port, make_plans(orders, list(Product.objects.all()), dice), AT_ONCE)
        endless = enqueue_endless()
        customers.start()
        try:
            self._upload(port, dice)
            while customers.are_there:
                time.sleep(LOOK_EVERY)
                self._look(children)
                if endless == 1 and customers.served > orders / 2:
                    endless += enqueue_endless()
                done = FinishedJob.objects.count()
                self.progress.show("Placing orders", customers.served, orders, f"{done:,} jobs done")
        finally:
            customers.send_home()
        if customers.errors:
            raise CommandError(f"A customer was surprised: {customers.errors[0]}") from customers.errors[0]
        return Told(
            placed=frozenset(plan.reference for plan in customers.placed),
            refused=frozenset(plan.reference for plan in customers.refused),
            uploads=len(UPLOADS),
            endless=endless,
            pieces=before,
        )

    def _upload(self, port: int, dice: random.Random) -> None:
        with closing(Visit(port)) as visit:
            for number, slug in enumerate(UPLOADS):
                visit.upload(slug, pictures.draw(number, dice))

    def _wait_until_done(self, children: Children) -> None:
        while True:
            # The outbox first: what leaves it between the two looks is seen in the queue.
            left = Message.objects.count() + Job.objects.count()
            if not left:
                return
            done = FinishedJob.objects.count()
            self.progress.show("Finishing jobs", done, done + left, f"{left:,} left")
            self._look(children)
            time.sleep(LOOK_EVERY)

    def _look(self, children: Children) -> None:
        """Raise CommandError when something has died or takes too long."""
        children.check()
        if time.monotonic() - self.started > self.limit:
            states = ", ".join(f"{count} {state}" for state, count in left_over().items())
            raise CommandError(
                f"Not done after {self.limit:.0f} seconds: {states or 'nothing'} left over."
                f"\nThe workers said:\n{children.said('workers')}"
            )

    def _report(self, figures: Figures, as_json: bool) -> None:
        self.progress.clear()
        if as_json:
            self.stdout.write(json.dumps(figures.as_json()))
            for problem in figures.problems:
                self.stderr.write(problem)
        else:
            self.stdout.write(table(figures, self.style, self.stdout))
        self.stdout.flush()

    def _serve(self, port: int, children: Children) -> None:
        password = secrets.token_urlsafe(9)
        get_user_model().objects.create_superuser("admin", "admin@example.com", password)
        home = f"http://127.0.0.1:{port}/"
        self.stderr.write(f"The shop: {home}\nAdmin:    {home}admin/  (admin, {password})\nCtrl-C ends both.")
        try:
            while True:
                time.sleep(LOOK_EVERY)
                children.check()
        except KeyboardInterrupt:
            self.stderr.write("Closing the shop.")


def environment(data: Path, url: str, port: int) -> dict[str, str]:
    """What the children find in their environment."""
    return {
        "DATABASE_URL": url,
        "DATA_DIR": str(data),
        "SUPPLIER_URL": f"http://127.0.0.1:{port}/supplier/",
        "RATES_URL": f"http://127.0.0.1:{port}/rates/",
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        "DEBUG": "0",
        "DEMO": "1",
    }


def enqueue_endless() -> int:
    """One more job that never ends; answers 1."""
    with transaction.atomic():
        never_ends.enqueue()
    return 1


def left_over() -> dict[str, int]:
    """Where the work is that is not done."""
    counts = {"in the outbox": Message.objects.count()}
    for state in Job.objects.values_list("state", flat=True):
        counts[state] = counts.get(state, 0) + 1
    return {state: count for state, count in counts.items() if count}


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """End in good order at SIGTERM and SIGHUP too, where nobody has arranged for it yet."""
    numbers = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def deaf() -> Iterator[None]:
    """Clear up undisturbed: an impatient second Ctrl-C would leave processes behind."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
