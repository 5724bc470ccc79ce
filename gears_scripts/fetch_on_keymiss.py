"""Registers callbacks that answer reads of missing collections with durable's data.

SMEMBERS, SISMEMBER, SMISMEMBER and SCARD of a collection that was evicted, flushed or never fetched
get the right answer at the first attempt. A collection that is known to be empty is not fetched, so
one that a removal emptied stays empty. The person's profile and entitlement are fetched together
with the collection. While durable is down, the reader gets an error at once, and nothing changes.
Collections of anonymous visitors are left to Redis.

Such a read must not be part of a MULTI. RedisGears 1.2.9 crashes the server if a transaction has
two of them, or has one and another client sends one before the EXEC. If the application reads
collections in transactions, set "hook_collections": False in CONFIG; then the first read finds
nothing, as on a plain Redis.

With "hook_profiles" in CONFIG, the callbacks also answer HGETALL, HGET and HMGET of profiles, but
only for clients that use RESP2, since a hooked command always replies in RESP2.

By hand, with REDISENT_HOST, REDISENT_PORT and REDISENT_PWD in the environment of the Redis server:

    gears-cli run --host HOST --port PORT --requirements build/gears/requirements.txt \
        build/gears/fetch_on_keymiss.py

The command replies OK. `sponsorsync deploy-gears` does the same, and replaces an older release's.
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

# The time-out of durable's client. While durable hangs, a reader waits this long, and so do readers
# behind it.
SOCKET_TIMEOUT_S = 1.0

# How long to wait for the end of another fetch of the same person, such as the service's.
PATIENCE_S = 2.0
POLL_S = 0.005


def answer_collection(record):
    """Answers a command on a missing collection, after fetching unknown parts of the person.

    Not `async def`: RedisGears crashes the server on a coroutine function here.
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
    """Raises NotComparedError if local may have come back with older data.

    Its knowledge that a set is empty may then be outdated.
    """
    if not is_local_compared():
        raise not_compared("local")


def answer_profile(record):
    """Answers a command on a missing profile, as `answer_collection` does for collections."""
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
    # RedisGears cannot reply nil; Redis then answers the command itself, as for a missing key.
    if reply is not None:
        override_reply(reply)


def current_command():
    """Returns the command that read a missing key; None in MULTI or Lua, which allow no reply."""
    try:
        return get_command()
    except Exception:
        return None


def reply_error(command, error):
    """Replies an error to the reader.

    Raises any error but an outage again, so that RedisGears logs and counts it.
    """
    is_outage = isinstance(error, (DurableDownError, NotComparedError))
    if command is not None:
        reason = str(error) if is_outage else "the data in durable storage could not be fetched"
        override_reply("-ERR sponsorsync: " + reason.replace("\r", " ").replace("\n", " "))
    if not is_outage:
        raise error


def shape_of_set(command, members):
    """Returns the reply of a command on a set of these members.

    Members are bytes, since RedisGears turns text that begins with '-' or '+' into an error or a
    status.
    """
    name = command[0].lower()
    if name == "smembers":
        return members
    if name == "scard":
        return len(members)
    stored = set(members)
    if name == "sismember":
        return int(as_bytes(command[2]) in stored)
    return [int(as_bytes(each) in stored) for each in command[2:]]


def shape_of_hash(command, flat):
    """Returns the reply of a command on a hash of these fields and values.

    Returns None if the reply would contain nil.
    """
    name = command[0].lower()
    if name == "hgetall":
        return flat
    fields = dict(zip(flat[::2], flat[1::2]))
    values = [fields.get(as_bytes(each)) for each in command[2:]]
    if None in values:
        return None
    return values[0] if name == "hget" else values


def ask_until_known(person, call):
    """Runs a Lua script with a lease token until it has an answer, and returns the answer.

    If the script took the lease for this token, fetches the person; else waits for the fetch of the
    lease's holder. `call` returns the script's name and arguments for a token.

    Raises:
        DurableDownError, NotComparedError: Only durable has the answer, and it cannot be asked.
    """
    token = binascii.hexlify(os.urandom(8)).decode()
    ends = time.time() + PATIENCE_S
    answer = run_local(*call(token))
    while text_of(answer[0]) == "ask":
        if time.time() > ends:
            raise DurableDownError("another fetch of this person from durable takes too long")
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
COLLECTION_KEY = compile_collection_key(NAMES)
PROFILE_KEY = re.compile("^" + USER_DETAILS.format(id="([1-9][0-9]*)") + "$")


def id_prefixes():
    """Yields prefixes of which each id has exactly one: '1:' … '9:' and '10' … '99'.

    RedisGears answers the misses of one registration one after the other, but those of different
    registrations at the same time. GitHub's numbers never begin with 0.
    """
    for first in "123456789":
        yield first + ":"
        for second in "0123456789":
            yield first + second


# Without hooked commands, the first read of a missing collection only starts the fetch and finds
# nothing; later reads find the members.
HOOKED = {"commands": SET_COMMANDS} if CONFIG.get("hook_collections", True) else {}

for prefix in id_prefixes():
    GearsBuilder("KeysReader", desc="sponsorsync collections").foreach(answer_collection).register(
        prefix=PREFERENCES.partition("{")[0] + prefix + "*",
        eventTypes=["keymiss"],
        mode="async_local",
        readValue=False,
        convertToStr=False,
        collect=False,
        **HOOKED,
    )

if CONFIG.get("hook_profiles"):
    for prefix in "123456789":
        GearsBuilder("KeysReader", desc="sponsorsync profiles").foreach(answer_profile).register(
            prefix=USER_DETAILS.partition("{")[0] + prefix + "*",
            eventTypes=["keymiss"],
            commands=HASH_COMMANDS,
            mode="async_local",
            readValue=False,
            convertToStr=False,
            collect=False,
        )
