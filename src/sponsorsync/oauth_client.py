"""Authlib's OAuth client without its import warning (docs/adr/0003-login.md)."""

import warnings

with warnings.catch_warnings():
    # Authlib recommends httpx2; adr/0002 says why we use httpx. Importing the category installs
    # Authlib's own filter ('always'), so ours has to follow.
    from authlib.deprecate import AuthlibDeprecationWarning

    warnings.filterwarnings("ignore", "The httpx module", AuthlibDeprecationWarning)
    from authlib.integrations.base_client import OAuthError
    from authlib.integrations.httpx_client import AsyncOAuth2Client

__all__ = ["UNREADABLE", "AsyncOAuth2Client", "OAuthError"]

UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError)
"""Exceptions of Authlib for an answer that is not JSON, or has values of a wrong type."""
