"""GitHub's REST answers about people and accounts. No I/O.

Each parser raises GitHubUnreachableError if the body does not match the documentation.
"""

from sponsorsync.domain.profile import EmailAddress, GitHubAccount, GitHubUser
from sponsorsync.github.answers import expect, expect_or_none, parse_json, reading


def parse_user(body: bytes) -> GitHubUser:
    """Returns the profile of `GET /user`.

    https://docs.github.com/rest/users/users#get-the-authenticated-user
    """
    with reading("profile"):
        data = parse_json(body)
        return GitHubUser(
            id=expect(data["id"], int),
            login=expect(data["login"], str),
            name=expect_or_none(data.get("name"), str),
            email=expect_or_none(data.get("email"), str),
            avatar_url=expect_or_none(data.get("avatar_url"), str),
        )


def parse_account(body: bytes) -> GitHubAccount:
    """Returns the account of `GET /user/{account_id}` or `GET /users/{login}`.

    https://docs.github.com/rest/users/users#get-a-user-using-their-id
    """
    with reading("profile"):
        data = parse_json(body)
        return GitHubAccount(
            id=expect(data["id"], int),
            login=expect(data["login"], str),
            node_id=expect(data["node_id"], str),
        )


def parse_emails(body: bytes) -> tuple[EmailAddress, ...]:
    """Returns the rows of `GET /user/emails`.

    https://docs.github.com/rest/users/emails#list-email-addresses-for-the-authenticated-user
    """
    with reading("list of e-mail addresses"):
        return tuple(
            EmailAddress(
                email=expect(row["email"], str),
                is_primary=row["primary"] is True,
                is_verified=row["verified"] is True,
            )
            for row in parse_json(body)
        )
