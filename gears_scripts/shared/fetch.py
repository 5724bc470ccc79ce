"""Fetches people's data from durable, by the same rules as the service's `sync/hydrate.py`."""

import json

# @include shared/durable.py
# @lua pack merge release_lease


def fetch(ids, names, token):
    """Merges durable's data of people into local; returns {person: reason} for each failure.

    With the token of a lease, it fills the parts that are unknown on local and ends the lease. With
    '' it merges the parts that are known on local and newer on durable.

    Raises:
        DurableDownError, NotComparedError: Durable cannot be asked, or is not compared yet.
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
    """Packs people on durable; yields (person, row of pack.lua).

    A script that has read much data stops early, and is run again for the people it left out.
    """
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
    """Releases leases after a failed fetch."""
    for person in ids:
        run_local("release_lease", person, token)
