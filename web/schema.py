"""The API's shapes, from the same structs that the node works with: no second family of models.

`components()` are JSON Schemas for the OpenAPI document; `python -m web.schema` prints them as the
TypeScript that the page is checked against (`web/ui/src/api.ts`, kept current by a test).
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias, get_args

import msgspec

from events.base import Event, Stored
from events.codec import TOPICS
from lanrage.commands import Asked, Command
from lanrage.refusal import Refusal
from projections.lobby import Status

Schema: TypeAlias = dict[str, Any]


class QrText(msgspec.Struct, forbid_unknown_fields=True):
    text: str


COMMANDS: tuple[type[Command], ...] = get_args(Asked)
EVENTS: tuple[type[Event], ...] = tuple(each for topic in TOPICS for each in topic.EVENTS)
REF = "#/components/schemas/{name}"


def components() -> dict[str, Schema]:
    types = (*COMMANDS, *EVENTS, Stored, Status, Refusal, QrText)
    _, found = msgspec.json.schema_components(types, ref_template=REF)
    schemas: dict[str, Schema] = dict(found)
    for command in COMMANDS:
        _untag(schemas[command.__name__])
    return schemas


def ref(of: type) -> Schema:
    return {"$ref": REF.format(name=of.__name__)}


def takes(body: type) -> Schema:
    """The `requestBody` of a route, for FastAPI's `openapi_extra`."""
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": ref(body)}}}
    }


def answers(good: Schema) -> dict[int | str, Schema]:
    """The `responses` of a route: its document, or a refusal."""
    return _responses("Done", "application/json", good)


def _responses(meaning: str, media_type: str, good: Schema) -> dict[int | str, Schema]:
    refusal = {"application/json": {"schema": ref(Refusal)}}
    return {
        200: {"description": meaning, "content": {media_type: {"schema": good}}},
        "4XX": {"description": "Refused", "content": refusal},
    }


SVG = _responses("A picture", "image/svg+xml", {"type": "string"})
STREAM = _responses(
    "`id:` seq, `data:` a Stored. Also `event: hello`, `status` and `reset`, without events.",
    "text/event-stream",
    ref(Stored),
)


def complete(document: Schema) -> Schema:
    """FastAPI's list of routes, with our schemas and the token."""
    bearer = {"type": "http", "scheme": "bearer"}
    parts = {"schemas": components(), "securitySchemes": {"token": bearer}}
    return {**document, "components": parts, "security": [{"token": []}]}


def _untag(schema: Schema) -> None:
    """A command's tag is in its path; in the body it may be left out."""
    schema["properties"].pop("type")
    schema["required"] = [each for each in schema["required"] if each != "type"]


# --- TypeScript ------------------------------------------------------------------------------


def typescript() -> str:
    lines = ["// Written by `python -m web.schema`. Do not edit.", ""]
    for name, schema in sorted(components().items()):
        lines += [f"export interface {name} {_object(schema)}", ""]
    lines += [
        "/** The payload (`Stored.data`) of every event type. */",
        "export interface Payloads {",
    ]
    lines += [f'  "{each.TYPE}": {each.__name__};' for each in EVENTS]
    lines += ["}", "", "/** The body of every command, by path. */", "export interface Commands {"]
    lines += [f'  "{command_path(each)}": {each.__name__};' for each in COMMANDS]
    return "\n".join([*lines, "}", ""])


def command_path(command: type[Command]) -> str:
    tag = str(command.__struct_config__.tag)
    return "/api/invite/revoke" if tag == "revoke" else f"/api/{tag}"


def _object(schema: Schema) -> str:
    if not schema["properties"]:
        return "{}"
    always = schema.get("required", [])
    fields = (
        f"  {name}{'' if name in always else '?'}: {_type(each)};"
        for name, each in schema["properties"].items()
    )
    return "\n".join(["{", *fields, "}"])


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[1]
    if "anyOf" in schema:
        return " | ".join(_type(each) for each in schema["anyOf"])
    kind = schema.get("type")
    if kind == "array":
        return f"{_type(schema['items'])}[]"
    if kind == "object":
        return f"Record<string, {_type(schema['additionalProperties'])}>"
    plain = {"integer": "number", "number": "number", "string": "string", "boolean": "boolean"}
    return {**plain, "null": "null"}.get(str(kind), "unknown")


if __name__ == "__main__":
    sys.stdout.write(typescript())
