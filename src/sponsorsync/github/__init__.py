"""GitHub: `client` and `oauth` use HTTP; the other modules are pure (bytes in, values out)."""
