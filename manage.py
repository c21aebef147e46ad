#!/usr/bin/env python
"""Django's command line for the demo project."""

import os
import sys

from django.core.management import execute_from_command_line

from project.postgres import ensure_database


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    with ensure_database(sys.argv):
        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
