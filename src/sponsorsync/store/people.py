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
        """Returns a person's account, in one round trip if local has all its parts.

        Raises DurableUnavailableError if a part must be fetched from durable, which cannot be
        asked.
        """
        return await self._load_account(person_id, self._fetcher)

    async def load_account_for_login(self, person_id: int) -> Account:
        """Returns a person's account; without the unknown parts if durable cannot be asked."""
        try:
            return await self._load_account(person_id, self._fetcher)
        except DurableUnavailableError:
            return await self._load_account(person_id, None)

    async def save_login(
        self, profile: Profile, entitlements: Sequence[StoredEntitlement], *, replaces: str | None
    ) -> str | None:
        """Saves a login in one script, opens a session and ends the session `replaces`.

        Each entitlement has the new facts and the version of the facts from which they were
        derived. An entitlement without facts is not changed.

        Returns:
            The new session's token, for the cookie; only a hash of the token is stored. None if
            nothing was saved, because an entitlement has another version by now.
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
        """Returns a caller and their entitlement, in one round trip if local has both.

        `caller` is the token of a session, or a person id. Returns None if there is no such
        session. Raises DurableUnavailableError if a part must be fetched from durable, which cannot
        be asked.
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
        """Deletes all data of a person from local, and ends their sessions, in one script.

        Like any change, the deletion is then pushed to durable. Older data cannot undo it.
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
