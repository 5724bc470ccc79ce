"""Every error that SponsorSync raises on purpose, in one tree.

    SponsorSyncError
    ├── SettingsError            a setting is missing or malformed; the start stops
    ├── InvalidInputError        what a caller sent cannot be used
    │   ├── TooLargeError        … because it is over a limit of size
    │   └── MalformedEventError  … because an event of GitHub's is not JSON
    ├── EventSignatureError      an event is not signed with our secret
    ├── NoWebhookError           there is no secret to check an event with
    ├── NoMaintainerTokenError   a call needs the maintainer's token, and none is configured
    │   └── RefreshNeedsLoginError   … to look at who is signed in: signing in again does that
    ├── RefreshLimitedError      GitHub was asked about somebody a moment ago
    ├── NotSignedInError         there is no session
    │   └── BearerRefusedError   … and the token is not, or no longer, one of ours
    ├── TokenReadsOnlyError      a token, where a session is needed
    ├── NotEntitledError         signed in, and not let through to what is for sponsors
    │   ├── NotASponsorError         … there is no entitlement, or it ended
    │   ├── TierTooLowError          … the tier is lower than what is asked for
    │   ├── TierUnknownError         … nobody told the tier
    │   └── EntitlementUnknownError        … nobody could tell; that is not 'no'
    ├── NotFoundError            what a call is about does not exist
    ├── AdminTokenMissingError   a call for administrators without their token
    ├── AdminForbiddenError      … with another one, or there is none
    ├── NoTokensError            a call is about tokens, and none are configured
    ├── NoLinkSourceError        the service whose account is to be linked is not configured
    ├── NoDurableError           a call needs a durable Redis, and none is configured
    ├── JobRunningError          a job of this kind is running already
    ├── CrossSiteError           a page of another site asked
    ├── LoginError               a login came to no end
    │   ├── LoginDeniedError     … the person said no
    │   ├── LoginExpiredError    … the state or the code is not, or no longer, ours
    │   └── LoginRejectedError   … GitHub refuses this installation (credentials, redirect URI)
    ├── GitHubError              GitHub gave no usable answer
    │   ├── GitHubUnreachableError
    │   ├── GitHubLimitedError
    │   └── GitHubRefusedError   it answered, and said no (FORBIDDEN, scopes)
    │       └── GitHubTokenError     … to the token it was asked with
    ├── AccountLinkError         an account at another service was not linked
    │   ├── LinkUnreachableError the service gave no usable answer
    │   ├── LinkLimitedError     its rate limit is reached
    │   ├── LinkRefusedError     it refused (bad token, our credentials)
    │   ├── LinkDeniedError      the person did not consent
    │   └── LinkExpiredError     state or code are unknown, used or too old
    ├── StoreError
    │   ├── StoreUnavailableError    a Redis is down, loading, read-only, out of memory …
    │   └── StoreConflictError       a key holds what is not ours
    └── GearsError               RedisGears did not do what was asked
        ├── GearsUnsupportedError    the server has none on which our scripts run
        └── GearsScriptError         a script failed; the message names its line

A message is a whole sentence for the person who reads it, without secrets. `web/errors.py` alone
decides which HTTP status each one becomes. A class without `code` and `title` has its parent's.
"""

from __future__ import annotations

from typing import ClassVar


