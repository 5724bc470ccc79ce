"""Bringing people's data back from durable; the same rules as the service's `sync/hydrate.py`."""

import json

# @include shared/durable.py
# @lua pack merge release_lease


def fetch(ids, names, token):
    """Takes from durable what it has of people; returns the reasons for which some could not be.

    With a token this ends a lease: it fills what is unknown. With '' it takes what is known here
    and newer there.

    Raises:
        DurableDownError, NotComparedError: Durable cannot be asked, or not yet be believed.
    """
    refused = {}
    for person, row in pack_from_durable(ids, names):
        if not as_bytes(row[0]):
            refused[person] = text_of(row[1])
            continue
        arguments = (token, json.dumps(names), person, row[1])
        reply = text_of(run_local("merge", *arguments))
        if reply not in ("ok", "lost"):
            refused[person] = reply
    return refused


def pack_from_durable(ids, names):
    """Yields (person, row of pack.lua) of each; a script that had read much is asked again."""
    waiting, what = list(ids), form_for("local", "all")
    while waiting:
        pieces = in_pieces(waiting)
        sponsorables = json.dumps(names["sponsorables"])
        replies = run_durable("pack", [[what, sponsorables, *piece] for piece in pieces])
        waiting = []
        for piece, rows in zip(pieces, replies):
            yield from zip(piece, rows)
            waiting += piece[len(rows) :]


def in_pieces(values, size=PEOPLE_A_SCRIPT):
    return [values[at : at + size] for at in range(0, len(values), size)]


def release(ids, token):
    """Gives leases back that could not be used."""
    for person in ids:
        run_local("release_lease", person, token)
