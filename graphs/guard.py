"""What stands before every route of ``langgraph dev``: web pages of strangers are turned away.

A browser sends some requests for any page without asking first, a ``POST`` of plain text among
them, and the server reads JSON whatever the request calls it. Browsers name the page's origin
with such requests; programs do not, and are not meant here. Where it does not name it, as when a
page loads an image or a name of the page's own now means this machine, it tells how the page
stands to us or whom it believes to ask.
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

_ADDRESS = r"(localhost|\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:.]+\])(:\d+)?"
"""What no stranger's name server can give another meaning."""


class OwnPagesOnly:
    """Answers 403 to a request that a page of another origin caused."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what no browser sent, or what a page of ours sent."""
        if scope["type"] == "http" and not _allowed(scope.get("headers") or []):
            answer = PlainTextResponse(
                "not from this origin, and not by this name\n",
                status_code=403,
            )
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _allowed(headers: list[tuple[bytes, bytes]]) -> bool:
    def told(name: bytes) -> list[str]:
        return [value.decode("latin-1").lower() for given, value in headers if given == name]

    if origins := told(b"origin"):
        return all(re.fullmatch(ORIGINS, one) for one in origins)
    strangers = {"cross-site", "same-site"}.intersection(told(b"sec-fetch-site"))
    return not strangers and all(re.fullmatch(_ADDRESS, one) for one in told(b"host"))


app = Starlette(middleware=[Middleware(OwnPagesOnly)])
