"""The Redis that this script runs in: the service's own Lua scripts, by EVALSHA."""

import hashlib
import os
import re

import redis

# @service

DEFAULT_COLLECTIONS = ["mnodes"]


class NotComparedError(Exception):
    """A server has been restarted, and the service has yet to compare it with the other one."""


def load_names():
    """Returns {"sponsorables": [login], "collections": [name]}.

    From the upload; else from the environment of the Redis server; else, of the sponsorables,
    whoever has an index of sponsors here: that looks at every key of the server.
    """
    names = read_names()
    if not names["sponsorables"]:
        prefix = SPONSORS.format(sponsorable="")
        names["sponsorables"] = [text_of(key)[len(prefix) :] for key in scan(prefix + "*")]
    return names


def require_names():
    """Returns the same for a script that stays live.

    Raises:
        ValueError: Nobody named a sponsorable; the upload fails with this sentence.
    """
    names = read_names()
    if not names["sponsorables"]:
        raise ValueError(
            "no sponsorable is named: set SPONSORSYNC_SPONSORABLES in the environment of the Redis "
            "server, or CONFIG in this file"
        )
    return names


def read_names():
    sponsorables = CONFIG.get("sponsorables") or _split(os.environ.get("SPONSORSYNC_SPONSORABLES"))
    collections = CONFIG.get("collections") or _split(os.environ.get("SPONSORSYNC_COLLECTIONS"))
    return {"sponsorables": sponsorables, "collections": collections or DEFAULT_COLLECTIONS}


def _split(value):
    return [part.strip().lower() for part in (value or "").split(",") if part.strip()]


def scan(pattern):
    """Returns the keys of a pattern, asked for in pages: nobody waits for all of them."""
    keys, cursor = set(), "0"
    while True:
        cursor, page = execute("SCAN", cursor, "MATCH", pattern, "COUNT", "1000")
        keys.update(as_bytes(key) for key in page)
        cursor = text_of(cursor)
        if cursor == "0":
            return sorted(keys)


def lua_text(name):
    """Returns the text of a script of LUA."""
    return "".join(LUA_PIECES[place] for place in LUA[name])


LUA_SHA = {name: hashlib.sha1(lua_text(name).encode()).hexdigest() for name in LUA}


def run_local(name, *arguments):
    """Runs a script of LUA; returns its reply as `execute` gives it.

    Bytes travel as a bytearray: `execute` makes a text of anything else.
    """
    arguments = [bytearray(each) if isinstance(each, bytes) else each for each in arguments]
    try:
        return execute("EVALSHA", LUA_SHA[name], "0", *arguments)
    except Exception as error:
        if "NOSCRIPT" not in str(error):
            raise
    return execute("EVAL", lua_text(name), "0", *arguments)


def as_bytes(value):
    """Returns a reply of `execute` as it is in Redis: what is UTF-8 came as text."""
    return value.encode() if isinstance(value, str) else bytes(value)


def text_of(value):
    """Returns a reply, or a reply's part, as text."""
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")


def run_id_here():
    """Returns what names this incarnation of the Redis that this script runs in."""
    return run_id_in(execute("INFO", "server"))


def run_id_in(info):
    """Returns the same, of whichever server this INFO is."""
    found = re.search(r"^run_id:(\w+)", text_of(info), re.MULTILINE)
    return found.group(1) if found else ""


def compared_incarnation(side):
    """Returns which incarnation of 'local' or 'durable' the service compared last, or None.

    None where no service has been here since the last FLUSHALL: then nothing is known that a server
    could be older than.
    """
    found = execute("HGET", INCARNATIONS, side)
    return None if found is None else text_of(found)


def require_compared(side, run_id):
    """Raises NotComparedError where a server is another incarnation than the one last compared."""
    compared = compared_incarnation(side)
    if compared is not None and compared != run_id:
        raise not_compared(side)


def not_compared(side):
    return NotComparedError("the {} Redis has been restarted and is being compared".format(side))


def form_for(side, what):
    """Returns what to ask pack.lua for: dumps, where that side is known to read the other one's.

    The service tries it whenever it compares the two, and notes it.
    """
    reads = execute("HGET", INCARNATIONS, "dumps:" + side)
    return what + ("+dumps" if reads is not None and text_of(reads) == "1" else "")


def is_local_compared():
    """Whether the service has compared this incarnation of local with durable, or there is none.

    Asked until it has: from then on it stays so for as long as this process lives.
    """
    if not getattr(redis, "sponsorsync_local_compared", False):
        compared = compared_incarnation("local")
        if compared is None:
            return True
        redis.sponsorsync_local_compared = compared == run_id_here()
    return redis.sponsorsync_local_compared


def match_key(pattern, key):
    """Returns the match of a key, or None. One that is not UTF-8 comes as bytes: it is not ours."""
    return pattern.match(key) if isinstance(key, str) else None
