"""Behaviour that RedisGears 1.2.9 and our host share: answers to readers of missing keys.

A *key miss* is a read of a missing key; commands named in a registration are *hooked*: they wait
for its callback, which may replace their reply.
"""

import asyncio

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from tests.support.gears_engine import Gears
from tests.support.waiting import until, until_equal

FETCH = """
def fetch(r):
    execute('INCR', 'fetches')
    {body}
GB('KeysReader').foreach(fetch).register(
    'user:*', eventTypes=['keymiss'], {options}mode='async_local'
)
"""
FILL = "execute('SADD', r['key'], 'a', 'b')"
ALL_READS = ["smembers", "sismember", "smismember", "scard", "hgetall", "hget", "hmget", "hexists"]


async def fetch_by(gears: Gears, body: str, commands: list[str] | None = None) -> None:
    """Registers a callback for key misses; its body uses the record `r`, indented by four."""
    options = f"commands={commands!r}, " if commands else ""
    await gears.upload(FETCH.format(body=body, options=options))


async def is_filled(gears: Gears) -> bool:
    """Returns whether the key was fetched."""
    return await gears.client.exists("user:1") == 1


async def last_error(gears: Gears) -> bytes:
    """Returns the last error of the only registration."""
    (registration,) = await gears.registrations()
    return registration["RegistrationData"]["lastError"] or b""


async def has_no_reader(gears: Gears) -> bool:
    """Returns whether a callback failed because no client waited for its reply."""
    return b"Can not get command ctx" in await last_error(gears)


async def test_the_first_reader_gets_the_fetched_set(gears: Gears) -> None:
    """This is why the scripts exist: a plain Redis would answer an empty set."""
    body = f"{FILL}; override_reply([m.encode() for m in sorted(execute('SMEMBERS', r['key']))])"
    await fetch_by(gears, body, ["smembers"])
    assert await gears.run("SMEMBERS", "user:1") == [b"a", b"b"]
    assert set(await gears.run("SMEMBERS", "user:1")) == {b"a", b"b"}
    assert await gears.client.get("fetches") == b"1"


async def test_without_override_reply_the_first_reader_gets_the_old_answer(gears: Gears) -> None:
    """The client waits for the callback, but gets the server's reply from before the fetch."""
    await fetch_by(gears, FILL, ["smembers"])
    assert await gears.run("SMEMBERS", "user:1") == []
    assert await is_filled(gears)
    assert set(await gears.run("SMEMBERS", "user:1")) == {b"a", b"b"}


async def test_without_commands_the_reader_does_not_wait(gears: Gears) -> None:
    """`override_reply` raises because no client waits; the set has been filled by then."""
    await fetch_by(gears, f"{FILL}; override_reply(['x'])")
    assert set(await gears.run("SMEMBERS", "user:1")) == set()
    await until(lambda: is_filled(gears))

    await until(lambda: has_no_reader(gears))


@pytest.mark.parametrize("commands", ["['smember']", "'smembers'"])
async def test_an_unknown_command_cannot_be_hooked(gears: Gears, commands: str) -> None:
    """RedisGears takes a str as the list of its letters, which are no commands either."""
    with pytest.raises(ResponseError, match="bad reply on COMMAND command"):
        await gears.upload(f"GB().register('user:*', commands={commands})")


async def test_a_callback_that_raises_answers_the_commands_own_reply(gears: Gears) -> None:
    """The server's empty reply is wrong, so our scripts do not raise but reply an error."""
    await fetch_by(gears, "raise OSError('durable is down')", ["smembers"])
    assert await gears.run("SMEMBERS", "user:1") == []
    assert b"OSError: durable is down" in await last_error(gears)


async def test_each_miss_starts_a_fetch(gears: Gears) -> None:
    """RedisGears does not remember that a key is missing."""
    await fetch_by(gears, "override_reply([])", ["smembers"])
    for _ in range(3):
        assert await gears.run("SMEMBERS", "user:1") == []
    assert await gears.client.get("fetches") == b"3"


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("['a', b'b', 3, ['c']]", [b"a", b"b", 3, [b"c"]]),
        ("[]", []),
        ("7", 7),
        ("b'-text'", b"-text"),
        ("[b'-text', b'+text']", [b"-text", b"+text"]),
        ("'+fine'", b"fine"),
        ("'-'", b"-"),
        ("{'a'}", b"PY RECORD"),
        ("('a',)", b"PY RECORD"),
        ("None", b"PY RECORD"),
        ("[None]", [b"PY RECORD"]),
    ],
)
async def test_override_reply_converts_values(gears: Gears, reply: str, answer: object) -> None:
    """Bytes pass unchanged; a str that begins with - or + becomes an error or a status."""
    await fetch_by(gears, f"override_reply({reply})", ["smembers"])
    assert await gears.run("SMEMBERS", "user:1") == answer


