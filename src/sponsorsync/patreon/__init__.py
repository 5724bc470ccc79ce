"""Patreon as a source of entitlement: `source` joins `oauth`, `client` and the pure modules."""
