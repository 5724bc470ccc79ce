"""The HTTP side: routers, what they depend on, and how errors are said. Knows only the domain."""
