"""Tells whether the two addresses lead to one database, by whatever names.

Retention removes from durable what former sponsors had. In a database that is local as well, that
would be the application's own data.
"""

import secrets

from sponsorsync.domain.errors import SettingsError
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore


async def refuse_shared_database(local: RedisStore, durable: RedisStore) -> None:
    """Raises SettingsError if a key that is written to local is found on durable.

    Proxies and managed servers hide their run_id, so equal ids would not tell. Raises
    StoreUnavailableError if one of the servers does not answer.
    """
    probe = keys.shared_database_probe(secrets.token_hex(16))
    await local.run("SET", probe, "1", "PX", keys.SHARED_DATABASE_PROBE_TTL_MS)
    is_shared = await durable.run("EXISTS", probe) == 1
    await local.run("DEL", probe)
    if is_shared:
        raise SettingsError(
            "SPONSORSYNC_REDIS_URL and the address of the durable Redis lead to the same database. "
            "Durable should be another server: retention would remove the application's own data."
        )


async def refuse_shared_server(
    local: RedisStore, durable: RedisStore, *, allows_two_databases: bool
) -> None:
    """Does the same, and also raises SettingsError for two databases of one server.

    Two databases are found only where the server shows its run_id.
    """
    await refuse_shared_database(local, durable)
    if allows_two_databases:
        return
    run_id = await local.load_run_id()
    if run_id and run_id == await durable.load_run_id():
        raise SettingsError(
            "SPONSORSYNC_REDIS_URL and the address of the durable Redis are two databases of one "
            "server, which are lost together. Use another server, or set "
            "SPONSORSYNC_ALLOW_SHARED_SERVER=true."
        )
