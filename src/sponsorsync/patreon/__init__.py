"""Patreon as a source of entitlement: `source` combines `oauth`, `client` and the pure modules."""
