"""The lower house: a message is written in the caller's transaction, and the relay delivers what was committed.

An outbox is a table in the application's own database. Writing to it is one plain INSERT over the caller's own
connection, so the message commits with the business data or vanishes with it. The relay moves committed messages
on; here, in one database, each move is one transaction, so a message arrives exactly once.

A message is in one of three places: in `outbox_message` (written, not yet delivered), in `outbox_setasidemessage`
(it could not be delivered; kept with its error until a person replays or discards it), or delivered and gone from
this house. This house knows messages and time. It knows nothing of jobs.

    write.py    the one INSERT                        session.py  a connection of our own, one round trip a verb
    wake.py     tells the relay, after the commit     loop.py     the one loop; everything else is a step
    relay.py    moves committed messages              models.py   Message, SetAsideMessage
"""
