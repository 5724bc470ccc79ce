"""SponsorSync: gives the sponsors of a Redis-based application something back."""

__version__ = "0.1.0"
