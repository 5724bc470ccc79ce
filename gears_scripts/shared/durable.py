"""The client of the durable Redis, by REDISENT_* in the environment of this server."""

import os
import time

import redis

# @include shared/local.py

CONNECT_TIMEOUT_S = 1.0
SOCKET_TIMEOUT_S = 2.0
DOWN_S = 2.0
NOT_COMPARED = "not compared"
VARIABLES = ["REDISENT_" + name for name in ("HOST", "PORT", "USER", "PWD", "TLS", "CA")]


class DurableDownError(Exception):
    """Durable cannot be asked at the moment, whatever the data."""


# The clients by address. It must be empty when callbacks are registered: RedisGears pickles them
# with everything they refer to, and a connection cannot be pickled. Scripts do not share a client:
# it would call functions of the script that created it, which are gone once that is replaced.
CLIENTS = {}


class DurableRefusesError(Exception):
    """Durable has a wrong-type key of one person, so only this person's data are refused."""


def durable():
    """Returns this script's client of durable; the first call creates it from the environment."""
    address = tuple(os.environ.get(name) for name in VARIABLES)
    if address not in CLIENTS:
        CLIENTS[address] = create_durable(os.environ)
    return CLIENTS[address]


def create_durable(environment):
    """Returns a client of the server that REDISENT_* name; it connects at the first command.

    Raises:
        DurableDownError: REDISENT_HOST is not set.
    """
    host = environment.get("REDISENT_HOST")
    if not host:
        raise DurableDownError(
            "REDISENT_HOST is not in the environment of the Redis server (.env.gears)"
        )
    ca = environment.get("REDISENT_CA") or None
    options = {}
    if ca or environment.get("REDISENT_TLS", "").lower() in ("1", "true", "yes", "on"):
        options = {"ssl": True, "ssl_ca_certs": ca, "ssl_cert_reqs": "required"}
        options["ssl_check_hostname"] = True
    return redis.Redis(
        redis_connect_func=greet,
        host=host,
        port=int(environment.get("REDISENT_PORT") or 6379),
        username=environment.get("REDISENT_USER") or None,
        password=environment.get("REDISENT_PWD") or None,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=SOCKET_TIMEOUT_S,
        retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
        client_name="sponsorsync-gears",
        **options,
    )


def greet(connection):
    """Refuses a new connection if the service has not compared this incarnation of durable.

    If durable came back with older data, records that it applied now would raise its count, and so
    hide from the service how old the data are. Checking new connections is enough, since a restart
    ends the open ones. The error is one of redis-py's, which treats it as a failed connection.
    """
    connection.on_connect()
    connection.send_command("INFO", "server")
    compared, run_id = compared_incarnation("durable"), run_id_in(connection.read_response())
    if compared is not None and compared != run_id:
        connection.disconnect()
        raise redis.exceptions.ConnectionError(NOT_COMPARED)


def run_durable(name, argument_lists):
    """Runs a Lua script on durable, once for each list of arguments, in one round trip.

    Returns the replies.

    Raises:
        DurableDownError: Durable cannot be asked; for DOWN_S after that, each call fails at once.
        DurableRefusesError: Durable has a wrong-type key.
        NotComparedError: Durable was restarted, and the service has not compared it yet. Its
            replies are dropped.
    """
    if time.time() < getattr(redis, "sponsorsync_down_until", 0.0):
        raise DurableDownError("durable could not be reached a moment ago")
    try:
        info, replies = _run_all(durable(), name, argument_lists)
    except redis.exceptions.RedisError as error:
        raise outage(error) from None
    try:
        require_compared("durable", str(info.get("run_id", "")))
    except NotComparedError:
        durable().connection_pool.disconnect()
        raise
    return replies


def outage(error):
    """Returns the error of ours to raise in place of redis-py's.

    Raise it `from None`: redis-py's message has durable's address, and clients of this Redis can
    read the errors of scripts.
    """
    if str(error) == NOT_COMPARED:
        return not_compared("durable")
    if isinstance(error, redis.exceptions.ResponseError) and "WRONGTYPE" in str(error):
        return DurableRefusesError(str(error))
    redis.sponsorsync_down_until = time.time() + DOWN_S
    return DurableDownError("durable cannot be asked: {}".format(type(error).__name__))


def _run_all(client, name, argument_lists):
    """Returns durable's INFO and the replies; first loads the script if durable lacks it."""
    replies = _run_once(client, name, argument_lists)
    if any(isinstance(reply, redis.exceptions.NoScriptError) for reply in replies):
        client.script_load(lua_text(name))
        replies = _run_once(client, name, argument_lists)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies[0], replies[1:]


def _run_once(client, name, argument_lists):
    pipeline = client.pipeline(transaction=False)
    pipeline.execute_command("INFO", "server")
    for arguments in argument_lists:
        pipeline.execute_command("EVALSHA", LUA_SHA[name], 0, *arguments)
    return pipeline.execute(raise_on_error=False)
