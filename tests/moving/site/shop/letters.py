"""What the tasks do: a line in a file, with who ran them."""

import os


def send_letter(what: str, user_id: object) -> str:
    with open(os.environ["LETTERS"], "a") as file:  # noqa: PTH123
        file.write(f"{what} {user_id} {os.environ.get('RUN_BY', 'nobody')}\n")
    return f"{what} sent"
