"""The engine for a plain Redis or Valkey: what is changed on local reaches durable, and comes back.

Versions decide, not locks: any number of these engines may run beside each other, and each may be
killed between any two steps (docs/adr/0006-sync.md).
"""
