"""Judges documents by their own rules: OpenAPI's validator, AsyncAPI's official schema, and the schemas inside them."""

import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft7Validator, Draft202012Validator

from tests.support.node import MODULES

ASYNCAPI = MODULES / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"


def asyncapi_faults(document: Mapping[str, Any]) -> list[str]:
    """What the official JSON Schema of AsyncAPI 3.0.0 says against a document."""
    validator = Draft7Validator(json.loads(ASYNCAPI.read_text(encoding="utf-8")))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def message_faults(document: Mapping[str, Any], name: str, message: Mapping[str, Any]) -> list[str]:
    """What a document's schema of a message says against one, and keys that it does not know."""
    schema = document["components"]["schemas"][name]
    validator = Draft202012Validator({"components": document["components"], **schema})
    faults = [f"{name}: {error.json_path}: {error.message}" for error in validator.iter_errors(message)]
    return [*faults, *(f"{name}: unknown key {key}" for key in message if key not in schema["properties"])]


def kind_of(message: Mapping[str, Any]) -> str:
    """The name of the message in the document."""
    kind = str(message["type"])
    return "event" if "." in kind else kind
