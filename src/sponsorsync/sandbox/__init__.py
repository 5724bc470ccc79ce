"""Embedded Valkey and simulated GitHub and Patreon, for `sponsorsync dev` and the tests only."""
