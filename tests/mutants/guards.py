"""The guards that must not get lost, each with a way to take it out.

`make mutants` takes out one at a time in a copy of the project and expects a test to fail. The
promises 1 to 9 are those of CONTRIBUTING.md.
"""

from __future__ import annotations

from dataclasses import dataclass

_LUA = "src/sponsorsync/store/lua"
_SRC = "src/sponsorsync"


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard.

    Attributes:
        name: The kind of guard, and what it protects.
        path: The file, from the project's root.
        code: Text that stands there exactly once.
        broken: The text in its place.
        tests: Arguments of pytest: the tests that have to notice.
    """

    name: str
    path: str
    code: str
    broken: str
    tests: tuple[str, ...]

    def take_out(self, text: str) -> str:
        """Returns the file's text without the guard.

        Raises:
            ValueError: The guard's code does not stand there exactly once.
        """
        if text.count(self.code) != 1:
            raise ValueError(f"{self.path} has {text.count(self.code)} times: {self.code}")
        return text.replace(self.code, self.broken)


def _lua(name: str, file: str, code: str, broken: str, *tests: str) -> Guard:
    return Guard(name, f"{_LUA}/{file}.lua", code, broken, tests)


def _python(name: str, file: str, code: str, broken: str, *tests: str) -> Guard:
    return Guard(name, f"{_SRC}/{file}.py", code, broken, tests)


GUARDS = (
    # --- promise 1: a 2xx reaches durable
    _lua(
        "promise 1: a change marks its person dirty",
        "include/mark_dirty",
        "redis.call('SADD', K.DIRTY, id) == 1",
        "false",
        "tests/sync",
    ),
    _lua(
        "promise 1: a person who changed on the way stays dirty",
        "local/confirm",
        "version_vector_of(fields, parts) ~= version_vector",
        "false",
        "tests/sync",
    ),
    _python(
        "promise 1: the sweep sends people without an outbox entry",
        "sync/relay",
        "stale = sorted(dirty & self._last_dirty)",
        "stale: list[int] = []",
        "tests/sync",
    ),
    _python(
        "promise 1: an outage ends no relay",
        "sync/relay",
        "except StoreUnavailableError as error:\n                self.counts.outages",
        "except ZeroDivisionError as error:\n                self.counts.outages",
        "tests/sync",
    ),
    # --- promise 2: the last write wins
    _lua(
        "promise 2: durable refuses an older version",
        "durable/apply",
        "number > stored or (number == stored and lost)",
        "true",
        "tests/sync",
    ),
    _lua(
        "promise 2: a version is later than all before",
        "include/versions",
        "math.max((tonumber(last) or 0) + 1, now_us())",
        "now_us()",
        "tests/sync",
    ),
    _lua(
        "promise 2: a fill needs the lease it began with",
        "local/merge",
        "redis.call('GET', K.LEASE(id)) ~= token",
        "false",
        "tests/sync",
    ),
    # --- promise 3: removed stays removed
    _lua(
        "promise 3: a change ends the fetch that is under way",
        "include/mark_dirty",
        "redis.call('DEL', K.LEASE(id), K.NEGATIVE(id))",
        "",
        "tests/sync",
    ),
    _lua(
        "promise 3: the end of a lease is its holder's alone",
        "local/release_lease",
        "redis.call('GET', K.LEASE(ARGV[1])) == ARGV[2]",
        "true",
        "tests/sync",
    ),
    _python(
        "promise 3: an older local takes what durable has newer first",
        "sync/incarnations",
        "self.is_local_verified = is_same_local or",
        "self.is_local_verified = True or",
        "tests/sync",
    ),
    _lua(
        "promise 3: durable fell back, so people travel again",
        "local/push_again",
        "mark_dirty(id)",
        "",
        "tests/sync",
    ),
    # --- promise 4: only of the entitled
    _lua(
        "promise 4: sets of others never leave local",
        "both/pack",
        "(entitled or scope == 'all') and not visitor",
        "not visitor",
        "tests/sync",
    ),
    _lua(
        "promise 4: the end of the retention looks again",
        "durable/forget_lapsed",
        "is_entitled(id, cjson.decode(ARGV[3]))",
        "false",
        "tests/sync",
    ),
    _lua(
        "promise 4: another lapse begins another retention",
        "durable/forget_lapsed",
        "tonumber(redis.call('ZSCORE', K.LAPSED, id) or '-1') ~= tonumber(ARGV[2])",
        "false",
        "tests/sync",
    ),
    _lua(
        "promise 4: a newer copy is not pruned",
        "durable/prune",
        "tonumber(version) <= version_of(meta, collection) or not exists(set)",
        "not exists(set)",
        "tests/sync",
    ),
    # --- promise 5: what was lost comes back
    _lua(
        "promise 5: a lost key is unknown",
        "include/evaluate_presence",
        "return exists and 'there' or 'unknown'",
        "return exists and 'there' or 'empty'",
        "tests/sync",
    ),
    _lua(
        "promise 5: a read of the unknown asks durable",
        "local/read_preferences",
        "state == 'unknown' and token ~= ''",
        "false",
        "tests/sync",
    ),
    # --- promise 6: unknown is not empty
    _lua(
        "promise 6: a write to the unknown waits",
        "local/change_preferences",
        "how == 'wait!' or (state == 'unknown' and how == 'wait')",
        "false",
        "tests/sync",
    ),
    _lua(
        "promise 6: changes that wait make a part unknown",
        "include/known_state",
        "if has_pending(id, part) then",
        "if false then",
        "tests/sync",
    ),
    _lua(
        "promise 6: a fill applies the changes that waited",
        "local/merge",
        "redis.call(waiting[i + 1] == '+' and 'SADD' or 'SREM'",
        "redis.call(waiting[i + 1] == '+' and 'SREM' or 'SREM'",
        "tests/sync",
    ),
    # --- promise 7: a loss is no removal
    _lua(
        "promise 7: only the last member's removal is certain",
        "local/mark_foreign",
        "recorded == '1' and recorded_size == 1",
        "recorded == '1'",
        "tests/sync",
    ),
    # --- promise 8: deleting an account
    _lua(
        "promise 8: a deletion keeps its version",
        "local/delete_account",
        "redis.call('HSET', meta, 'x', version)",
        "",
        "tests/sync",
    ),
    _lua(
        "promise 8: a deletion ends all sessions",
        "local/delete_account",
        "redis.call('DEL', session)",
        "",
        "tests/web",
        "tests/sync",
    ),
    _lua(
        "promise 8: durable deletes up to that version",
        "include/incoming_parts",
        "version > 0 and version <= tonumber(deleted)",
        "false",
        "tests/sync",
    ),
    # --- promise 9: GitHub is silent
    _python(
        "promise 9: a silent GitHub marks unknown",
        "accounts/sign_in",
        "return mark_unknown(previous, now=now)",
        "return previous",
        "tests/accounts",
    ),
    # --- scripts
    _lua(
        "script: one event is applied once",
        "local/save_entitlement",
        "delivery ~= '' and exists(K.DELIVERY(delivery))",
        "false",
        "tests/sync",
        "tests/web",
    ),
    _lua(
        "script: facts are saved on the version they rest on",
        "local/save_entitlement",
        "version_to_name(id, meta, part, K.SPONSORSHIP(sponsorable, id)) ~= version",
        "false",
        "tests/sync",
        "tests/web",
    ),
    _lua(
        "script: a sign-in is saved on the version it rests on",
        "local/save_login",
        "version_to_name(id, meta, part, part_key(id, part)) ~= version",
        "false",
        "tests/accounts",
        "tests/sync",
    ),
    _lua(
        "script: seats are counted",
        "local/claim_seat",
        "seats and holds_until == 0 and redis.call('ZCARD', index) >= seats",
        "false",
        "tests/entitlements",
        "tests/sync",
    ),
    _lua(
        "script: one refresh a person and minute",
        "local/admit_refresh",
        "if own_ms > 0 then",
        "if false then",
        "tests/web",
    ),
    _lua(
        "script: thirty refreshes a minute together",
        "local/admit_refresh",
        "tonumber(redis.call('GET', all)) >= REFRESHES_A_MINUTE",
        "false",
        "tests/web",
    ),
    _lua(
        "script: an end by time travels to durable",
        "local/sweep_entitlements",
        "    mark_dirty(id)\n",
        "",
        "tests/sync",
    ),
    _lua(
        "script: a visitor's sets are not imported",
        "local/import_unversioned",
        "local is_theirs = visitor and kind == 'set'",
        "local is_theirs = false",
        "tests/sync",
    ),
    _lua(
        "script: dead letters wait longer each time",
        "local/add_dead_letter",
        "math.min(first_s * 2 ^ (record.tries - 1), longest_s)",
        "0",
        "tests/sync",
    ),
    _lua(
        "script: sessions can be revoked",
        "local/revoke_sessions",
        "ended = ended + redis.call('DEL', session)",
        "",
        "tests/web",
    ),
    _lua(
        "script: a newer request outlasts a comparison",
        "local/save_reconciled",
        "redis.call('HGET', K.RECONCILE_REQUESTS, sponsorable) == request",
        "true",
        "tests/reconcile",
    ),
    _lua(
        "script: a newer note of an organization stays",
        "local/settle_organization",
        "redis.call('HGET', K.ORGANIZATIONS, ARGV[i]) == ARGV[i + 1]",
        "true",
        "tests/entitlements",
        "tests/sync",
    ),
    _lua(
        "script: a collection has a greatest size",
        "local/change_preferences",
        "size + new - count(last_add + 1, last_remove, 1) > most",
        "false",
        "tests/web",
        "tests/sync",
    ),
    _lua(
        "script: a visitor's number is refused",
        "local/change_preferences",
        "if is_visitor(id) then",
        "if false then",
        "tests/web",
        "tests/sync",
    ),
    _lua(
        "script: a key of the wrong type is left alone",
        "include/wrong_type",
        "if found ~= wanted then",
        "if false then",
        "tests/sync",
    ),
    _lua(
        "script: the index follows the facts",
        "both/reindex",
        "index_entitlement(id, sponsorable)",
        "",
        "tests/sync",
    ),
    _lua(
        "script: a repair raises the version",
        "local/repair",
        "elseif repair == 'raise' and is_known then",
        "elseif false then",
        "tests/sync",
    ),
    _lua(
        "script: what is unknown was not removed",
        "local/find_removed",
        "is_visitor(id) or presence(meta, collection, set) == 'unknown'",
        "is_visitor(id)",
        "tests/sync",
    ),
    _lua(
        "script: our writes are not captured",
        "include/suppress_capture",
        "redis.call('SET', K.CAPTURE_SUPPRESSED, '1', 'PX', CAPTURE_SUPPRESSED_TTL_MS)",
        "",
        "tests/gears",
    ),
    _lua(
        "script: an ended session opens nothing",
        "local/load_caller",
        "id = exists(session) and redis.call('GET', session)",
        "id = '48210377'",
        "tests/web",
    ),
    _lua(
        "script: each change of an entitlement is in the audit trail",
        "include/audit",
        "if what then",
        "if false then",
        "tests/web/test_audit.py",
    ),
    _lua(
        "script: an end is exclusive",
        "include/evaluate_entitlement",
        "return ends > now_s(), ends > 0 and ends or nil",
        "return ends > 0, ends > 0 and ends or nil",
        "tests/sync",
    ),
    _lua(
        "script: a comparison sees each member of a set",
        "both/digest",
        "pieces[i] = #data[i] .. ':' .. data[i]",
        "pieces[i] = ''",
        "tests/sync/test_verify.py",
    ),
    _lua(
        "script: an account that local has lost is fetched",
        "local/load_account",
        "if not is_known and token ~= '' then",
        "if false then",
        "tests/sync",
    ),
    _lua(
        "script: partial facts are not all there is",
        "local/load_entitlements",
        "redis.call('HEXISTS', key, 'partial') == 1",
        "false",
        "tests/sync",
    ),
    _lua(
        "script: a profile of another type has no login",
        "local/load_logins",
        "redis.pcall('HGET', profile, 'user_login')",
        "redis.call('HGET', profile, 'user_login')",
        "tests/sync",
        "tests/web",
    ),
    # --- security
    _python(
        "security: pages of other sites change nothing",
        "web/origins",
        "return method not in _SAFE_METHODS or",
        "return False and method not in _SAFE_METHODS or",
        "tests/web",
    ),
    _python(
        "security: a GET that changes is guarded like a POST",
        "web/origins",
        '(method == "GET" and path in CHANGING_GETS)',
        "False",
        "tests/web",
    ),
    _python(
        "security: HEAD changes nothing",
        "web/middleware",
        'if is_head and scope["path"] not in CHANGING_GETS:',
        "if is_head:",
        "tests/web",
    ),
    _python(
        "security: a sealed state belongs to its cookie",
        "web/cookies",
        'if not hmac.compare_digest(content["state"].encode(), state.encode()):',
        "if False:",
        "tests/web",
    ),
    _python(
        "security: a sign-in under way expires",
        "web/cookies",
        'if now.timestamp() >= content["ends"]:',
        "if False:",
        "tests/web",
    ),
    _python(
        "security: scripts of a page read no cookie",
        "web/cookies",
        "httponly=True",
        "httponly=False",
        "tests/web",
    ),
    _python(
        "security: on https cookies travel encrypted only",
        "web/cookies",
        "secure=self._secure,\n            httponly",
        "secure=False,\n            httponly",
        "tests/web",
    ),
    _python(
        "security: a sign-in leads to no other site",
        "web/origins",
        'return default if wanted.startswith("//") else wanted',
        "return wanted",
        "tests/web",
    ),
    _python(
        "security: a link to Patreon is no sign-in",
        "web/login",
        "if attempt is None or attempt.person_id is not None:",
        "if attempt is None:",
        "tests/web",
    ),
    _python(
        "security: the answer comes from GitHub",
        "web/login",
        "if iss is not None and iss != issuer:",
        "if False:",
        "tests/web",
    ),
    _python(
        "security: only signed events are read",
        "github/webhooks",
        "return hmac.compare_digest(reported, sign(body, secret).encode())",
        "return True",
        "tests/web",
        "tests/github",
    ),
    _python(
        "security: administrators have the right token",
        "web/admin",
        "if not hmac.compare_digest(credentials.credentials.encode(), wanted):",
        "if False:",
        "tests/web",
    ),
    _python(
        "security: a token is for one audience",
        "tokens/issuer",
        'aud={"essential": True, "value": self.audience},',
        'aud={"essential": True},',
        "tests/web",
        "tests/tokens",
    ),
    _python(
        "security: a token ends with the entitlement",
        "tokens/issuer",
        'expires_at = min(expires_at, claims["until"])',
        "pass",
        "tests/web",
        "tests/tokens",
    ),
    _python(
        "security: a token only reads",
        "web/dependencies",
        "    if _read_token(request, services) is not None:\n        raise TokenReadsOnlyError\n",
        "",
        "tests/web",
    ),
    _python(
        "security: only trusted proxies tell the way back",
        "web/origins",
        "if peer is None or not _is_within(peer, trusted_proxies):",
        "if peer is None:",
        "tests/web",
    ),
    _python(
        "security: a session's token is stored as a hash",
        "store/keys",
        "hash=hashlib.sha256(token.encode()).hexdigest()",
        "hash=token",
        "tests",
    ),
    _python(
        "security: local variables stay out of the log",
        "logs",
        "show_locals=False",
        "show_locals=True",
        "tests/test_logs.py",
    ),
    _python(
        "security: secret files are the owner's alone",
        "secret_files",
        "draft.touch(mode=0o600)",
        "draft.touch(mode=0o644)",
        "tests/test_secret_files.py",
    ),
)
