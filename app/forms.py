"""How the bodies of submissions read in OpenAPI: a form, a bare file, or JSON, with the options that jobs/ knows."""

from typing import Any

from pydantic import BaseModel

_FILE: dict[str, Any] = {"type": "string", "format": "binary"}
_URL = {"type": "string", "description": "fetched by the service, where that is allowed, instead of a file"}
_WEBHOOK = {"type": "string", "description": "told when the job is over, where that is allowed"}


def caption_body(options: type[BaseModel]) -> dict[str, Any]:
    """A request with one picture and `options`."""
    schema = options.model_json_schema()
    fields = {name: _inlined(field, schema) for name, field in schema["properties"].items() if name != "kind"}
    required = schema.get("required", [])
    form = {"image": _FILE, "image_url": _URL, "webhook_url": _WEBHOOK, **fields}
    return {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": form, "required": [*required, "image"]},
            },
            "image/*": {"schema": _FILE},
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {name: field for name, field in form.items() if name != "image"},
                    "required": [*required, "image_url"],
                }
            },
        },
    }


def batch_body(options: type[BaseModel]) -> dict[str, Any]:
    """A request with many pictures and `options`."""
    schema = options.model_json_schema()
    fields = {name: _inlined(field, schema) for name, field in schema["properties"].items() if name != "kind"}
    form = {"images": {"type": "array", "items": _FILE}, "webhook_url": _WEBHOOK, **fields}
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"type": "object", "properties": form, "required": ["images"]}},
            "application/zip": {"schema": _FILE},
        },
    }


def _inlined(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field without references, which would point outside of it."""
    if "$ref" not in field:
        return field
    target = schema["$defs"][field["$ref"].rpartition("/")[2]]
    return {**target, **{name: value for name, value in field.items() if name != "$ref"}}
