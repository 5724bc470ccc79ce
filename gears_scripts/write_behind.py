"""Registers what takes changes to durable: a capture of foreign writes, and the drain.

The capture (KeysReader, sync) sees each write to a collection past the service, before the writer
has its answer: it gives the collection a new version and marks its person dirty. A key that goes by
DEL, eviction or expiry was lost, which is no removal; the last SREM or SPOP is one. What is written
after a loss is sent only once it is united with durable. Our own scripts write while
`sponsorsync:capture_suppressed` stands, and are not captured.

The drain (StreamReader) takes whoever is named in `sponsorsync:outbox` to durable, a batch at a
time. An outage is tried again; data that durable refuses are set aside in
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


# ------------------------------------------------------------------ capture


def capture(record):
    """Marks what somebody wrote past the service.

    With plain commands: all of them are one moment here, since the server waits for this. A Lua
    script in their place ends the server when the writer is a Lua script itself (Redis 7.0 asserts
    that none runs already).
    """
    key = record["key"]
    found = match_key(COLLECTION_KEY, key)
    # Our own scripts tell when they write. A fetch that is under way needs no word of this: it
    # takes no part that is newer here, and unites what it finds in the place of an unknown one.
    if not found or execute("EXISTS", CAPTURE_SUPPRESSED) == 1:
        return
    try:
        note(record["event"], found.group(1), found.group(2), key)
    except Exception as error:
        # A key of another type in the place of one of ours: nobody's to repair here; verify names
        # it.
        log("sponsorsync: a write of person {} was not noted: {}".format(found.group(1), error))


def is_visitor(person):
    """Whether the number is that of an anonymous visitor of the application, too."""
    return text_of(execute("TYPE", VISITOR.format(id=person))) == "hash"


def note(event, person, collection, key):
    meta = META_PREFIX + person
    presence, version, noted = FIELDS[collection]
    is_there, last, before = execute("HMGET", meta, presence, version, noted)
    if is_there is not None and not is_local_compared():
        # Local may have come back older: what was written onto it is no newer state of it all.
        execute("HDEL", meta, presence)
        is_there = None
    if event in LOSSES and not (event == "del" and is_popped(key)):
        if is_there == "1":
            execute("HDEL", meta, presence)
        return
    size = execute("SCARD", key)
    if event == "sadd" and is_there == "1" and size <= int(before or 0):
        # It grew, and is not larger than it was: it had been lost while nobody looked. (Or another
        # database has a key of this name: the engine tells of those, too.)
        execute("HDEL", meta, presence)
        is_there = None
    if is_there is None:
        # Nobody has asked durable yet, or the set had been lost: it is sent once both are united.
        if size and not is_visitor(person):
            execute("HSETNX", meta, version, "0")
            execute("HINCRBY", meta, "m", "1")
            wake(person)
        return
    new = max(int(last or 0) + 1, int(time.time() * 1000000))
    wake(person)
    execute("HSET", meta, version, new, presence, 1 if size else 0, noted, size)
    if event == "spop" and size:
        note_pop(key)
        execute("HSET", meta, noted, "0")


def note_pop(key):
    """Remembers a SPOP that the server may tell of before it does it, as it does with a count.

    Then the size is that of before; and should it take all, a `del` comes within the same command.
    """
    redis.sponsorsync_popped = (key, count_removals())


def is_popped(key):
    """Whether the SPOP that was noted last, of this key, is still under way."""
    popped = getattr(redis, "sponsorsync_popped", None)
    return popped is not None and popped[0] == key and popped[1] == count_removals()


def count_removals():
    """Returns how many commands that pop or delete the server has ended: not the current one."""
    statistics = text_of(execute("INFO", "commandstats"))
    return re.findall(r"^cmdstat_(spop|del|unlink):calls=([0-9]+)", statistics, re.MULTILINE)


def wake(person):
    if execute("SADD", DIRTY, person) == 1:
        execute("XADD", OUTBOX, "*", "u", person)


# ------------------------------------------------------------------ drain


def collect(entries, record):
    """Makes one list of the records of a batch."""
    return (entries or []) + [record]


def push(entries):
    """Takes the people of a batch to durable, and removes its entries.

    Raises:
        DurableDownError, NotComparedError: The same batch comes again in RETRY_S.
    """
    # An entry that somebody else removed meanwhile arrives without its fields.
    people = [text_of(entry["value"]["u"]) for entry in entries if "u" in entry["value"]]
    drain(sorted(set(people)), NAMES)
    # Before, a crash would leave people to the service's sweep; after, they are only sent twice.
    execute("XDEL", OUTBOX, *[text_of(entry["id"]) for entry in entries])


NAMES = require_names()

# Made once: this is in the way of every write.
META_PREFIX = META.format(id="")
FIELDS = {each: ("p:" + each, "v:" + each, "n:" + each) for each in NAMES["collections"]}
COLLECTION_KEY = re.compile(
    "^"
    + PREFERENCES.format(id="([1-9][0-9]*)", collection="(%s)")
    % "|".join(re.escape(each) for each in NAMES["collections"])
    + "$"
)

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
