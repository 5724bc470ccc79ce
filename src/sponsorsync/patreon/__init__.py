"""Patreon: `messages` is pure (bytes in, values out), `client` and `oauth` speak over HTTP."""
