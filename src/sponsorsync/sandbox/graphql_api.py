"""The simulated GitHub's GraphQL API: executes queries on the schema github.graphql."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import cast

from graphql import (
    GraphQLError,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    execute_sync,
    parse,
    validate,
)

from sponsorsync.sandbox import graphql_accounts, graphql_sponsorships
from sponsorsync.sandbox.graphql_context import INSUFFICIENT_SCOPES, Info, QueryContext, Resolver

Json = dict[str, object]

_RESOLVERS: dict[str, Mapping[str, Resolver]] = {
    "Query": graphql_accounts.QUERY,
    "User": graphql_accounts.USER | graphql_sponsorships.SPONSORABLE,
    "Organization": graphql_accounts.ORGANIZATION | graphql_sponsorships.SPONSORABLE,
    "Sponsorship": graphql_sponsorships.SPONSORSHIP,
}


def answer(
    query: str, variables: Json | None, operation: str | None, context: QueryContext
) -> Json:
    """Executes `query` and returns the answer in GitHub's form."""
    schema = simulated_schema(nulls_stay=context.switches.forbidden)
    try:
        document = parse(query)
    except GraphQLError as error:
        return _refuse([error])
    if errors := validate(schema, document):
        return _refuse(errors)
    result = execute_sync(
        schema,
        document,
        context_value=context,
        variable_values=variables,
        operation_name=operation,
        field_resolver=_resolve_attribute,
        type_resolver=lambda account, *_: account.typename,
    )
    errors = result.errors or []
    _raise_defects(errors)
    if refused := [each for each in errors if _kind(each) == INSUFFICIENT_SCOPES]:
        return _refuse(refused)
    return {"data": result.data, **(_refuse(errors) if errors else {})}


@cache
def simulated_schema(*, nulls_stay: bool = False) -> GraphQLSchema:
    """Returns the schema with its resolvers.

    Args:
        nulls_stay: Make the sponsorship fields nullable, so that only a refused field is null.
            By GraphQL's rule, a null in a non-null field makes its parents null, up to `data`.
    """
    schema = build_schema(files(__package__).joinpath("github.graphql").read_text("utf-8"))
    for type_name, resolvers in _RESOLVERS.items():
        fields = _fields(schema, type_name)
        for name, resolver in resolvers.items():
            fields[name].resolve = resolver
            for argument_name, argument in fields[name].args.items():
                argument.out_name = _snake_case(argument_name)
    if nulls_stay:
        for type_name in ("Sponsorable", "User", "Organization"):
            _make_nullable(_fields(schema, type_name))
    return schema


def _fields(schema: GraphQLSchema, type_name: str) -> dict[str, GraphQLField]:
    with_fields = cast("GraphQLObjectType | GraphQLInterfaceType", schema.type_map[type_name])
    fields: dict[str, GraphQLField] = with_fields.fields
    return fields


def _make_nullable(fields: dict[str, GraphQLField]) -> None:
    for name in graphql_sponsorships.SPONSORABLE:
        field_type = fields[name].type
        if isinstance(field_type, GraphQLNonNull):
            fields[name].type = field_type.of_type


def _refuse(errors: list[GraphQLError]) -> Json:
    return {"errors": [_error_as_json(error) for error in errors]}


def _error_as_json(error: GraphQLError) -> Json:
    """Returns GitHub's form of an error: `type` stands beside `message`."""
    as_json: Json = dict(error.formatted)
    if kind := _kind(error):
        del as_json["extensions"]
        as_json["type"] = kind
    return as_json


def _kind(error: GraphQLError) -> object:
    return (error.extensions or {}).get("type")


def _raise_defects(errors: list[GraphQLError]) -> None:
    """Raises exceptions of the simulation's own code, which must not look like GitHub's answers."""
    for error in errors:
        original = error.original_error
        if original is not None and not isinstance(original, GraphQLError):
            raise original


def _resolve_attribute(source: object, info: Info, **_arguments: object) -> object:
    """Resolves a field without a resolver: `endCursor` is the attribute `end_cursor`."""
    value = getattr(source, _snake_case(info.field_name))
    if not isinstance(value, datetime):
        return value
    # GitHub's DateTime: whole seconds, in UTC.
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def _snake_case(name: str) -> str:
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name)
