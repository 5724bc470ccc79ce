"""Types of settings: each checks one value, and its error says what would be right."""

from functools import partial
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Annotated
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import NoDecode

from sponsorsync.domain.preferences import is_collection_name
from sponsorsync.domain.sponsorship import normalize_login

_LOGIN_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_NOT_IN_A_HOST = frozenset("/@?#[] \t")
_MAX_CAMPAIGN_DIGITS = 20
# Options of a Redis URL that an operator may need; redis-py knows more, which are refused.
_CERT_REQS = frozenset({"none", "optional", "required"})
_REDIS_OPTIONS = frozenset(
    {"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_cert_reqs"}
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


def bracket_host(host: str) -> str:
    """Returns a host as URLs have it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _split_address(value: str) -> SplitResult:
    """Returns the parts of an address; all are empty if the address is malformed.

    It raises no error, since those of urlsplit repeat the address with its password.
    """
    try:
        parts = urlsplit(value)
        is_port_fine = parts.port != 0  # raises ValueError if the port is no number
    except ValueError:
        is_port_fine = False
    return parts if is_port_fine else urlsplit("")


def _check_host(value: str) -> str:
    try:
        if ":" in value:
            IPv6Address(value)
        is_fine = not set(value) & _NOT_IN_A_HOST
    except ValueError:
        is_fine = False
    if not is_fine:
        raise ValueError("should be a host's name or IP address, without scheme and port")
    return value


def _check_origin(value: str) -> str:
    parts = _split_address(value)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("should be an address such as https://sponsors.example.org")
    if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username:
        raise ValueError("should have no path, query or user, as in https://sponsors.example.org")
    # As in the header Origin of browsers: without the scheme's default port.
    port = "" if parts.port in {None, _DEFAULT_PORTS[parts.scheme]} else f":{parts.port}"
    return f"{parts.scheme}://{bracket_host(parts.hostname)}{port}"


def _check_url(value: str) -> str:
    parts = _split_address(value)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.query:
        raise ValueError("should be an address such as https://github.com")
    return value.rstrip("/")


def _check_redis_url(value: SecretStr) -> SecretStr:
    parts = _split_address(value.get_secret_value())
    if parts.scheme != "unix" and not (parts.scheme in {"redis", "rediss"} and parts.hostname):
        raise ValueError("should be an address such as redis://user:password@host:6379/0")
    database = parts.path.strip("/")
    if parts.scheme != "unix" and database and not database.isdecimal():
        raise ValueError("should end with the number of a database, as in redis://host:6379/0")
    # The text after `?` or `#` may be the rest of an unquoted password: the error does not show it.
    if parts.fragment or not {name for name, _ in parse_qsl(parts.query)} <= _REDIS_OPTIONS:
        possible = ", ".join(sorted(_REDIS_OPTIONS))
        raise ValueError(f"has an option that is not supported; possible are {possible}")
    if not {v for name, v in parse_qsl(parts.query) if name == "ssl_cert_reqs"} <= _CERT_REQS:
        raise ValueError(f"ssl_cert_reqs should be one of {', '.join(sorted(_CERT_REQS))}")
    return value


def _check_login(value: str) -> str:
    login = normalize_login(value)
    if not login or not set(login) <= _LOGIN_CHARACTERS:
        raise ValueError(f"{value!r} is not a GitHub login")
    return login


def _check_collection(value: str) -> str:
    if not is_collection_name(value):
        raise ValueError(f"{value!r} should be lower-case letters, digits and underscores")
    return value


def _parse_network(value: object) -> object:
    try:
        return ip_network(str(value))
    except ValueError:
        raise ValueError(
            f"{value!r} should be an IP address, or a network such as 10.0.0.0/8"
        ) from None


def _check_length(value: SecretStr, *, shortest: int) -> SecretStr:
    if len(value.get_secret_value()) < shortest:
        raise ValueError(f"should have {shortest} or more random characters")
    return value


def _check_audience(value: str) -> str:
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("should be one word, such as https://app.example.org")
    return value


def _check_campaign(value: str) -> str:
    if not (value.isascii() and value.isdecimal() and len(value) <= _MAX_CAMPAIGN_DIGITS):
        raise ValueError(
            "should be the number of your campaign (docs/patreon.md shows how to find it)"
        )
    return value


Audience = Annotated[str, AfterValidator(_check_audience)]
Campaign = Annotated[str, AfterValidator(_check_campaign)]
Host = Annotated[str, AfterValidator(_check_host)]
Origin = Annotated[str, AfterValidator(_check_origin)]
RedisUrl = Annotated[SecretStr, AfterValidator(_check_redis_url)]
Secret16 = Annotated[SecretStr, AfterValidator(partial(_check_length, shortest=16))]
Secret32 = Annotated[SecretStr, AfterValidator(partial(_check_length, shortest=32))]
Url = Annotated[str, AfterValidator(_check_url)]

_Login = Annotated[str, AfterValidator(_check_login)]
_Collection = Annotated[str, AfterValidator(_check_collection)]
_Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_parse_network)]

Collections = Annotated[tuple[_Collection, ...], NoDecode, BeforeValidator(_split_commas)]
Logins = Annotated[tuple[_Login, ...], NoDecode, BeforeValidator(_split_commas)]
Networks = Annotated[tuple[_Network, ...], NoDecode, BeforeValidator(_split_commas)]
Origins = Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_split_commas)]
