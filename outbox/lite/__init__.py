"""The outbox on SQLite: for development and for one machine, where no server is wanted.

Every verb is written for PostgreSQL, one statement each. Here it finds its counterpart: most statements are respelled
by rule (`spell`), the others have a room in which a few plain ones do the same in one IMMEDIATE transaction, which
makes them one step for everybody else. SQLite has one writer at a time, so there are no row locks to take or to skip.

    values.py     Python's values as Django's SQLite columns have them, and back
    functions.py  the functions of PostgreSQL that the statements use
    spell.py      one statement, respelled
    book.py       which statement is done how
    answer.py     runs one on any connection
    session.py    a connection of our own
    verbs.py      the outbox's verbs

Values are stored exactly as Django's ORM stores them: admin reads the same rows.
"""
