"""The meaning of redis-py's errors: the server cannot serve, or a key has the wrong type."""

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError


class IncarnationError(RedisConnectionError):
    """The server has been restarted, and its data have not been compared with the other's yet."""


class DemotedError(RedisConnectionError):
    """The server is a replica: it refuses writes, and what it returns may be old."""


_OTHER_NAME = "has a TLS certificate for another name than that in its address"
_READ_ONLY = "is read-only (a replica, or in the middle of a failover)"
# Subclasses come before their base classes.
_REASONS: tuple[tuple[type[RedisError], str], ...] = (
    (IncarnationError, "has just been restarted and is being compared with the other one"),
    (BusyLoadingError, "is still loading its data"),
    (AuthenticationError, "refuses our user or password"),
    (NoPermissionError, "does not permit its user what SponsorSync needs"),
    (ReadOnlyError, _READ_ONLY),
    (DemotedError, _READ_ONLY),
    (MasterDownError, "has lost its primary"),
    (ClusterDownError, "is a cluster that is down"),
    (OutOfMemoryError, "is out of memory"),
    (RedisTimeoutError, "did not answer in time"),
    (RedisConnectionError, "cannot be reached"),
)
# What the operating system or TLS says of a connection, by a part of its text.
_CONNECTION_WORDS = {
    "Hostname mismatch": _OTHER_NAME,
    "IP address mismatch": _OTHER_NAME,
    "certificate has expired": "has a TLS certificate that has expired",
    "CERTIFICATE_VERIFY_FAILED": "has a TLS certificate of an authority that is not trusted",
    "No such file": "cannot be reached: a file that its address names is missing",
    "Name or service not known": "cannot be reached: its host name is unknown",
    "Error 111 ": "cannot be reached: nothing listens at its address",
}
# States of the server that have no class in redis-py, by the beginning of the error.
_UNAVAILABLE_PREFIXES = {
    "MISCONF": "cannot save its data to disk and refuses writes",
    "BUSY ": "is busy with a script",
    "NOREPLICAS": "has too few replicas to take writes",
    "NOAUTH": "wants a user or a password",
    "DB index is out of range": "has no database of the number in its URL",
    "WRONGPASS": "refuses our user or password",
    # A command inside a script was refused: Redis 6.
    "The user executing the script": "does not permit its user what SponsorSync needs",
}
# Within a script an error comes wrapped, without its class. Redis 6.2: `ERR Error running script
# (call to f_…): @user_script:1: -MISCONF …`; Valkey 9: `user_script:93: ERR ACL failure in script`.
_UNAVAILABLE_WORDS = {
    "OOM ": "is out of memory",
    "READONLY ": _READ_ONLY,
    "MISCONF ": "cannot save its data to disk and refuses writes",
    "ACL failure in script": "does not permit its user what SponsorSync needs",
}


def find_outage(error: RedisError) -> str | None:
    """Returns why the server cannot serve, as the end of a sentence; None if the error is another.

    None, too, for a text that is not known: see `is_known`.
    """
    text = str(error)
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            if kind is RedisConnectionError:
                return next((r for word, r in _CONNECTION_WORDS.items() if word in text), reason)
            return reason
    if not isinstance(error, ResponseError):
        return "gave no usable answer"
    for prefix, reason in _UNAVAILABLE_PREFIXES.items():
        if text.startswith(prefix):
            return reason
    return next((r for word, r in _UNAVAILABLE_WORDS.items() if word in text), None)


def is_wrong_type(error: RedisError) -> bool:
    """Returns whether a key holds data of another kind than the command needs."""
    return "WRONGTYPE" in str(error)


def is_known(error: RedisError) -> bool:
    """Returns whether the error itself tells if the server is well."""
    return find_outage(error) is not None or is_wrong_type(error)


def is_demotion(error: RedisError) -> bool:
    """Returns whether the server is a replica, maybe since a failover."""
    return isinstance(error, ReadOnlyError | MasterDownError) or "READONLY " in str(error)
