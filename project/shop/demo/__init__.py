"""What `manage.py demo` is made of: a database and processes of its own, customers, and a check of what they left.

    database    a fresh database, dropped at the end
    processes   the shop, the relay and the workers as real processes
    customers   people who order over HTTP, some of whom cannot pay
    pictures    what they upload
    figures     what the tables and the mail files say about it all
    show        the progress and the table
"""
