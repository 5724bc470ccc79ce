"""Every error that SponsorSync raises on purpose, in one tree.

    SponsorSyncError
    ├── SettingsError
    ├── InvalidInputError
    │   └── TooLargeError, MalformedEventError
    ├── EventSignatureError, NoWebhookError
    ├── NoMaintainerTokenError
    │   └── RefreshNeedsLoginError
    ├── NotSignedInError
    │   └── BearerRefusedError
    ├── TokenReadsOnlyError, CrossSiteError
    ├── NotEntitledError
    │   └── NotASponsorError, TierTooLowError, TierUnknownError, EntitlementUnknownError
    ├── NotFoundError
    ├── AdminTokenMissingError, AdminForbiddenError
    ├── NoTokensError, NoLinkSourceError, NoDurableError
    ├── JobRunningError
    ├── LoginError
    │   └── LoginDeniedError, LoginExpiredError, LoginRejectedError
    ├── RetryLaterError
    │   └── RefreshLimitedError, and three of the classes below
    ├── GitHubError
    │   ├── GitHubUnreachableError, GitHubLimitedError
    │   └── GitHubRefusedError
    │       └── GitHubTokenError
    ├── AccountLinkError
    │   ├── LinkUnreachableError, LinkLimitedError, LinkRefusedError
    │   └── LinkDeniedError, LinkExpiredError
    ├── StoreError
    │   ├── StoreUnavailableError
    │   │   └── DurableUnavailableError
    │   └── StoreConflictError
    └── GearsError
        └── GearsUnsupportedError, GearsScriptError

A message is a whole sentence for its reader, without secrets. `web/errors.py` alone maps codes to
HTTP statuses. A class inherits the `code`, `title` and `message` that it does not set.
"""

from typing import ClassVar


class SponsorSyncError(Exception):
    """The root of the tree; its text may be shown to users.

    `code` identifies the kind of error for programs, `title` names it in a few words for people.
    `message` is the text unless the constructor gets another one.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong"
    message: ClassVar[str] = ""

    def __init_subclass__(cls, *, code: str | None = None, title: str | None = None) -> None:
        super().__init_subclass__()
        if code is not None:
            cls.code = code
        if title is not None:
            cls.title = title

    def __init__(self, message: str | None = None) -> None:
        super().__init__(self.message if message is None else message)


class SettingsError(SponsorSyncError):
    """A setting is missing or malformed; the message is one line that names it."""


class InvalidInputError(SponsorSyncError, code="invalid_input", title="The request is invalid"):
    """The caller's input is invalid; the message says what would be valid."""


class TooLargeError(InvalidInputError, code="too_large", title="The request is too large"):
    """The caller's input exceeds a size limit."""


class MalformedEventError(
    InvalidInputError, code="malformed_event", title="The event is malformed"
):
    """A signed event is not a JSON object, or has no numeric id."""


class EventSignatureError(
    SponsorSyncError, code="bad_signature", title="The signature is not valid"
):
    """A webhook event has no signature, or its signature was not made with our secret."""

    message = (
        "The signature in X-Hub-Signature-256 was not made with SPONSORSYNC_WEBHOOK_SECRET, so "
        "the event was not read."
    )


class NoWebhookError(SponsorSyncError, code="no_webhook", title="The webhook is not set up"):
    """No webhook secret is configured, so a real event cannot be told from a forged one."""

    message = (
        "The webhook is not set up: SPONSORSYNC_WEBHOOK_SECRET is not set. It should be the secret "
        "that you enter with the webhook in the settings of your Sponsors profile."
    )


class NoMaintainerTokenError(
    SponsorSyncError, code="no_maintainer_token", title="The maintainer's token is not set"
):
    """The call needs the maintainer's token, because only it shows all sponsorships."""

    message = (
        "Only the maintainer sees all sponsorships: set SPONSORSYNC_MAINTAINER_TOKEN to the "
        "maintainer's token with the scope read:user."
    )


class RefreshNeedsLoginError(
    NoMaintainerTokenError, code="sign_in_again", title="Sign in again to check"
):
    """A refresh is impossible without the maintainer's token; the person has to sign in again."""

    message = "GitHub can only be asked about you while you sign in. Sign in again."

    def __init__(self, *, login_url: str = "/login") -> None:
        super().__init__()
        self.login_url = login_url


