"""Requests from other sites: the cross-site guard and CORS."""

import pytest

from tests.conftest import Browser, RunBrowser

FRIENDLY = [
    {},
    {"sec-fetch-site": "same-origin"},
    {"origin": "http://sponsorsync.test"},
    {"origin": "http://sponsorsync.test", "sec-fetch-site": "same-origin"},
]
HOSTILE = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
    {"origin": "http://sponsorsync.test.evil.example"},
]
CHANGING = [
    ("PUT", "/preferences/mnodes/a"),
    ("DELETE", "/preferences/mnodes/a"),
    ("POST", "/preferences/mnodes/filter"),
    ("POST", "/exclude"),
    ("GET", "/exclude?id=a"),
    ("POST", "/account/preferences/mnodes/remove?item=a"),
    ("POST", "/logout"),
]


@pytest.mark.parametrize("headers", HOSTILE)
@pytest.mark.parametrize(("method", "path"), CHANGING)
async def test_another_site_changes_nothing(
    sponsor: Browser, method: str, path: str, headers: dict[str, str]
) -> None:
    """Browsers send cookies with forms, images and links of other pages."""
    answer = await sponsor.request(method, path, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")
    assert (await sponsor.get("/preferences/mnodes")).json()["items"] == []


async def test_a_head_changes_nothing(sponsor: Browser) -> None:
    """HEAD is answered like GET, and the guard lets both through where GET changes nothing."""
    answer = await sponsor.head("/exclude?id=a")

    assert answer.status_code == 405
    assert (await sponsor.get("/preferences/mnodes")).json()["items"] == []


@pytest.mark.parametrize("headers", FRIENDLY)
async def test_our_own_pages_and_programs_may(sponsor: Browser, headers: dict[str, str]) -> None:
    """Our pages send matching headers; a program sends neither header."""
    answers = [
        await sponsor.get("/exclude?id=a", headers=headers),
        await sponsor.post("/exclude", json={"id": "b"}, headers=headers),
    ]

    assert [answer.status_code for answer in answers] == [200, 200]


@pytest.mark.parametrize(
    "headers", [{"referer": "https://evil.example/"}, {"accept": "text/html,*/*"}]
)
async def test_a_changing_get_is_refused_also_without_fetch_metadata(
    sponsor: Browser, headers: dict[str, str]
) -> None:
    """Over plain HTTP browsers send no Sec-Fetch-Site, and a GET may lack Origin."""
    answer = await sponsor.get("/exclude?id=a", headers=headers)

    assert answer.status_code == 403


async def test_an_allowed_origin_may_call_with_credentials(run_browser: RunBrowser) -> None:
    """CORS and the cross-site guard use the same setting `allowed_origins`."""
    origin = "https://app.example"
    async with run_browser("monthly", allowed_origins=(origin,)) as browser:
        preflight = await browser.options(
            "/exclude", headers={"origin": origin, "access-control-request-method": "POST"}
        )
        answer = await browser.post(
            "/exclude", json={"id": "a"}, headers={"origin": origin, "sec-fetch-site": "cross-site"}
        )

    assert preflight.headers["access-control-allow-origin"] == origin
    assert preflight.headers["access-control-allow-credentials"] == "true"
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize("path", ["/me", "/auth/sponsor"])
async def test_other_origins_get_no_cors(sponsor: Browser, path: str) -> None:
    """The answer is sent, but without CORS headers the browser hides it from the other page."""
    answer = await sponsor.get(path, headers={"origin": "https://evil.example"})

    assert answer.is_success
    assert "access-control-allow-origin" not in answer.headers


async def test_answers_have_the_security_headers(sponsor: Browser) -> None:
    """Browsers must not cache, frame or sniff the answers."""
    headers = (await sponsor.get("/account")).headers

    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "http://github.test" in headers["content-security-policy"]
