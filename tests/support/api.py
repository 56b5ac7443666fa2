"""A web process, requests to it, and the API keys that requests carry."""

import asyncio
import base64
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from app.access.api_keys import ApiKey, ApiKeys, Scope
from jobs.connection import connect_async
from support.command import Command, clean_environment, free_port, start_command

MB = 1024 * 1024


def start_api(**environment: str) -> tuple[Command, str]:
    port = free_port()
    command = start_command("api", WORDLIGHT_PORT=str(port), **environment)
    command.wait_for_line("startup complete")
    return command, f"http://127.0.0.1:{port}"


def encode(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Check that an answer is an error of that kind, and return its body."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["type"] == f"urn:wordlight:problem:{kind}"
    assert body["title"]
    assert body["detail"]
    return body


def make_key(
    redis_url: str, name: str, scopes: tuple[Scope, ...] = (Scope.READ, Scope.WRITE), limit: str | None = None
) -> tuple[ApiKey, str]:
    async def make() -> tuple[ApiKey, str]:
        async with connect_async(redis_url) as redis:
            return await ApiKeys(redis).create(name, scopes, limit)

    return asyncio.run(make())


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def run_keys(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    # Absolute, because the command may run in another folder.
    environment = clean_environment() | {"PYTHONPATH": str(Path(__file__).parents[2])} | environment
    command = [sys.executable, "-m", "wordlight", "keys", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=cwd, timeout=60)
