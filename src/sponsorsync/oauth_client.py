"""Authlib's OAuth client without its import warning (docs/adr/0003-login.md)."""

import warnings

with warnings.catch_warnings():
    # Authlib's warning recommends httpx2; docs/adr/0002 says why we use httpx. The import of the
    # warning's class installs Authlib's own filter ('always'), so our filter has to follow it.
    from authlib.deprecate import AuthlibDeprecationWarning

    warnings.filterwarnings("ignore", "The httpx module", AuthlibDeprecationWarning)
    from authlib.integrations.base_client import OAuthError
    from authlib.integrations.httpx_client import AsyncOAuth2Client

__all__ = ["UNREADABLE", "AsyncOAuth2Client", "OAuthError"]

UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError)
"""Exceptions of Authlib for an answer that is not JSON, or has values of a wrong type."""
