"""What `manage.py demo` is made of.

`database` makes a fresh one and drops it; `processes` are the shop, the relay and the workers; `customers`
order over HTTP, and some cannot pay; `pictures` are what they upload; `figures` is what the tables and the
mail files say about it all; `show` puts it on the screen.
"""
