"""A stand-in for the Hugging Face Hub's HTTP API on this machine: repositories with commits, large files by LFS, tokens, and failures on demand."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TOKEN = "hf_aVerySecretTokenOfMine"


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repo:
    private: bool
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{}])
    messages: list[str] = field(default_factory=list)

    @property
    def sha(self) -> str:
        return hashlib.sha1(str(len(self.commits)).encode()).hexdigest()

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1]


class Hub:
    """The server. repos : by name; blobs : large files by sha256, kept whether committed or not; puts : sha256 of uploads in their order"""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.requests: list[str] = []
        self.fail_after: int | None = None  # number of uploads after which the server refuses all others
        self.address = ""

    def app(self) -> Starlette:
        named = "/{owner}/{name}"
        routes = [
            Route("/api/repos/create", self.create, methods=["POST"]),
            Route("/api/validate-yaml", self.validate, methods=["POST"]),
            Route(f"/api/datasets{named}", self.info),
            Route(f"/api/datasets{named}/revision/{{revision}}", self.info),
            Route(f"/api/datasets{named}/tree/{{revision}}", self.tree),
            Route(f"/api/datasets{named}/preupload/{{revision}}", self.preupload, methods=["POST"]),
            Route(f"/api/datasets{named}/commit/{{revision}}", self.commit, methods=["POST"]),
            Route(f"/datasets{named}.git/info/lfs/objects/batch", self.batch, methods=["POST"]),
            Route(f"/datasets{named}/resolve/{{revision}}/{{path:path}}", self.resolve, methods=["GET", "HEAD"]),
            Route("/upload/{oid}", self.upload, methods=["PUT"]),
        ]
        return Starlette(routes=routes)

    def _repo(self, request: Request) -> Repo | Response:
        self.requests.append(f"{request.method} {request.url.path}")
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"error": "Invalid username or password."}, 401)
        name = "{owner}/{name}".format(**request.path_params)
        if name not in self.repos:
            return JSONResponse({"error": "Repository not found"}, 404, headers={"X-Error-Code": "RepoNotFound"})
        return self.repos[name]

    async def create(self, request: Request) -> Response:
        asked = await request.json()
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"error": "no"}, 401)
        name = f"{asked['organization']}/{asked['name']}"
        assert asked["type"] == "dataset"
        self.repos[name] = Repo(bool(asked.get("private")) or asked.get("visibility") == "private")
        return JSONResponse({"url": f"{self.address}/datasets/{name}", "name": name})

    async def validate(self, request: Request) -> Response:
        import yaml

        content = (await request.json())["content"]
        yaml.safe_load(content.split("---")[1])
        return JSONResponse({"errors": [], "warnings": []})

    async def info(self, request: Request) -> Response:
        repo = self._repo(request)
        if isinstance(repo, Response):
            return repo
        return JSONResponse({"id": "x", "sha": repo.sha, "private": repo.private, "siblings": []})

    async def tree(self, request: Request) -> Response:
        repo = self._repo(request)
        if isinstance(repo, Response):
            return repo
        found: list[dict[str, Any]] = [{"type": "directory", "path": "shards", "oid": "0" * 40, "size": 0}]
        for path, content in repo.files.items():
            entry = {"type": "file", "path": path, "oid": blob_id(content), "size": len(content)}
            if path.endswith(".parquet"):
                oid = hashlib.sha256(content).hexdigest()
                entry |= {"oid": blob_id(oid.encode()), "lfs": {"oid": oid, "size": len(content), "pointerSize": 130}}
            found.append(entry)
        return JSONResponse(found)

    async def preupload(self, request: Request) -> Response:
        repo = self._repo(request)
        if isinstance(repo, Response):
            return repo
        files = (await request.json())["files"]
        modes = [
            {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".parquet") else "regular", "shouldIgnore": False}
            for f in files
        ]  # fmt: skip
        return JSONResponse({"files": modes})

    async def batch(self, request: Request) -> Response:
        repo = self._repo(request)
        if isinstance(repo, Response):
            return repo
        objects = []
        for asked in (await request.json())["objects"]:
            entry = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.blobs:
                entry["actions"] = {"upload": {"href": f"{self.address}/upload/{asked['oid']}", "header": {}}}
            objects.append(entry)
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def upload(self, request: Request) -> Response:
        content, oid = await request.body(), request.path_params["oid"]
        if self.fail_after is not None and len(self.puts) >= self.fail_after:
            return Response(status_code=403)
        assert hashlib.sha256(content).hexdigest() == oid
        self.blobs[oid] = content
        self.puts.append(oid)
        return Response()

    async def commit(self, request: Request) -> Response:
        repo = self._repo(request)
        if isinstance(repo, Response):
            return repo
        files = dict(repo.files)
        for line in (await request.body()).splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                if value.get("parentCommit") not in (None, repo.sha):
                    return JSONResponse({"error": "A commit has happened since."}, 412)
                repo.messages.append(value["summary"])
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.blobs[value["oid"]]
            else:
                assert entry["key"] == "deletedFile"
                del files[value["path"]]
        repo.commits.append(files)
        where = "{owner}/{name}".format(**request.path_params)
        url = f"{self.address}/datasets/{where}/commit/{repo.sha}"
        return JSONResponse({"success": True, "commitOid": repo.sha, "commitUrl": url})

    async def resolve(self, request: Request) -> Response:
        repo = self._repo(request)
        if isinstance(repo, Response):
            return repo
        path = request.path_params["path"]
        if path not in repo.files:
            return JSONResponse({"error": "Entry not found"}, 404, headers={"X-Error-Code": "EntryNotFound"})
        content = repo.files[path]
        headers = {"ETag": f'"{blob_id(content)}"', "X-Repo-Commit": repo.sha}
        return Response(content, headers=headers)


class Running:
    """Run a Hub on a port of its own until the block ends."""

    def __enter__(self) -> Hub:
        self.hub = Hub()
        config = uvicorn.Config(self.hub.app(), host="127.0.0.1", port=0, log_level="error", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve()), daemon=True)
        self.thread.start()
        until = time.monotonic() + 20
        while not self.server.started and time.monotonic() < until:
            time.sleep(0.01)
        self.hub.address = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"
        return self.hub

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=20)
