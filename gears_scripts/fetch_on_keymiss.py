"""Registers callbacks that answer reads of missing collections with durable's data.

The first SMEMBERS, SISMEMBER, SMISMEMBER or SCARD of a collection that was evicted, flushed or
never fetched gets the right answer, and so do all later ones. A collection that is known to be
empty is answered as empty without a fetch; one that a removal emptied stays empty. The person's
profile and entitlement are fetched along with it. While durable is down the reader gets an error at
once, and no state changes. Collections of anonymous visitors are not answered.

A command that is answered so must not be part of a MULTI: RedisGears 1.2.9 crashes the server if
two are, or if one is and another client sends such a command before its EXEC. If the application
reads collections in transactions, set "hook_collections": False in CONFIG: then the first read
misses, as on a plain Redis.

With "hook_profiles" in CONFIG it also answers HGETALL, HGET and HMGET of profiles; only for readers
that speak RESP2, since a hooked command always answers in RESP2.

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

# A reader waits this long for a durable that hangs, and so do others until it has timed out.
SOCKET_TIMEOUT_S = 1.0

# How long to wait for another fetch of the same person, most likely the service's.
PATIENCE_S = 2.0
POLL_S = 0.005


def answer_collection(record):
    """Answers the command that missed, after fetching what is unknown.

    Not `async def`: the engine crashes the server on a coroutine function here.
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
    """Raises NotComparedError if local may have come back older: its empty sets may be wrong."""
    if not is_local_compared():
        raise not_compared("local")


def answer_profile(record):
    """Answers a command on a missing profile likewise."""
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
    # A reply cannot hold nil: then the command itself answers, as for a missing key.
    if reply is not None:
        override_reply(reply)


def current_command():
    """Returns the command that missed; None within MULTI or Lua, where no reply is possible."""
    try:
        return get_command()
    except Exception:
        return None


def reply_error(command, error):
    """Replies an error; raises it again, for the log and the failure count, if it is no outage."""
    is_outage = isinstance(error, (DurableDownError, NotComparedError))
    if command is not None:
        reason = str(error) if is_outage else "the data in durable storage could not be fetched"
        override_reply("-ERR sponsorsync: " + reason.replace("\r", " ").replace("\n", " "))
    if not is_outage:
        raise error


def shape_of_set(command, members):
    """Returns the reply of a command on a set of these members.

    Members are bytes: text that begins with '-' or '+' would become an error or a status.
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
    """Returns the reply of a command on a hash of these fields and values; None if it holds nil."""
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

    Fetches the person if the token took the lease; else waits for the holder's fetch.

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
    """Yields prefixes so that each id has exactly one: '1:' … '9:' and '10' … '99'.

    Misses of one registration are answered one after the other, those of several side by side.
    GitHub's numbers never begin with 0.
    """
    for first in "123456789":
        yield first + ":"
        for second in "0123456789":
            yield first + second


# Without commands the first reader misses, and only the next one gets the members.
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
