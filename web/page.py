"""The page's files, as built into `web/ui/dist`: held in memory, looked up by exact name only."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from fastapi import FastAPI, Response
from starlette.exceptions import HTTPException

DIST = Path(__file__).parent / "ui" / "dist"
ASSET_CACHE = "public, max-age=31536000, immutable"  # names carry a hash of the content
NOT_BUILT = "The page is not built yet. Run: python -m web.build\n"


def add(api: FastAPI, dist: Path = DIST) -> None:
    files = {
        f"/{path.relative_to(dist).as_posix()}": path.read_bytes()
        for path in sorted(dist.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }

    @api.get("/", include_in_schema=False)
    async def index() -> Response:
        if "/index.html" not in files:
            return Response(NOT_BUILT, 503, media_type="text/plain")
        html = files["/index.html"]
        return Response(html, media_type="text/html", headers={"cache-control": "no-cache"})

    @api.get("/assets/{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        body = files.get(f"/assets/{name}")
        if body is None:
            raise HTTPException(404, "there is no such file")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(body, media_type=kind, headers={"cache-control": ASSET_CACHE})