@pytest.mark.parametrize(
    ("text", "kind"),
    [("-ERR durable is down", ResponseError), ("-NOPERM no", NoPermissionError)],
)
async def test_an_error_can_be_answered(gears: Gears, text: str, kind: type[Exception]) -> None:
    """While durable is down, readers get an error and not an empty set."""
    await fetch_by(gears, f"override_reply({text!r})", ["smembers"])
    with pytest.raises(kind):
        await gears.run("SMEMBERS", "user:1")


async def test_a_str_in_a_list_may_be_an_error(gears: Gears) -> None:
    """An item may begin with a dash, so scripts reply members as bytes."""
    await fetch_by(gears, "override_reply(['-ERR x', 'a'])", ["smembers"])
    reply = await gears.run("SMEMBERS", "user:1")
    assert isinstance(reply[0], ResponseError)
    assert reply[1] == b"a"


async def test_a_reply_can_be_overridden_once(gears: Gears) -> None:
    """A second call raises, and the first reply stays."""
    await fetch_by(gears, "override_reply([b'a']); override_reply([b'b'])", ["smembers"])
    assert await gears.run("SMEMBERS", "user:1") == [b"a"]
    assert b"Can only override reply once" in await last_error(gears)


async def test_only_named_commands_on_keys_of_the_prefix_are_answered(gears: Gears) -> None:
    """Readers that use other commands or keys do not wait for a fetch."""
    await fetch_by(gears, "override_reply([b'a'])", ["smembers"])
    assert await gears.client.scard("user:1") == 0
    assert set(await gears.run("SMEMBERS", "other:1")) == set()
    assert await gears.client.exists("fetches") == 0


async def test_a_callback_can_read_the_command(gears: Gears) -> None:
    """To answer SMISMEMBER, a callback needs the members that the client asked for."""
    await fetch_by(gears, "override_reply([w.encode() for w in get_command()])", ["smismember"])
    reply = await gears.run("SMISMEMBER", "user:1", "a", "b")
    assert reply == [b"SMISMEMBER", b"user:1", b"a", b"b"]


async def test_a_read_in_a_transaction_is_empty_and_fetches(gears: Gears) -> None:
    """A transaction cannot wait for a fetch, but starts one."""
    await fetch_by(gears, f"{FILL}; get_command()", ["smembers"])
    pipeline = gears.client.pipeline(transaction=True)
    pipeline.execute_command("SMEMBERS", "user:1")
    assert [list(reply) for reply in await pipeline.execute()] == [[]]
    await until(lambda: is_filled(gears))

    await until(lambda: has_no_reader(gears))


async def test_a_read_in_lua_is_empty_and_fetches(gears: Gears) -> None:
    """A Lua script cannot wait for a fetch, but starts one for later reads."""
    await fetch_by(gears, FILL, ["smembers"])
    assert await gears.client.eval("return redis.call('SMEMBERS', KEYS[1])", 1, "user:1") == []
    await until(lambda: is_filled(gears))


async def test_a_scripts_own_read_fetches_too(gears: Gears) -> None:
    """A callback that reads another missing key of the prefix starts a second fetch."""
    body = "execute('SMEMBERS', 'user:2') if r['key'] == 'user:1' else execute('SET', 'two', 1)"
    await fetch_by(gears, body, ["smembers"])
    await gears.run("SMEMBERS", "user:1")
    await until_equal(lambda: gears.client.exists("two"), 1)


async def test_misses_of_one_key_are_handled_one_by_one(gears: Gears) -> None:
    """Of simultaneous misses only the first callback has to fetch; the others find the key."""
    body = "execute('EXISTS', r['key']) or execute('INCR', 'fetched') and " + FILL
    await fetch_by(gears, body, ["smembers"])
    async with gears.connect() as first, gears.connect() as second, gears.connect() as third:
        await asyncio.gather(*(each.smembers("user:1") for each in (first, second, third)))
    assert await gears.client.get("fetched") == b"1"


REPLIES = [
    ("SMEMBERS user:1", "[b'a', b'b']", [b"a", b"b"]),
    ("SISMEMBER user:1 a", "1", 1),
    ("SISMEMBER user:1 c", "0", 0),
    ("SMISMEMBER user:1 a c b", "[1, 0, 1]", [1, 0, 1]),
    ("SCARD user:1", "3", 3),
    ("HGETALL user:1", "[b'f', b'v']", [b"f", b"v"]),
    ("HGET user:1 f", "b'v'", b"v"),
    ("HMGET user:1 f g", "[b'v', b'w']", [b"v", b"w"]),
    ("HEXISTS user:1 f", "1", 1),
]


