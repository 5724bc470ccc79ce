"""Registers two callbacks: the capture of other applications' writes, and the drain to durable.

The capture (a KeysReader in mode `sync`) runs at each write to a collection past the service,
before the writer has its reply. It gives the collection a new version and marks the person dirty.
The end of a key by DEL, eviction or expiry is a loss of data; only an SREM or SPOP of the last
member means that the person removed everything. Writes after a loss are merged with durable's
collection before they are pushed. The capture ignores the service's own writes: its scripts set
`sponsorsync:capture_suppressed` meanwhile.

The drain (a StreamReader) pushes the people in the stream `sponsorsync:outbox` to durable, a batch
at a time. It retries after an outage, and saves people whose data durable refuses in
`sponsorsync:dead_letters`.

By hand, with REDISENT_HOST, REDISENT_PORT and REDISENT_PWD in the environment of the Redis server:

    gears-cli run --host HOST --port PORT --requirements build/gears/requirements.txt \
        build/gears/write_behind.py

The command replies OK. `sponsorsync deploy-gears` does the same, and replaces an older release's.
"""

import re
import time

import redis

CONFIG = {}

# @include shared/relay.py

BATCH = 500
WAIT_MS = 20
RETRY_S = 1

WRITES = ["sadd", "srem", "spop", "sunionstore", "sinterstore", "sdiffstore"]
WRITES += ["rename_to", "copy_to", "move_to", "restore"]
LOSSES = ["del", "expired", "evicted", "rename_from", "move_from", "set"]


def capture(record):
    """Gives a new version to a collection that was written past the service.

    It uses plain commands, which are atomic here, since the server waits for the callback. It
    cannot use a Lua script: Redis 7.0 crashes if the writer is a Lua script and another one starts.
    """
    key = record["key"]
    found = match_key(COLLECTION_KEY, key)
    # A fetch that is under way need not be told: it replaces no part that is newer on local, and if
    # a set was unknown and is there by then, it merges the two.
    if not found or execute("EXISTS", CAPTURE_SUPPRESSED) == 1:
        return
    try:
        save_version(record["event"], found.group(1), found.group(2), key)
    except Exception as error:
        # The key has a wrong type, which cannot be repaired here; `sponsorsync verify` reports it.
        log("sponsorsync: a write of person {} was not captured: {}".format(found.group(1), error))


def is_visitor(person):
    """Returns whether the number is also an anonymous visitor's."""
    return text_of(execute("TYPE", VISITOR.format(id=person))) == "hash"


def save_version(event, person, collection, key):
    meta = META_PREFIX + person
    presence, version, size_field = FIELDS[collection]
    is_there, last, before = execute("HMGET", meta, presence, version, size_field)
    if is_there is not None and not is_local_compared():
        # Local may have come back with an older set; a version for this write would declare the
        # whole set newer than durable's. So the set becomes unknown, and is merged with durable's.
        execute("HDEL", meta, presence)
        is_there = None
    if event in LOSSES and not (event == "del" and is_popped(key)):
        if is_there == "1":
            execute("HDEL", meta, presence)
        return
    size = execute("SCARD", key)
    if event == "sadd" and is_there == "1" and size <= int(before or 0):
        # A member was added, but the set is not larger than recorded: the set had been lost without
        # an event. (Or the write was in another database, whose events RedisGears reports, too.)
        execute("HDEL", meta, presence)
        is_there = None
    if is_there is None:
        # The set is unknown or was lost; it is pushed only after a merge with durable's set.
        if size and not is_visitor(person):
            execute("HSETNX", meta, version, "0")
            execute("HINCRBY", meta, "m", "1")
            wake(person)
        return
    new = max(int(last or 0) + 1, int(time.time() * 1000000))
    wake(person)
    execute("HSET", meta, version, new, presence, 1 if size else 0, size_field, size)
    if event == "spop" and size:
        save_pop(key)
        execute("HSET", meta, size_field, "0")


def save_pop(key):
    """Saves the key of a SPOP, so that a `del` within the same command is known to be a removal.

    For a SPOP with a count, Redis sends the event `spop` before it removes the members, so the size
    is still the old one. If the command removes all members, it then sends `del`.
    """
    redis.sponsorsync_popped = (key, count_removals())


def is_popped(key):
    """Returns whether a SPOP of this key is still running."""
    popped = getattr(redis, "sponsorsync_popped", None)
    return popped is not None and popped[0] == key and popped[1] == count_removals()


def count_removals():
    """Returns how many SPOP, DEL and UNLINK commands have ended; a running one is not counted."""
    statistics = text_of(execute("INFO", "commandstats"))
    return re.findall(r"^cmdstat_(spop|del|unlink):calls=([0-9]+)", statistics, re.MULTILINE)


def wake(person):
    if execute("SADD", DIRTY, person) == 1:
        execute("XADD", OUTBOX, "*", "u", person)


def collect(entries, record):
    """Appends a record to the list of a batch (the accumulator of RedisGears)."""
    return (entries or []) + [record]


def push(entries):
    """Pushes the people of a batch to durable, and deletes its entries from the outbox.

    Raises:
        DurableDownError, NotComparedError: RedisGears retries the same batch after RETRY_S.
    """
    # RedisGears reads an entry that was deleted meanwhile without its fields.
    people = [text_of(entry["value"]["u"]) for entry in entries if "u" in entry["value"]]
    drain(sorted(set(people)), NAMES)
    # The entries are deleted last: after a crash before this line, people are only pushed twice. If
    # they were deleted first, a crash would delay their push until the service's periodic sweep.
    execute("XDEL", OUTBOX, *[text_of(entry["id"]) for entry in entries])


NAMES = require_names()

# Computed once, since every write waits for the capture.
META_PREFIX = META.format(id="")
FIELDS = {each: ("p:" + each, "v:" + each, "n:" + each) for each in NAMES["collections"]}
COLLECTION_KEY = compile_collection_key(NAMES)

GearsBuilder("KeysReader", desc="sponsorsync capture").foreach(capture).register(
    prefix=PREFERENCES.partition("{")[0] + "*",
    eventTypes=WRITES + LOSSES,
    mode="sync",
    readValue=False,
    convertToStr=False,
    collect=False,
)

GearsBuilder("StreamReader", desc="sponsorsync drain").accumulate(collect).foreach(push).register(
    prefix=OUTBOX,
    batch=BATCH,
    duration=WAIT_MS,
    mode="async_local",
    onFailedPolicy="retry",
    onFailedRetryInterval=RETRY_S,
    trimStream=False,
    convertToStr=False,
    collect=False,
)
