"""How the bodies of submissions read in OpenAPI: a form, a bare file, or JSON, with the options that jobs/ knows."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from app.settings import AppSettings

_FILE: dict[str, Any] = {"type": "string", "format": "binary"}
_URL = {"type": "string", "format": "uri", "description": "fetched by the service instead of a file"}
_WEBHOOK = {"type": "string", "format": "uri", "description": "told when the job is over"}


def caption_body(options: type[BaseModel]) -> dict[str, Any]:
    """A request with one picture and `options`."""
    schema = options.model_json_schema()
    fields = {name: _inlined(field, schema) for name, field in schema["properties"].items() if name != "kind"}
    required = schema.get("required", [])
    form = {"image": _FILE, "image_url": _URL, "webhook_url": _WEBHOOK, **fields}
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _form(form, [*required, "image"])},
            "image/*": {"schema": _FILE},
            "application/json": {
                "schema": _object(
                    {name: field for name, field in form.items() if name != "image"}, [*required, "image_url"]
                )
            },
        },
    }


def batch_body(options: type[BaseModel]) -> dict[str, Any]:
    """A request with many pictures and `options`."""
    schema = options.model_json_schema()
    fields = {name: _inlined(field, schema) for name, field in schema["properties"].items() if name != "kind"}
    form = {"images": {"type": "array", "items": _FILE, "minItems": 1}, "webhook_url": _WEBHOOK, **fields}
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _form(form, ["images"])},
            "application/zip": {"schema": _FILE},
        },
    }


def install_forms(api: FastAPI, settings: AppSettings) -> None:
    """Have the documentation of `api` say what these settings allow, and no more."""
    generate = api.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        for operations in schema["paths"].values():
            content = operations.get("post", {}).get("requestBody", {}).get("content", {})
            if not settings.image_urls:
                content.pop("application/json", None)
            for body in content.values():
                fields = body["schema"].get("properties", {})
                if not settings.image_urls:
                    fields.pop("image_url", None)
                if settings.webhook_secret is None:
                    fields.pop("webhook_url", None)
                if "expires_in" in fields:
                    fields["expires_in"]["maximum"] = settings.job_lifetime_seconds
        return schema

    api.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it


def _form(fields: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """A form cannot say null."""
    return _object({name: _never_null(field) for name, field in fields.items()}, required)


def _never_null(field: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return field
    return {**kinds[0], **{name: value for name, value in field.items() if name not in ("anyOf", "default")}}


def _object(fields: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


def _inlined(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field without references, which would point outside of it."""
    if "$ref" not in field:
        return field
    target = schema["$defs"][field["$ref"].rpartition("/")[2]]
    return {**target, **{name: value for name, value in field.items() if name != "$ref"}}
