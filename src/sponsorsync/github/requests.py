"""Requests to GitHub: headers, paths and GraphQL queries.

The tests validate every query against GitHub's schema (npm package @octokit/graphql-schema).
"""

from collections.abc import Mapping
from urllib.parse import quote

API_VERSION = "2026-03-10"
"""https://docs.github.com/rest/about-the-rest-api/api-versions"""

PAGE_SIZE = 100
"""GraphQL pages hold 100 nodes at most."""

# The fields that decide about an entitlement, as a fragment at the end of each query.
_GIVEN = """
fragment Given on Sponsorship {
  createdAt
  isActive
  isOneTimePayment
  privacyLevel
  paymentSource
  tierSelectedAt
  tier { monthlyPriceInCents }
}
"""


def _with_given(query: str) -> str:
    return query + _GIVEN


# activeOnly: false includes ended sponsorships and one-time payments, which turn inactive after a
# month. The default order depends on the viewer, so the query sets one.
VIEWER_SPONSORSHIPS = _with_given("""
query ViewerSponsorships($maintainerLogins: [String!], $first: Int!, $after: String) {
  viewer {
    sponsorshipsAsSponsor(
      activeOnly: false
      maintainerLogins: $maintainerLogins
      first: $first
      after: $after
      orderBy: { field: CREATED_AT, direction: DESC }
    ) {
      pageInfo { hasNextPage endCursor }
      nodes {
        ...Given
        sponsorable {
          ... on User { login }
          ... on Organization { login }
        }
      }
    }
  }
}
""")

# The nested connections make 100 + 100 * 100 nodes; a query may have 500,000.
# https://docs.github.com/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api#node-limit
VIEWER_ORGANIZATIONS = _with_given("""
query ViewerOrganizations($maintainerLogins: [String!], $first: Int!, $after: String) {
  viewer {
    organizations(
      first: $first
      after: $after
      orderBy: { field: CREATED_AT, direction: ASC }
    ) {
      pageInfo { hasNextPage endCursor }
      nodes {
        databaseId
        login
        sponsorshipsAsSponsor(
          activeOnly: false
          maintainerLogins: $maintainerLogins
          first: $first
          orderBy: { field: CREATED_AT, direction: DESC }
        ) {
          pageInfo { hasNextPage }
          nodes {
            ...Given
            sponsorable {
              ... on User { login }
              ... on Organization { login }
            }
          }
        }
      }
    }
  }
}
""")

# GitHub ignores includePrivate unless the viewer manages the account, so the query also fetches
# isViewer and viewerCanAdminister.
MAINTAINER_SPONSORSHIPS = _with_given("""
query MaintainerSponsorships($login: String!, $first: Int!, $after: String) {
  rateLimit { cost limit remaining resetAt }
  repositoryOwner(login: $login) {
    ... on User { isViewer }
    ... on Organization { viewerCanAdminister }
    ... on Sponsorable {
      sponsorshipsAsMaintainer(
        activeOnly: false
        includePrivate: true
        first: $first
        after: $after
        orderBy: { field: CREATED_AT, direction: DESC }
      ) {
        totalCount
        pageInfo { hasNextPage endCursor }
        nodes {
          ...Given
          sponsorEntity {
            ... on User { databaseId }
            ... on Organization { databaseId }
          }
        }
      }
    }
  }
}
""")

# The sponsorable is the owner of the token, so only the maintainer's own token works. If there are
# several sponsorships, as after one-time payments, GitHub does not document which one it returns.
MAINTAINER_SPONSOR = _with_given("""
query MaintainerSponsor($id: ID!) {
  viewer { login }
  node(id: $id) {
    ... on User { databaseId }
    ... on Organization { databaseId }
    ... on Sponsorable {
      sponsorshipForViewerAsSponsorable(activeOnly: false) {
        ...Given
      }
    }
  }
}
""")


def build_headers(token: str | None) -> dict[str, str]:
    """Returns the headers of a REST or GraphQL call; public data need no token."""
    headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": API_VERSION}
    return headers if token is None else {**headers, "Authorization": f"Bearer {token}"}


def build_account_path(login: str) -> str:
    """Returns the REST path of the account with a login.

    https://docs.github.com/rest/users/users#get-a-user
    """
    # Dots are escaped, because clients resolve the segments `.` and `..` to another path.
    return "/users/" + quote(login, safe="").replace(".", "%2E")


def build_page_request(
    query: str, variables: Mapping[str, object], after: str | None
) -> dict[str, object]:
    """Returns the JSON body that asks for one page; `after` is the last page's cursor."""
    return {"query": query, "variables": {**variables, "first": PAGE_SIZE, "after": after}}


def build_sponsor_request(node_id: str) -> dict[str, object]:
    """Returns the JSON body that asks for one account's sponsorship of the token's owner."""
    return {"query": MAINTAINER_SPONSOR, "variables": {"id": node_id}}
