"""Logging: one line per event, as JSON or for a terminal. Secrets are never logged."""

import logging
import os
import sys
from typing import Literal

import structlog


def configure_logging(log_format: Literal["auto", "json", "console"]) -> None:
    """Configures logging: our events and the warnings of libraries go to standard error."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Both renderers are told not to print local variables, which may contain access tokens.
    renderers: list[structlog.typing.Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                # Only on a terminal: in a file, colours are control characters. NO_COLOR turns them
                # off (https://no-color.org).
                colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR"),
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
        if console
        else [
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(),
        ]
    )
    structlog.configure(
        processors=[*shared, *renderers],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    # At level INFO httpx would log every URL.
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
