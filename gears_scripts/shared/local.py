"""Access to local, the Redis that this script runs in: names, replies, and Lua scripts."""

import hashlib
import os
import re

import redis

# The bundler (gears/bundle.py) puts the service's keys, numbers and Lua scripts here:
# @service

DEFAULT_COLLECTIONS = ["mnodes"]


class NotComparedError(Exception):
    """A server was restarted, and the service has not compared it with the other server yet."""


def load_names():
    """Returns {"sponsorables": [login], "collections": [name]}.

    They come from CONFIG, which an upload fills, else from the environment of the Redis server. If
    neither names a sponsorable, a scan of all keys finds those that have an index `sponsors:`.
    """
    names = read_names()
    if not names["sponsorables"]:
        prefix = SPONSORS.format(sponsorable="")
        names["sponsorables"] = [text_of(key)[len(prefix) :] for key in scan(prefix + "*")]
    return names


def require_names():
    """Returns the names as `load_names` does, but without a scan: for scripts that stay live.

    Raises:
        ValueError: No sponsorable is named; the upload then fails with this message.
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
    """Returns the keys that match a pattern; reads them in pages, so that no client waits long."""
    keys, cursor = set(), "0"
    while True:
        cursor, page = execute("SCAN", cursor, "MATCH", pattern, "COUNT", "1000")
        keys.update(as_bytes(key) for key in page)
        cursor = text_of(cursor)
        if cursor == "0":
            return sorted(keys)


def lua_text(name):
    """Returns the text of one of the service's Lua scripts."""
    return "".join(LUA_PIECES[place] for place in LUA[name])


LUA_SHA = {name: hashlib.sha1(lua_text(name).encode()).hexdigest() for name in LUA}


def run_local(name, *arguments):
    """Runs one of the service's Lua scripts on local; returns the reply of `execute`.

    Passes bytes as a bytearray, since `execute` converts every other type to text.
    """
    arguments = [bytearray(each) if isinstance(each, bytes) else each for each in arguments]
    try:
        return execute("EVALSHA", LUA_SHA[name], "0", *arguments)
    except Exception as error:
        if "NOSCRIPT" not in str(error):
            raise
    return execute("EVAL", lua_text(name), "0", *arguments)


def as_bytes(value):
    """Returns a reply of `execute` as bytes; `execute` has decoded it if it is valid UTF-8."""
    return value.encode() if isinstance(value, str) else bytes(value)


def text_of(value):
    """Returns a reply, or a part of one, as text."""
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")


def run_id_here():
    """Returns the run_id of the Redis that this script runs in: its incarnation."""
    return run_id_in(execute("INFO", "server"))


def run_id_in(info):
    """Returns the run_id in a reply to INFO."""
    found = re.search(r"^run_id:(\w+)", text_of(info), re.MULTILINE)
    return found.group(1) if found else ""


def compared_incarnation(side):
    """Returns the run_id of 'local' or 'durable' when the service last compared the two, or None.

    None means that no service has run since local's last FLUSHALL, so there is nothing to compare.
    """
    found = execute("HGET", INCARNATIONS, side)
    return None if found is None else text_of(found)


def require_compared(side, run_id):
    """Raises NotComparedError if a server has been restarted since it was last compared."""
    compared = compared_incarnation(side)
    if compared is not None and compared != run_id:
        raise not_compared(side)


def not_compared(side):
    return NotComparedError("the {} Redis has been restarted and is being compared".format(side))


def form_for(side, what):
    """Returns the first argument of pack.lua: `what`, and '+dumps' if `side` can read dumps.

    The service tests whether each server reads the other one's dumps whenever it compares the two,
    and stores the result.
    """
    reads = execute("HGET", INCARNATIONS, "dumps:" + side)
    return what + ("+dumps" if reads is not None and text_of(reads) == "1" else "")


def is_local_compared():
    """Returns whether the service has compared local since its last start, or no service runs.

    Once compared, local stays so until this process ends, so the result is kept.
    """
    if not getattr(redis, "sponsorsync_local_compared", False):
        compared = compared_incarnation("local")
        if compared is None:
            return True
        redis.sponsorsync_local_compared = compared == run_id_here()
    return redis.sponsorsync_local_compared


def match_key(pattern, key):
    """Returns the match of a key, or None; a key in bytes is not UTF-8, and so never matches."""
    return pattern.match(key) if isinstance(key, str) else None


def compile_collection_key(names):
    """Returns the pattern of the keys of collections, with groups for person and collection."""
    collections = "|".join(re.escape(each) for each in names["collections"])
    key = PREFERENCES.format(id="([1-9][0-9]*)", collection="({})".format(collections))
    return re.compile("^" + key + "$")
