"""Registers what answers a read of a collection that is not there: with what durable has.

The first SMEMBERS, SISMEMBER, SMISMEMBER or SCARD of a collection that was evicted, flushed or
never fetched gets the answer, and so does whoever comes after it. A collection that is known to be
empty is answered as empty without a fetch; one that a removal emptied stays so. The person's
profile and entitlement come back along with it. While durable is down the reader gets an error at
once, and nothing is remembered of it. Collections of the application's anonymous visitors are left
alone.

A command that is answered so must not stand in a MULTI: RedisGears 1.2.9 ends the whole server when
two do, or when one does and somebody else sends another of these commands before its EXEC. Where
the application reads collections in transactions, "hook_collections": False in CONFIG lets the
first read go by unanswered, as it is on a plain Redis.

With "hook_profiles" in CONFIG also HGETALL, HGET and HMGET of profiles are answered; only for
readers that speak RESP2, since a hooked command answers in RESP2 in any case.

By hand, with REDISENT_HOST, REDISENT_PORT and REDISENT_PWD in the environment of the Redis server:

    gears-cli run --host HOST --port PORT --requirements build/gears/requirements.txt \
        build/gears/fetch_on_keymiss.py

It replies OK. `sponsorsync deploy-gears` does the same, and replaces an older one.
"""

import binascii
import os
import re
import time

CONFIG = {}

# @include shared/fetch.py
# @lua read_preferences load_account

SET_COMMANDS = ["smembers", "sismember", "smismember", "scard"]
HASH_COMMANDS = ["hgetall", "hget", "hmget"]

# A reader waits for it, and until the first one knows that durable hangs, others do as well.
SOCKET_TIMEOUT_S = 1.0

# Somebody else, the service most likely, is fetching the same person.
PATIENCE_S = 2.0
POLL_S = 0.005


def answer_collection(record):
    """Answers the command that missed, after fetching what is unknown.

    The engine refuses a coroutine function here: with `async def` the whole server ends.
    """
    found = match_key(COLLECTION_KEY, record["key"])
    if not found:
        return
    person, collection = found.groups()
    command = current_command()
    try:
        answer = ask_until_known(
            person, lambda token: ("read_preferences", person, collection, token, "list")
        )
        if text_of(answer[0]) == "empty":
            require_comparison()
    except Exception as error:
        reply_error(command, error)
        return
    if text_of(answer[0]) == "visitor" or command is None:
        return
    override_reply(shape_of_set(command, [as_bytes(each) for each in answer[1]]))


def require_comparison():
    """Raises NotComparedError where local may have come back older: then nothing is known empty."""
    if not is_local_compared():
        raise not_compared("local")


def answer_profile(record):
    """Likewise for a profile."""
    found = match_key(PROFILE_KEY, record["key"])
    if not found:
        return
    person = found.group(1)
    command = current_command()
    try:
        answer = ask_until_known(person, lambda token: ("load_account", person, token))
    except Exception as error:
        reply_error(command, error)
        return
    if command is None:
        return
    flat = [as_bytes(each) for each in answer[1]]
    reply = shape_of_hash(command, flat)
    # A nil cannot be said, nor within a list: then the command answers for itself, as for no key.
    if reply is not None:
        override_reply(reply)


def current_command():
    """Returns the command that missed, or None within MULTI or Lua, where no reply is possible."""
    try:
        return get_command()
    except Exception:
        return None


def reply_error(command, error):
    """Tells the reader; what is no outage is told to the log, too, and counts as a failure."""
    is_outage = isinstance(error, (DurableDownError, NotComparedError))
    if command is not None:
        reason = str(error) if is_outage else "what is kept there could not be brought back"
        override_reply("-ERR sponsorsync: " + reason.replace("\r", " ").replace("\n", " "))
    if not is_outage:
        raise error


def shape_of_set(command, members):
    """Returns the reply that a command on a set of these members has; members are bytes.

    Text that begins with '-' or '+' would become an error or a status.
    """
    name = command[0].lower()
    if name == "smembers":
        return members
    if name == "scard":
        return len(members)
    known = set(members)
    if name == "sismember":
        return int(as_bytes(command[2]) in known)
    return [int(as_bytes(each) in known) for each in command[2:]]


def shape_of_hash(command, flat):
    """Returns the reply of a command on a hash of these fields and values; None has to be nil."""
    name = command[0].lower()
    if name == "hgetall":
        return flat
    fields = dict(zip(flat[::2], flat[1::2]))
    values = [fields.get(as_bytes(each)) for each in command[2:]]
    if None in values:
        return None
    return values[0] if name == "hget" else values


def ask_until_known(person, call):
    """Runs a script with a lease token until it has an answer, and returns that.

    Whoever's token took the lease fetches; while it is somebody else's, the answer is awaited.

    Raises:
        DurableDownError, NotComparedError: Only durable knows, and cannot be asked.
    """
    token = binascii.hexlify(os.urandom(8)).decode()
    ends = time.time() + PATIENCE_S
    answer = run_local(*call(token))
    while text_of(answer[0]) == "ask":
        if time.time() > ends:
            raise DurableDownError("somebody else's fetch from durable takes too long")
        if text_of(answer[1]) == token:
            fetch_leased(person, token)
        else:
            time.sleep(POLL_S)
        answer = run_local(*call(token))
    return answer


def fetch_leased(person, token):
    try:
        refused = fetch([person], NAMES, token)
    except Exception:
        release([person], token)
        raise
    if refused:
        release([person], token)
        raise ValueError("person {}: {}".format(person, refused[person]))


NAMES = require_names()
COLLECTION_KEY = re.compile(
    "^"
    + PREFERENCES.format(id="([1-9][0-9]*)", collection="(%s)")
    % "|".join(re.escape(each) for each in NAMES["collections"])
    + "$"
)
PROFILE_KEY = re.compile("^" + USER_DETAILS.format(id="([1-9][0-9]*)") + "$")


def beginnings():
    """Yields how ids begin, so that no id begins in two ways: '1:' … '9:' and '10' … '99'.

    Misses of one registration are answered one after the other, those of different ones side by
    side. Numbers of GitHub never begin with 0.
    """
    for first in "123456789":
        yield first + ":"
        for second in "0123456789":
            yield first + second


# Without commands the first reader is not waited for, and only the next one gets the members.
HOOKED = {"commands": SET_COMMANDS} if CONFIG.get("hook_collections", True) else {}

for beginning in beginnings():
    GearsBuilder("KeysReader", desc="sponsorsync collections").foreach(answer_collection).register(
        prefix=PREFERENCES.partition("{")[0] + beginning + "*",
        eventTypes=["keymiss"],
        mode="async_local",
        readValue=False,
        convertToStr=False,
        collect=False,
        **HOOKED,
    )

if CONFIG.get("hook_profiles"):
    for beginning in "123456789":
        GearsBuilder("KeysReader", desc="sponsorsync profiles").foreach(answer_profile).register(
            prefix=USER_DETAILS.partition("{")[0] + beginning + "*",
            eventTypes=["keymiss"],
            commands=HASH_COMMANDS,
            mode="async_local",
            readValue=False,
            convertToStr=False,
            collect=False,
        )