@pytest.mark.parametrize(("command", "reply", "answer"), REPLIES)
async def test_first_replies_of_each_command(
    gears: Gears, command: str, reply: str, answer: object
) -> None:
    """With RESP2, a callback can give each command a reply of the command's own type."""
    await fetch_by(gears, f"override_reply({reply})", ALL_READS)
    async with gears.connect(protocol=2) as reader:
        reader.response_callbacks.clear()
        assert await reader.execute_command(*command.split()) == answer  # type: ignore[no-untyped-call]  # redis-py's


async def ask_in_resp3(gears: Gears, command: str) -> bytes:
    """Returns the first line of a reply on a connection after HELLO 3."""
    port = int(gears.url.rpartition(":")[2].partition("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"HELLO 3\r\nECHO over\r\n")
    while await reader.readline() != b"over\r\n":
        pass
    writer.write(f"{command}\r\n".encode())
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line


@pytest.mark.parametrize(
    ("command", "hooked", "plain"),
    [
        ("SMEMBERS user:set", b"*1\r\n", b"~1\r\n"),
        ("HGETALL user:hash", b"*2\r\n", b"%1\r\n"),
        ("HGET user:hash g", b"$-1\r\n", b"_\r\n"),
    ],
)
async def test_a_hooked_command_answers_in_resp2(
    gears: Gears, command: str, hooked: bytes, plain: bytes
) -> None:
    """A RESP3 client gets a list for a set, and RESP2's nil, also if the key exists."""
    await gears.client.sadd("user:set", "a")
    await gears.client.hset("user:hash", "f", "v")
    assert await ask_in_resp3(gears, command) == plain
    await fetch_by(gears, "pass", ALL_READS)
    assert await ask_in_resp3(gears, command) == hooked


@pytest.mark.parametrize(
    ("command", "misses"),
    [
        *((f"{name} user:1", True) for name in ("GET", "MGET", "HGETALL", "EXISTS", "TTL")),
        *((f"{name} user:1", True) for name in ("TYPE", "SCARD", "SMEMBERS", "SINTER", "DUMP")),
        *((f"{name} user:1 a", True) for name in ("HGET", "SISMEMBER", "SMISMEMBER")),
        *(("SSCAN user:1 0", True), ("TOUCH user:1", True)),
        *(("SREM user:1 a", False), ("DEL user:1", False)),
        *(("OBJECT ENCODING user:1", False), ("SCAN 0", False)),
    ],
)
async def test_commands_that_raise_a_key_miss(gears: Gears, command: str, misses: bool) -> None:
    """In a registration without `commands`, even EXISTS triggers the callback."""
    await gears.upload(
        "GB().foreach(lambda r: execute('INCR', 'misses'))"
        ".register('user:*', mode='sync', eventTypes=['keymiss'], readValue=False)"
    )
    await gears.run(*command.split())
    assert await gears.client.get("misses") == (b"1" if misses else None)


async def test_a_callback_has_all_rights(gears: Gears) -> None:
    """`execute` checks no permissions, so a user who may upload scripts has all of them."""
    await gears.run("ACL", "SETUSER", "reader", "on", ">secret", "~user:*", "+@all", "-@admin")
    try:
        await fetch_by(
            gears, "execute('CONFIG', 'GET', 'port'); override_reply([b'a'])", ["smembers"]
        )
        async with gears.connect(username="reader", password="secret") as reader:
            assert set(await reader.smembers("user:1")) == {b"a"}
    finally:
        await gears.run("ACL", "DELUSER", "reader")


async def test_readers_of_a_hooked_key_need_a_right_of_the_engines(gears: Gears) -> None:
    """A user with +smembers, but without +rg.innerhook, cannot read hooked keys."""
    if not gears.is_real:
        pytest.skip("Valkey knows no rg.innerhook, so the host cannot ask for that right")
    await gears.run("ACL", "SETUSER", "reader", "on", ">secret", "~user:*", "+smembers", "+hello")
    try:
        await fetch_by(gears, "override_reply([b'a'])", ["smembers"])
        async with gears.connect(username="reader", password="secret", protocol=2) as reader:
            with pytest.raises(NoPermissionError):
                await reader.smembers("user:1")
    finally:
        await gears.run("ACL", "DELUSER", "reader")


async def test_an_upload_requires_the_password(gears: Gears) -> None:
    """The server's password protects the commands of RedisGears too."""
    await gears.client.config_set("requirepass", "secret")
    try:
        async with gears.connect(protocol=2) as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.execute_command("RG.DUMPREGISTRATIONS")  # type: ignore[no-untyped-call]  # redis-py's
    finally:
        async with gears.connect(password="secret") as client:
            await client.config_set("requirepass", "")