class RetryLaterError(SponsorSyncError):
    """The call may succeed later: `retry_after_s` is the wait in seconds."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RefreshLimitedError(RetryLaterError, code="refresh_limited", title="Please wait a moment"):
    """The rate limit for refreshes is reached, by this person or by all people together."""

    def __init__(self, *, retry_after_s: int) -> None:
        super().__init__(
            f"GitHub was asked a moment ago. Try again in {retry_after_s} s.",
            retry_after_s=retry_after_s,
        )


class NotSignedInError(SponsorSyncError, code="not_signed_in", title="You are not signed in"):
    """The call needs a session, and the request has no valid one."""

    message = "You are not signed in, or your session has ended. Sign in and try again."

    def __init__(self, *, login_url: str = "/login") -> None:
        super().__init__()
        self.login_url = login_url


class BearerRefusedError(NotSignedInError, code="bearer_refused", title="That token is not valid"):
    """The request has a bearer token that is not valid, and no session."""

    message = "That token is wrong or expired. Get a new one with POST /token."


class TokenReadsOnlyError(SponsorSyncError, code="token_reads_only", title="A token may only read"):
    """The call needs a session, but the request has only a bearer token."""

    message = "A token may only read. This call needs a session: sign in."


class NotEntitledError(SponsorSyncError):
    """The signed-in person has no access; `sponsor_url` is the page to become a sponsor."""

    def __init__(self, message: str, *, sponsor_url: str) -> None:
        super().__init__(message)
        self.sponsor_url = sponsor_url


class NotASponsorError(NotEntitledError, code="not_a_sponsor", title="This is for sponsors"):
    """The person is not entitled, or is no longer entitled."""


class TierTooLowError(NotEntitledError, code="tier_too_low", title="This is for a higher tier"):
    """The person is entitled, but by a lower tier than the required one."""


class TierUnknownError(NotEntitledError, code="tier_unknown", title="Your tier is not known"):
    """The person is entitled, but their tier is not known."""


class EntitlementUnknownError(
    NotEntitledError, code="entitlement_unknown", title="It is not known whether you are a sponsor"
):
    """It is not known whether the person is entitled; this does not mean that they are not."""


class NotFoundError(SponsorSyncError, code="not_found", title="Not found"):
    """The object of a call does not exist; the message names it."""


class AdminTokenMissingError(
    SponsorSyncError, code="admin_token_missing", title="This is for administrators"
):
    """A call for administrators has no token."""

    message = (
        "This is for administrators: send SPONSORSYNC_ADMIN_TOKEN as `Authorization: Bearer …`."
    )


class AdminForbiddenError(
    SponsorSyncError, code="not_an_administrator", title="This is for administrators"
):
    """A call for administrators has a wrong token, or no token is configured."""


class NoTokensError(SponsorSyncError, code="no_tokens", title="Tokens are not set up"):
    """A call needs tokens, which are not configured."""

    message = "Tokens are not set up: SPONSORSYNC_TOKEN_AUDIENCE is not set."


class NoLinkSourceError(
    SponsorSyncError, code="no_link_source", title="No account can be linked there"
):
    """The service of the account to link is not configured."""

    def __init__(self, name: str, client_id_variable: str) -> None:
        super().__init__(f"{name} is not set up: {client_id_variable} is not set.")


class NoDurableError(SponsorSyncError, code="no_durable", title="There is no durable Redis"):
    """A call needs a durable Redis, which is not configured."""

    message = (
        "No durable Redis is configured, so there is nothing to copy to or to compare with. Set "
        "SPONSORSYNC_DURABLE_URL (or REDISENT_HOST)."
    )


class JobRunningError(SponsorSyncError, code="job_running", title="A job of this kind is running"):
    """A job of this kind is already running; the message gives its progress."""


class CrossSiteError(
    SponsorSyncError, code="cross_site", title="The request came from another site"
):
    """A page of another site made the browser send the request."""


class LoginError(SponsorSyncError, code="login_failed", title="The sign-in did not work"):
    """A login failed."""


class LoginDeniedError(LoginError, code="login_denied", title="You did not give your consent"):
    """The person did not give their consent at GitHub."""


class LoginExpiredError(LoginError, code="login_expired", title="This sign-in has expired"):
    """The state or the code is unknown, used, expired, or of another browser."""


class LoginRejectedError(
    LoginError, code="login_rejected", title="GitHub does not accept this site"
):
    """GitHub rejects the credentials or the redirect URI; an operator has to correct them."""


class GitHubError(SponsorSyncError, code="github_unavailable", title="GitHub cannot be asked"):
    """GitHub gave no usable answer: the result is unknown, never 'no'."""


class GitHubUnreachableError(GitHubError):
    """GitHub was unreachable, timed out, failed (5xx), or sent an unreadable answer."""


class GitHubLimitedError(
    GitHubError, RetryLaterError, code="github_limited", title="GitHub is busy"
):
    """GitHub's rate limit is reached."""


class GitHubRefusedError(GitHubError):
    """GitHub refused the request (FORBIDDEN, missing scopes, a bad token) or part of the data."""


class GitHubTokenError(GitHubRefusedError):
    """GitHub rejected the access token."""


class AccountLinkError(
    SponsorSyncError, code="link_unavailable", title="The other service cannot be asked"
):
    """The service of a linked account gave no usable answer: the result is unknown, never 'no'."""


class LinkUnreachableError(AccountLinkError):
    """The service was unreachable, timed out, failed (5xx), or sent an unreadable answer."""


class LinkLimitedError(
    AccountLinkError, RetryLaterError, code="link_limited", title="The other service is busy"
):
    """The service's rate limit is reached."""


class LinkRefusedError(AccountLinkError):
    """The service refused the person's token or the credentials of this installation."""


class LinkDeniedError(AccountLinkError, code="link_denied", title="You did not give your consent"):
    """The person did not consent at the service."""


class LinkExpiredError(AccountLinkError, code="link_expired", title="This link has expired"):
    """The state or the code is unknown, used, expired, or of another browser."""


class StoreError(SponsorSyncError):
    """A Redis could not complete an operation."""


class StoreUnavailableError(
    StoreError, RetryLaterError, code="store_unavailable", title="The database is not available"
):
    """A Redis is down, loading, read-only or out of memory; no change is half done."""

    def __init__(self, message: str, *, retry_after_s: int = 2) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class DurableUnavailableError(StoreUnavailableError):
    """Only the durable Redis has the data, and it is not available."""


class StoreConflictError(
    StoreError, code="store_conflict", title="The data have an unexpected type"
):
    """A key holds data of another type, so it was not changed."""


class GearsError(SponsorSyncError, code="gears_failed", title="RedisGears failed"):
    """RedisGears could not complete an operation."""


class GearsUnsupportedError(GearsError, code="no_gears", title="RedisGears is not available"):
    """The server has no RedisGears, or a version that cannot run our scripts."""


class GearsScriptError(GearsError):
    """A script failed on the server: `fault` is the exception's text, `line` counts from 1."""

    def __init__(self, fault: str, *, line: int | None) -> None:
        super().__init__(fault if line is None else f"line {line}: {fault}")
        self.fault = fault
        self.line = line
