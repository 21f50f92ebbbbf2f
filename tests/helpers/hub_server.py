"""A small server of the part of the hub's protocol that fetching and pushing models needs."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

TOKEN = "hf_test"
"""Whoever has it may write."""


@dataclass
class Hub:
    """What the server holds.

    Attributes:
        repositories: name -> branch -> file -> content.
        private: names that only the token opens.
        gated: names that nobody may fetch.
        requests: method and path of all that was asked.
        address: of the server.
    """

    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    address: str = ""

    def commit(self, name: str, branch: str) -> str:
        """The hash of what a branch holds."""
        files = self.repositories[name][branch]
        text = json.dumps({path: blob(content) for path, content in sorted(files.items())})
        return hashlib.sha1(f"{name} {text}".encode()).hexdigest()

    def branch(self, name: str, revision: str) -> str | None:
        """The branch of a name or a commit."""
        branches = self.repositories[name]
        return (
            revision if revision in branches else next((b for b in branches if self.commit(name, b) == revision), None)
        )


def blob(content: bytes) -> str:
    """Git's hash of a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def answer(self, status: int, content: Any = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def opened(self, name: str, revision: str) -> str | None:
        """The branch asked for, or None after an answer that refuses."""
        if name not in self.hub.repositories or (name in self.hub.private and not self.writes()):
            self.refuse(404 if self.writes() else 401, "RepoNotFound")
            return None
        if name in self.hub.gated:
            self.refuse(403, "GatedRepo")
            return None
        branch = self.hub.branch(name, revision)
        if branch is None:
            self.refuse(404, "RevisionNotFound")
        return branch

    def writes(self) -> bool:
        return self.headers.get("authorization") == f"Bearer {TOKEN}"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self.info(found[1], found[2] or "main")
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)(?:/.*)?", path):
            self.tree(found[1], found[2])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.file(found[1], found[2], found[3])
        elif path == "/api/whoami-v2" and self.writes():
            self.answer(200, {"type": "user", "name": "somebody", "orgs": []})
        else:
            self.refuse(404, "EntryNotFound")

    def info(self, name: str, revision: str) -> None:
        branch = self.opened(name, revision)
        if branch is not None:
            files = [{"rfilename": path} for path in self.hub.repositories[name][branch]]
            found = {"id": name, "modelId": name, "sha": self.hub.commit(name, branch), "siblings": files}
            self.answer(200, {**found, "private": name in self.hub.private, "tags": [], "downloads": 0, "likes": 0})

    def tree(self, name: str, revision: str) -> None:
        branch = self.opened(name, revision)
        if branch is not None:
            files = self.hub.repositories[name][branch].items()
            self.answer(200, [{"type": "file", "path": p, "size": len(c), "oid": blob(c)} for p, c in files])

    def file(self, name: str, revision: str, path: str) -> None:
        branch = self.opened(name, revision)
        if branch is None:
            return
        content = self.hub.repositories[name][branch].get(path)
        if content is None:
            self.refuse(404, "EntryNotFound")
            return
        self.answer(200, content, ETag=f'"{blob(content)}"', X_Repo_Commit=self.hub.commit(name, branch))

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"POST {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif not self.writes():
            self.refuse(401, "Unauthorized")
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'somebody'}/{asked['name']}"
            status = 409 if name in self.hub.repositories else 200
            self.hub.repositories.setdefault(name, {"main": {}})
            if status == 200 and (asked.get("private") or asked.get("visibility") == "private"):
                self.hub.private.add(name)
            self.answer(status, {"url": f"{self.hub.address}/{name}", "name": name, "id": name})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/branch/(.+)", path):
            known = found[2] in self.hub.repositories[found[1]]
            self.hub.repositories[found[1]].setdefault(found[2], dict(self.hub.repositories[found[1]]["main"]))
            self.answer(409 if known else 200, {})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/(.+)", path):
            asked = json.loads(body)["files"]
            self.answer(
                200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
            )
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/(.+)", path):
            self.change(found[1], found[2], body)
        else:
            self.refuse(404, "EntryNotFound")

    def change(self, name: str, branch: str, body: bytes) -> None:
        files = self.hub.repositories[name][branch]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                files.pop(value["path"], None)
        commit = self.hub.commit(name, branch)
        self.answer(
            200, {"success": True, "commitOid": commit, "commitUrl": f"{self.hub.address}/{name}/commit/{commit}"}
        )


@contextmanager
def serving(patch: pytest.MonkeyPatch, cache: str) -> Iterator[Hub]:
    """A server that the library talks to, with a cache of its own and a token that may write."""
    from huggingface_hub import constants

    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    patch.setattr(constants, "ENDPOINT", hub.address)
    template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(constants, "HF_HUB_CACHE", cache)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_TOKEN_PATH", f"{cache}-no-token")
    patch.setattr(constants, "HF_STORED_TOKENS_PATH", f"{cache}-no-tokens")
    patch.setenv("HF_TOKEN", TOKEN)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        patch.delenv(name, raising=False)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
