"""Profiles, entitlement facts and sessions on the local Redis."""

import json
import secrets
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import cast

from sponsorsync.domain.access_check import Caller
from sponsorsync.domain.account import Account, StoredEntitlement
from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.errors import DurableUnavailableError
from sponsorsync.domain.profile import Profile
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore
from sponsorsync.store.fetching import Fetcher, ask_until_known, durable_state
from sponsorsync.store.fields import (
    as_hash,
    dump_entitlement_facts,
    dump_profile,
    parse_entitlement_facts,
    parse_or_none,
    parse_profile,
    parse_stored_entitlement,
)
from sponsorsync.store.script_batching import ScriptBatching

_SESSION_TOKEN_BYTES = 32


class PeopleStore:
    """Loads and saves people, their entitlements and their sessions."""

    def __init__(
        self,
        local: RedisStore,
        *,
        catalog: Catalog,
        session_life: timedelta,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._local = local
        self._batching = ScriptBatching(local)
        self._catalog = catalog
        self._session_s = int(session_life.total_seconds())
        self._fetcher = fetcher

    async def load_account(self, person_id: int) -> Account:
        """Returns a person's account, in one round trip if local knows all of it.

        Raises DurableUnavailableError if only durable knows and cannot be asked.
        """
        return await self._load_account(person_id, self._fetcher)

    async def load_account_for_login(self, person_id: int) -> Account:
        """Returns the same, but without what only durable knows if it cannot be asked."""
        try:
            return await self._load_account(person_id, self._fetcher)
        except DurableUnavailableError:
            return await self._load_account(person_id, None)

    async def save_login(
        self, profile: Profile, entitlements: Sequence[StoredEntitlement], *, replaces: str | None
    ) -> str | None:
        """Saves a login in one script, opens a session and ends the session `replaces`.

        Each entitlement has the new facts and the version from which they were derived; a
        sponsorable without facts stays as it is.

        Returns:
            The new session's token, for the cookie; only a hash of it is stored. None if an
            entitlement has changed since: then nothing was saved.
        """
        token = secrets.token_urlsafe(_SESSION_TOKEN_BYTES)
        changes = [(each.facts, each.version) for each in entitlements if each.facts is not None]
        data = {
            "profile": dump_profile(profile),
            "entitlements": {
                facts.sponsorable: dump_entitlement_facts(facts) for facts, _ in changes
            },
            "versions": {facts.sponsorable: version for facts, version in changes},
            "collections": self._catalog.collections,
            **durable_state(self._fetcher),
        }
        saved = await self._local.run_script(
            "save_login",
            profile.id,
            self._session_s,
            keys.session(token),
            keys.session(replaces) if replaces else "",
            json.dumps(data),
        )
        return None if saved == b"changed" else token

    async def load_session(self, token: str) -> int | None:
        """Returns the id of the session's person; None if there is no such session."""
        reply = await self._local.run("GET", keys.session(token))
        return None if reply is None else int(cast("bytes", reply))

    async def load_caller(self, caller: str | int, sponsorable: str) -> Caller | None:
        """Returns a caller and their entitlement, in one round trip if local knows both.

        `caller` is the token of a session, or a person id; None: there is no such session. Raises
        DurableUnavailableError if only durable knows and cannot be asked.
        """
        session, known_id = (
            (keys.session(caller), "") if isinstance(caller, str) else ("", str(caller))
        )
        answer = await ask_until_known(
            None,
            self._fetcher,
            self._batching,
            lambda token: ("load_caller", (session, known_id, token, sponsorable)),
        )
        if len(answer) == 1:
            return None
        _, person, login, entitlement = answer
        person_id = int(cast("bytes", person))
        return Caller(
            person_id=person_id,
            login=cast("bytes", login).decode(errors="replace") or None,
            facts=parse_or_none(
                person_id, partial(parse_entitlement_facts, sponsorable, as_hash(entitlement))
            ),
        )

    async def end_session(self, token: str) -> None:
        """Ends a session, if it exists."""
        session = keys.session(token)
        person_id = await self.load_session(token)
        if person_id is not None:
            await self._local.run_together(
                [("DEL", session), ("ZREM", keys.sessions(person_id), session)]
            )

    async def revoke_sessions(self, person_id: int) -> int:
        """Ends all sessions of a person; returns how many there were."""
        return cast("int", await self._local.run_script("revoke_sessions", person_id))

    async def delete_account(self, person_id: int) -> None:
        """Deletes everything of a person from local, and ends their sessions, in one script.

        The deletion then travels to durable like any change. Older data do not undo it.
        """
        await self._local.run_script("delete_account", person_id, self._catalog.json)

    async def _load_account(self, person_id: int, fetcher: Fetcher | None) -> Account:
        answer = await ask_until_known(
            person_id,
            fetcher,
            self._local,
            lambda token: ("load_account", (person_id, token, *self._catalog.sponsorables)),
        )
        profile = as_hash(answer[1])
        return Account(
            profile=parse_or_none(person_id, lambda: parse_profile(profile)),
            entitlements={
                sponsorable: parse_stored_entitlement(sponsorable, person_id, version, flat)
                for sponsorable, version, flat in zip(
                    self._catalog.sponsorables, answer[2::2], answer[3::2], strict=True
                )
            },
        )
