"""Our part of the GraphQL schema and our queries agree with GitHub's own schema.

That schema has 1.2 MB and is not in this repository: SPONSORSYNC_GITHUB_SCHEMA names its file.
"""

import os
from pathlib import Path

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    build_schema,
    is_introspection_type,
    is_specified_scalar_type,
    parse,
    print_ast,
    validate,
)

from sponsorsync.sandbox.graphql_api import simulated_schema

HOW_TO_GET_IT = (
    "set SPONSORSYNC_GITHUB_SCHEMA to GitHub's schema: `npm pack @octokit/graphql-schema`, unpack "
    "it, and name its package/schema.graphql"
)

OUR_TYPES = sorted(
    name
    for name, graphql_type in simulated_schema().type_map.items()
    if not is_introspection_type(graphql_type) and not is_specified_scalar_type(graphql_type)
)


@pytest.fixture(scope="module")
def real_schema() -> GraphQLSchema:
    """GitHub's own schema; without its file the test is skipped."""
    file_name = os.environ.get("SPONSORSYNC_GITHUB_SCHEMA")
    if not file_name:
        pytest.skip(HOW_TO_GET_IT)
    # GitHub's file defines a field twice, which a check of the whole schema would refuse.
    return build_schema(Path(file_name).read_text("utf-8"), assume_valid=True)


@pytest.mark.parametrize("name", OUR_TYPES)
def test_each_type_is_a_part_of_githubs(real_schema: GraphQLSchema, name: str) -> None:
    """A query that works in the simulation must work at GitHub."""
    ours, theirs = simulated_schema().type_map[name], real_schema.type_map[name]

    assert type(ours) is type(theirs)
    assert list_features(ours) - list_features(theirs) == set()


def test_the_comparison_includes_defaults() -> None:
    """Another default of `activeOnly` would change the answers, but no type."""
    assert "isActive: Boolean!" in list_features(simulated_schema().type_map["Sponsorship"])
    assert "sponsorshipsAsSponsor(activeOnly: Boolean = true)" in list_features(
        simulated_schema().type_map["Sponsorable"]
    )


def test_each_of_our_types_has_something_to_compare() -> None:
    """An empty comparison always succeeds; only scalars have nothing but a name."""
    assert [name for name in OUR_TYPES if not list_features(simulated_schema().type_map[name])] == [
        "DateTime",
        "URI",
    ]


@pytest.mark.parametrize("nulls_stay", [False, True])
def test_the_queries_of_the_service_are_valid_in_the_simulation(*, nulls_stay: bool) -> None:
    """A query that the simulation cannot answer would fail in a sign-in."""
    assert find_errors(load_queries(), simulated_schema(nulls_stay=nulls_stay)) == {}


def test_the_queries_of_the_service_are_valid_at_github(real_schema: GraphQLSchema) -> None:
    """GitHub accepts a query by its own schema."""
    assert find_errors(load_queries(), real_schema) == {}


def load_queries() -> dict[str, str]:
    """Returns all queries of the service by their names."""
    from sponsorsync.github import requests  # noqa: PLC0415 - the other part of the pair

    texts = {name: str(value) for name, value in vars(requests).items() if name.isupper()}
    queries = {name: text for name, text in texts.items() if text.startswith("\nquery ")}
    assert queries
    return queries


def find_errors(queries: dict[str, str], schema: GraphQLSchema) -> dict[str, list[str]]:
    """Returns the errors of all invalid queries, by the query's name."""
    found = {name: validate(schema, parse(query)) for name, query in queries.items()}
    return {name: [error.message for error in errors] for name, errors in found.items() if errors}


def list_features(graphql_type: GraphQLNamedType) -> set[str]:
    """Returns one line for each feature of a type, so a part of a type has a subset of lines."""
    match graphql_type:
        case GraphQLObjectType() | GraphQLInterfaceType():
            return {f"implements {each.name}" for each in graphql_type.interfaces} | {
                line
                for name, field in graphql_type.fields.items()
                for line in (
                    f"{name}: {field.type}",
                    *(f"{name}({format_input(*each)})" for each in field.args.items()),
                )
            }
        case GraphQLInputObjectType():
            return {format_input(*each) for each in graphql_type.fields.items()}
        case GraphQLEnumType():
            return set(graphql_type.values)
        case GraphQLUnionType():
            return {each.name for each in graphql_type.types}
        case _:
            return set()


def format_input(name: str, value: GraphQLArgument | GraphQLInputField) -> str:
    """Returns an argument or input field with its type and default."""
    # From the syntax tree, since `default_value` is only set in a schema that Python code builds.
    default = value.ast_node and value.ast_node.default_value
    return f"{name}: {value.type} = {print_ast(default) if default else 'none'}"
