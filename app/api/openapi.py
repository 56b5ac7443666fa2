"""Completes the OpenAPI document: request bodies of submissions, and what the settings require or allow."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from app.settings import AppSettings
from jobs.problem import Problem

_FILE: dict[str, Any] = {"type": "string", "format": "binary"}
_URL = {"type": "string", "format": "uri", "description": "fetched by the service; replaces the file"}
_WEBHOOK = {"type": "string", "format": "uri", "description": "called when the job ends"}


def caption_body(options: type[BaseModel]) -> dict[str, Any]:
    """Describe a request with one picture and `options`."""
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
    """Describe a request with many pictures and `options`."""
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


def install_openapi(api: FastAPI, settings: AppSettings) -> None:
    """Make the OpenAPI document of `api` describe authentication, and only the fields that the settings enable."""
    generate = api.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        for operations in schema["paths"].values():
            content = operations.get("post", {}).get("requestBody", {}).get("content", {})
            _restrict_body(content, settings)
            for operation in operations.values():
                for status, response in _access_problems(settings).items():
                    operation["responses"].setdefault(status, response)
        if settings.keys_required:
            schemes = {name: {"type": "http", "scheme": name} for name in ("basic", "bearer")}
            schema.setdefault("components", {})["securitySchemes"] = schemes
            schema["security"] = [{name: []} for name in schemes]
        return schema

    api.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation shows


def _restrict_body(content: dict[str, Any], settings: AppSettings) -> None:
    """Remove what the settings disable from a request body."""
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


def _access_problems(settings: AppSettings) -> dict[str, Any]:
    """The problems of the authentication middleware, which every operation shares."""
    if settings.keys_required:
        problems = {
            "401": "the API key is missing, unknown or revoked",
            "403": "the key lacks a scope, or a page of another site sent the request",
        }
    else:
        problems = {
            "403": "a page of another site sent the request",
            "421": "the Host header does not name this machine",
        }
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {status: {"description": description, "content": content} for status, description in problems.items()}


def _form(fields: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """The schema of a form, whose fields cannot be null."""
    return _object({name: _never_null(field) for name, field in fields.items()}, required)


def _never_null(field: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return field
    return {**kinds[0], **{name: value for name, value in field.items() if name not in ("anyOf", "default")}}


def _object(fields: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


def _inlined(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Replace a field's reference into its own schema, which OpenAPI could not resolve."""
    if "$ref" not in field:
        return field
    target = schema["$defs"][field["$ref"].rpartition("/")[2]]
    return {**target, **{name: value for name, value in field.items() if name != "$ref"}}