class SponsorSyncError(Exception):
    """The root of the tree; its message is fit to be shown.

    Attributes:
        code: For programs: it does not change.
        title: For people: the kind of the error in a few words.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong"

    def __init_subclass__(cls, *, code: str | None = None, title: str | None = None) -> None:
        super().__init_subclass__()
        if code is not None:
            cls.code = code
        if title is not None:
            cls.title = title


class SettingsError(SponsorSyncError):
    """A setting is missing or malformed. The message is one line that names it."""


class InvalidInputError(SponsorSyncError, code="invalid_input", title="That cannot be used"):
    """What a caller sent cannot be used; the message says what would be right."""


class TooLargeError(InvalidInputError, code="too_large", title="That is too much at once"):
    """What a caller sent is over a limit of size."""


class MalformedEventError(InvalidInputError, code="malformed_event", title="That is no event"):
    """An event is signed by GitHub and is no JSON object, or has no number."""


class EventSignatureError(
    SponsorSyncError, code="bad_signature", title="That was not signed by GitHub"
):
    """An event carries no signature, or one that was not made with our secret."""

    def __init__(self) -> None:
        super().__init__(
            "The signature in X-Hub-Signature-256 was not made with SPONSORSYNC_WEBHOOK_SECRET, so "
            "the event was not read."
        )


class NoWebhookError(SponsorSyncError, code="no_webhook", title="There is no webhook here"):
    """Events cannot be told from forged ones without a secret."""

    def __init__(self) -> None:
        super().__init__(
            "There is no webhook here: SPONSORSYNC_WEBHOOK_SECRET is not set. It should be the "
            "secret that you enter with the webhook in the settings of your Sponsors profile."
        )


class NoMaintainerTokenError(
    SponsorSyncError, code="no_maintainer_token", title="There is no maintainer's token"
):
    """Only the maintainer sees all sponsorships."""

    def __init__(self) -> None:
        super().__init__(
            "Only the maintainer sees all sponsorships: set SPONSORSYNC_MAINTAINER_TOKEN to a "
            "token of theirs with the scope read:user."
        )


class RefreshNeedsLoginError(
    NoMaintainerTokenError, code="sign_in_again", title="Sign in again for that"
):
    """Whoever signs in is asked about with their own token, which is not kept."""

    def __init__(self, *, login_url: str = "/login") -> None:
        super().__init__()
        self.args = ("GitHub can only be asked about you while you sign in: do that again.",)
        self.login_url = login_url


class RefreshLimitedError(SponsorSyncError, code="refresh_limited", title="Not so often, please"):
    """GitHub was asked a moment ago; `retry_after_s` is when it may be asked again, in seconds."""

    def __init__(self, *, retry_after_s: int) -> None:
        super().__init__(f"GitHub was asked a moment ago. Try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class NotSignedInError(SponsorSyncError, code="not_signed_in", title="You are not signed in"):
    """The call needs a session and has none that is known."""

    def __init__(self, *, login_url: str = "/login") -> None:
        super().__init__("You are not signed in, or your session has ended. Sign in and try again.")
        self.login_url = login_url


class BearerRefusedError(
    NotSignedInError, code="bearer_refused", title="That token does not count"
):
    """The call has a bearer token that does not count here, and no session."""

    def __init__(self, *, login_url: str = "/login") -> None:
        super().__init__(login_url=login_url)
        self.args = (
            "That token is not, or no longer, valid here. Get another one with POST /token.",
        )


class TokenReadsOnlyError(SponsorSyncError, code="token_reads_only", title="A token may only read"):
    """The call needs a session, and has a token."""

    def __init__(self) -> None:
        super().__init__("With a token you may only read. This needs the session of a sign-in.")


class NotEntitledError(SponsorSyncError):
    """Who is signed in is not let through; `sponsor_url` is where that can be changed."""

    def __init__(self, message: str, *, sponsor_url: str) -> None:
        super().__init__(message)
        self.sponsor_url = sponsor_url


class NotASponsorError(NotEntitledError, code="not_a_sponsor", title="This is for sponsors"):
    """They are not entitled, or no longer."""


class TierTooLowError(NotEntitledError, code="tier_too_low", title="This is for a higher tier"):
    """They are entitled, by a lower tier than the one that is asked for."""


class TierUnknownError(NotEntitledError, code="tier_unknown", title="Your tier is not known"):
    """They are entitled, and the tier is not known."""


class EntitlementUnknownError(
    NotEntitledError, code="entitlement_unknown", title="It is not known whether you are a sponsor"
):
    """Whether they are entitled is not known."""


class NotFoundError(SponsorSyncError, code="not_found", title="That is not there"):
    """What a call is about does not exist; the message names it."""


class AdminTokenMissingError(
    SponsorSyncError, code="admin_token_missing", title="This is for administrators"
):
    """A call for administrators carries no token."""

    def __init__(self) -> None:
        super().__init__(
            "This is for administrators: send SPONSORSYNC_ADMIN_TOKEN as `Authorization: Bearer …`."
        )


class AdminForbiddenError(
    SponsorSyncError, code="not_an_administrator", title="This is for administrators"
):
    """A call for administrators carries another token, or none is configured."""


class NoTokensError(SponsorSyncError, code="no_tokens", title="There are no tokens"):
    """There are no tokens here."""

    def __init__(self) -> None:
        super().__init__("There are no tokens here: SPONSORSYNC_TOKEN_AUDIENCE is not set.")


class NoLinkSourceError(
    SponsorSyncError, code="no_link_source", title="No account can be linked there"
):
    """The service whose account is to be linked is not configured."""

    def __init__(self, name: str, client_id_variable: str) -> None:
        super().__init__(f"There is no {name} here: {client_id_variable} is not set.")


class NoDurableError(SponsorSyncError, code="no_durable", title="There is no durable side"):
    """What was asked for needs a durable Redis."""

    def __init__(self) -> None:
        super().__init__(
            "No durable Redis is configured, so there is nothing to copy to or to compare with. "
            "Set SPONSORSYNC_DURABLE_URL (or REDISENT_HOST)."
        )


class JobRunningError(
    SponsorSyncError, code="job_running", title="One of these is running already"
):
    """A job of this kind is running already; the message says how far it is."""


class CrossSiteError(SponsorSyncError, code="cross_site", title="Another site asked for this"):
    """A page of another site made the browser ask."""


class LoginError(SponsorSyncError, code="login_failed", title="The sign-in did not work"):
    """A login came to no end."""


class LoginDeniedError(LoginError, code="login_denied", title="You did not give your consent"):
    """The person did not give their consent at GitHub."""


class LoginExpiredError(
    LoginError, code="login_expired", title="This sign-in is not, or no longer, valid"
):
    """State or code are unknown, used, of another browser, or too old."""


class LoginRejectedError(
    LoginError, code="login_rejected", title="GitHub does not accept this site"
):
    """GitHub refuses this installation: an operator has to mend its settings."""


class GitHubError(SponsorSyncError, code="github_unavailable", title="GitHub cannot be asked"):
    """GitHub gave no answer that can be used: what it knows is unknown, never 'no'."""


class GitHubUnreachableError(GitHubError):
    """GitHub could not be reached, timed out, or failed itself (5xx)."""


class GitHubLimitedError(GitHubError, code="github_limited", title="GitHub asks for patience"):
    """GitHub's rate limit; `retry_after_s` is when it may be asked again, in seconds."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class GitHubRefusedError(GitHubError):
    """GitHub answered and refused: FORBIDDEN, missing scopes, a bad token, or partial data."""


