"""Registers the capture of foreign writes, and the drain that pushes changes to durable.

The capture (KeysReader, sync) runs at each write to a collection past the service, before the
writer has its reply: it gives the collection a new version and marks its person dirty. A key that
goes by DEL, eviction or expiry is a loss, not a removal; the last SREM or SPOP is a removal. Writes
after a loss are sent only once they are merged with durable. The capture ignores our own scripts:
they set `sponsorsync:capture_suppressed` while they write.

The drain (StreamReader) pushes the people named in `sponsorsync:outbox` to durable, a batch at a
time. It retries after an outage, and stores people whose data durable refuses in
`sponsorsync:dead_letters`.

By hand, with REDISENT_HOST, REDISENT_PORT and REDISENT_PWD in the environment of the Redis server:

    gears-cli run --host HOST --port PORT --requirements build/gears/requirements.txt \
        build/gears/write_behind.py

It replies OK. `sponsorsync deploy-gears` does the same, and replaces an older one.
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
    """Versions a write past the service.

    With plain commands, which are atomic here, since the server waits for the callback. A Lua
    script in their place crashes the server if the writer is a Lua script itself (Redis 7.0 asserts
    that no other is running).
    """
    key = record["key"]
    found = match_key(COLLECTION_KEY, key)
    # A fetch that is under way needs no mark: it takes no part that is newer here, and merges a set
    # that it finds in the place of an unknown one.
    if not found or execute("EXISTS", CAPTURE_SUPPRESSED) == 1:
        return
    try:
        save_version(record["event"], found.group(1), found.group(2), key)
    except Exception as error:
        # A wrong-type key: it cannot be repaired here; verify names it.
        log("sponsorsync: a write of person {} was not captured: {}".format(found.group(1), error))


def is_visitor(person):
    """Returns whether the number is also an anonymous visitor's."""
    return text_of(execute("TYPE", VISITOR.format(id=person))) == "hash"


def save_version(event, person, collection, key):
    meta = META_PREFIX + person
    presence, version, size_field = FIELDS[collection]
    is_there, last, before = execute("HMGET", meta, presence, version, size_field)
    if is_there is not None and not is_local_compared():
        # Local may have come back older: a write to it is no newer state of the whole set.
        execute("HDEL", meta, presence)
        is_there = None
    if event in LOSSES and not (event == "del" and is_popped(key)):
        if is_there == "1":
            execute("HDEL", meta, presence)
        return
    size = execute("SCARD", key)
    if event == "sadd" and is_there == "1" and size <= int(before or 0):
        # It grew, and is not larger than before: it had been lost unnoticed. (Or another database
        # has a key of this name: the engine reports those, too.)
        execute("HDEL", meta, presence)
        is_there = None
    if is_there is None:
        # The set is unknown, or was lost: it is sent once it is merged with durable's.
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
    """Saves the key of a SPOP: with a count, the server notifies before it removes the members.

    The size is then that of before; if it removes all, a `del` follows within the same command.
    """
    redis.sponsorsync_popped = (key, count_removals())


def is_popped(key):
    """Returns whether the last SPOP was of this key and is still running."""
    popped = getattr(redis, "sponsorsync_popped", None)
    return popped is not None and popped[0] == key and popped[1] == count_removals()


def count_removals():
    """Returns how many commands that pop or delete have ended: without the current one."""
    statistics = text_of(execute("INFO", "commandstats"))
    return re.findall(r"^cmdstat_(spop|del|unlink):calls=([0-9]+)", statistics, re.MULTILINE)


def wake(person):
    if execute("SADD", DIRTY, person) == 1:
        execute("XADD", OUTBOX, "*", "u", person)


def collect(entries, record):
    """Makes one list of the records of a batch."""
    return (entries or []) + [record]


def push(entries):
    """Pushes the people of a batch to durable, and removes its entries.

    Raises:
        DurableDownError, NotComparedError: The engine retries the same batch after RETRY_S.
    """
    # An entry that was removed meanwhile arrives without its fields.
    people = [text_of(entry["value"]["u"]) for entry in entries if "u" in entry["value"]]
    drain(sorted(set(people)), NAMES)
    # Last: a crash before it only sends people twice; one after an early removal would leave them
    # to the service's sweep.
    execute("XDEL", OUTBOX, *[text_of(entry["id"]) for entry in entries])


NAMES = require_names()

# Computed once: every write waits for the capture.
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
