"""Pushes people to durable, by the same rules as the service's `sync/relay.py`."""

import binascii
import json
import os

import redis

# @include shared/fetch.py
# @lua pack apply confirm push_again add_dead_letter find_removed prune

DEAD_LETTER_FIRST_S = 60
DEAD_LETTER_LONGEST_S = 3600


def drain(ids, names):
    """Pushes those of these people who are dirty to durable.

    Their records are packed on local, applied on durable, and confirmed on local. Returns the same
    as `deliver`.

    Raises:
        DurableDownError, NotComparedError: People not yet confirmed are still dirty; try again.
    """
    require_compared("local", run_id_here())
    rows, refused = pack_here(ids, "entitled", names)
    unknown = [row.person for row in rows if "u" in row.flags and "d" in row.flags]
    if unknown:
        refused.update(hydrate(unknown, names))
        again, also_refused = pack_here(ids, "entitled", names)
        rows = [row for row in again if row.person not in refused]
        refused.update(also_refused)
    for person, reason in refused.items():
        add_dead_letter(person, reason)
    return deliver([row for row in rows if "d" in row.flags], names)


class Row:
    """A person's row in the reply of pack.lua; `record` is the packed person record."""

    def __init__(self, person, reply):
        self.person = person
        self.version_vector = as_bytes(reply[0])
        self.record = as_bytes(reply[1])
        self.flags = text_of(reply[2])


def pack_here(ids, what, names):
    """Packs people on local; returns their rows, and {person: reason} for those not packed."""
    rows, refused, sponsorables = [], {}, json.dumps(names["sponsorables"])
    waiting, what = list(ids), form_for("durable", what)
    while waiting:
        piece = waiting[:PEOPLE_A_SCRIPT]
        replies = run_local("pack", what, sponsorables, *piece)
        for person, reply in zip(piece, replies):
            if as_bytes(reply[0]):
                rows.append(Row(person, reply))
            else:
                refused[person] = text_of(reply[1])
        waiting = waiting[len(replies) :]
    return rows, refused


def hydrate(ids, names):
    """Fetches people whose lease is free; returns {person: reason} for each failure."""
    token = new_token()
    mine = [
        person
        for person in ids
        if execute("SET", LEASE.format(id=person), token, "NX", "PX", LEASE_TTL_MS) is not None
    ]
    try:
        refused = fetch(mine, names, token)
    except Exception:
        release(mine, token)
        raise
    release(refused, token)
    return refused


def new_token():
    return binascii.hexlify(os.urandom(8)).decode()


def deliver(rows, names):
    """Applies records on durable and handles its answers.

    Returns:
        {"taken": [person], "newer": [person], "refused": {person: reason}}.
    """
    delivery = {"taken": [], "newer": [], "refused": {}}
    batches = in_batches(rows)
    if not batches:
        return delivery
    sponsorables = json.dumps(names["sponsorables"])
    before = getattr(redis, "sponsorsync_applied", 0)
    replies = run_durable(
        "apply", [[sponsorables, *(row.record for row in batch)] for batch in batches]
    )
    taken = sort_answers(batches, replies, delivery)
    highest = max(applied for applied, _ in replies)
    handle_fallback(before, highest - len(batches), taken)
    redis.sponsorsync_applied = highest
    for _, row in taken:
        if "n" in row.flags and "d" in row.flags:
            try:
                prune(row.person, names)
            except DurableRefusesError as error:
                delivery["refused"][row.person] = str(error)
                add_dead_letter(row.person, str(error))
    confirm([each for each in taken if each[1].person not in delivery["refused"]])
    if delivery["newer"]:
        merge_newer(delivery["newer"], names)
    return delivery


def sort_answers(batches, replies, delivery):
    """Sorts durable's answers into `delivery`; dirty people who are refused become dead letters.

    Returns [(durable's count of applying scripts, row)] of the rows that durable took.
    """
    taken = []
    for batch, (applied, answers) in zip(batches, replies):
        for row, reply in zip(batch, answers):
            answer = text_of(reply)
            if answer == "ok":
                taken.append((applied, row))
                delivery["taken"].append(row.person)
            elif answer == "newer":
                delivery["newer"].append(row.person)
            else:
                delivery["refused"][row.person] = answer
                if "d" in row.flags:
                    add_dead_letter(row.person, answer)
    return taken


def merge_newer(ids, names):
    """Merges durable's newer parts of people, and queues the people so that the rest is pushed.

    Durable has newer parts if local came back with older data.
    """
    conflicts = fetch(ids, names, "")
    for person in ids:
        if person in conflicts:
            add_dead_letter(person, conflicts[person])
        else:
            execute("XADD", OUTBOX, "*", "u", person)


def in_batches(rows):
    """Splits rows into batches, each for one run of the script."""
    batches, size = [], 0
    for row in rows:
        size += len(row.record)
        if not batches or len(batches[-1]) >= PEOPLE_A_SCRIPT or size > BYTES_A_SCRIPT:
            batches.append([])
            size = len(row.record)
        batches[-1].append(row)
    return batches


def handle_fallback(before, applied_before, taken):
    """If durable was emptied, marks everyone dirty except people just applied completely.

    Each applying script raises durable's count, so a lower count means that durable was emptied
    while the connection was open.
    """
    if applied_before >= before:
        return
    whole = [row.person for _, row in taken if "p" not in row.flags]
    if whole:
        execute("ZREM", CONFIRMED, *whole)
    while int(run_local("push_again", "0", "500")):
        pass


def confirm(taken):
    """Confirms on local the rows that durable took.

    People who have not changed since they were packed are then no longer dirty.
    """
    changed = [(applied, row) for applied, row in taken if "d" in row.flags]
    for piece in in_pieces(changed, PEOPLE_A_SCRIPT * 4):
        arguments = []
        for applied, row in piece:
            arguments += [applied, row.person, row.version_vector, row.flags]
        run_local("confirm", *arguments)
    # These people were not dirty when packed, so there is nothing to clear; if they have changed
    # since, they are dirty by now.
    settled = [(applied, row.person) for applied, row in taken if "d" not in row.flags]
    for piece in in_pieces(settled, PEOPLE_A_SCRIPT * 4):
        execute("ZADD", CONFIRMED, *(value for pair in piece for value in pair))


def prune(person, names):
    """Removes items from durable that a person who is not entitled has removed on local."""
    for collection in names["collections"]:
        key = PREFERENCES.format(id=person, collection=collection)
        try:
            copy = durable().smembers(key)
        except redis.exceptions.RedisError as error:
            raise outage(error) from None
        found = run_local("find_removed", person, collection, *copy)
        if len(found) > 1:
            run_durable("prune", [[person, collection] + [as_bytes(each) for each in found]])


def add_dead_letter(person, reason):
    """Saves a person whose data one server refuses, so that they do not hold up the others."""
    if reason != "visitor":
        run_local("add_dead_letter", person, reason, DEAD_LETTER_FIRST_S, DEAD_LETTER_LONGEST_S)
        log("sponsorsync: person {} is a dead letter: {}".format(person, reason))