class GitHubTokenError(GitHubRefusedError):
    """GitHub does not take the token that it was asked with."""


class AccountLinkError(
    SponsorSyncError, code="link_unavailable", title="The other service cannot be asked"
):
    """An account was not linked: support by it is unknown, never 'no'. The message names it."""


class LinkUnreachableError(AccountLinkError):
    """The service could not be reached, timed out, failed (5xx), or sent an unreadable answer."""


class LinkLimitedError(
    AccountLinkError, code="link_limited", title="The other service asks for patience"
):
    """The service's rate limit is reached; `retry_after_s` is the wait in seconds."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class LinkRefusedError(AccountLinkError):
    """The service refused: a bad token, or it does not accept this installation."""


class LinkDeniedError(AccountLinkError, code="link_denied", title="You did not give your consent"):
    """The person did not consent at the service."""


class LinkExpiredError(
    AccountLinkError, code="link_expired", title="This is not, or no longer, valid"
):
    """State or code are unknown, used, of another browser, or too old."""


class StoreError(SponsorSyncError):
    """A Redis did not do what was asked."""


class StoreUnavailableError(StoreError, code="store_unavailable", title="The database is away"):
    """A Redis cannot serve at the moment; nothing was half done. `retry_after_s` in seconds."""

    def __init__(self, message: str, *, retry_after_s: int = 2) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DurableUnavailableError(StoreUnavailableError):
    """What was asked for is unknown here, and the durable side, which knows, cannot be asked."""


class StoreConflictError(StoreError, code="store_conflict", title="The data are of another kind"):
    """A key holds something that is not ours, so it was left alone."""


class GearsError(SponsorSyncError, code="gears_failed", title="RedisGears did not do it"):
    """RedisGears did not do what was asked of it."""


class GearsUnsupportedError(
    GearsError, code="no_gears", title="There is no RedisGears to run this"
):
    """The server has no RedisGears, or one on which our scripts do not run."""


class GearsScriptError(GearsError):
    """A script failed where it runs: `fault` is the exception's text, `line` counts from 1."""

    def __init__(self, fault: str, *, line: int | None) -> None:
        super().__init__(fault if line is None else f"line {line}: {fault}")
        self.fault = fault
        self.line = line
