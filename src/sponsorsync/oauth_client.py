"""Authlib's OAuth client, as whoever speaks OAuth here imports it (docs/adr/0003-login.md)."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # Authlib would rather have httpx2; which of them we use is decided in adr/0002. Its own filter
    # ('always') comes with the module of the category, so ours has to come after that.
    from authlib.deprecate import AuthlibDeprecationWarning

    warnings.filterwarnings("ignore", "The httpx module", AuthlibDeprecationWarning)
    from authlib.integrations.base_client import OAuthError
    from authlib.integrations.httpx_client import AsyncOAuth2Client

__all__ = ["UNREADABLE", "AsyncOAuth2Client", "OAuthError"]

UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError)
"""What Authlib raises when an answer is no JSON, or JSON with values of the wrong type."""
