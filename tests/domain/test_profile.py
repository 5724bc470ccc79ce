"""The choice of the stored e-mail address."""

import pytest

from sponsorsync.domain.profile import EmailAddress, GitHubUser, choose_email

PUBLIC = GitHubUser(id=1, login="octocat", name=None, email="public@example.com", avatar_url=None)
HIDDEN = GitHubUser(id=1, login="octocat", name=None, email=None, avatar_url=None)

PRIMARY = EmailAddress("primary@example.com", is_primary=True, is_verified=True)
UNVERIFIED = EmailAddress("unverified@example.com", is_primary=True, is_verified=False)
SECOND = EmailAddress("second@example.com", is_primary=False, is_verified=True)
NEITHER = EmailAddress("neither@example.com", is_primary=False, is_verified=False)


@pytest.mark.parametrize(
    ("user", "emails", "chosen"),
    [
        (PUBLIC, [PRIMARY], "primary@example.com"),
        (HIDDEN, [PRIMARY], "primary@example.com"),
        (PUBLIC, [NEITHER, SECOND, PRIMARY], "primary@example.com"),
        (PUBLIC, [UNVERIFIED], "public@example.com"),
        (PUBLIC, [SECOND], "public@example.com"),
        (PUBLIC, [NEITHER], "public@example.com"),
        (PUBLIC, [], "public@example.com"),
        (HIDDEN, [UNVERIFIED, SECOND, NEITHER], None),
        (HIDDEN, [], None),
    ],
)
def test_only_the_primary_and_verified_address_beats_the_public_one(
    user: GitHubUser, emails: list[EmailAddress], chosen: str | None
) -> None:
    """An unverified address may belong to another person."""
    assert choose_email(user, emails) == chosen
