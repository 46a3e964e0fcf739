"""What stands before every route of ``langgraph dev``: web pages of strangers are turned away.

A browser sends some requests for any page without asking first, a ``POST`` of plain text among
them, and the server reads JSON whatever the request calls it. Browsers name the page's origin
with such requests; programs do not, and are not meant here.
"""

from __future__ import annotations

import re

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["ORIGINS", "OwnPagesOnly", "app"]

ORIGINS = (
    r"https://([a-z0-9]+\.)?smith\.langchain\.com|https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
)
"""Studio's own pages, and pages that this machine serves; langgraph.json has the same for CORS."""


class OwnPagesOnly:
    """Answers 403 to a request that a page of another origin caused."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what no browser sent, or what a page of ours sent."""
        headers = scope.get("headers") or []
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        if scope["type"] == "http" and not all(re.fullmatch(ORIGINS, one) for one in origins):
            answer = PlainTextResponse("pages of this origin may not ask\n", status_code=403)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)


app = Starlette(middleware=[Middleware(OwnPagesOnly)])
