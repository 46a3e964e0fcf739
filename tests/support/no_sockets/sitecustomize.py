"""Forbids a Python process every socket but local ones, and writes down what was tried."""

import os
import sys


def _forbid(event: str, given: tuple[object, ...]) -> None:
    """An audit hook: sees the C level, too, and cannot be taken out again."""
    local = event == "socket.__new__" and given[1] == 1  # AF_UNIX
    if event in ("socket.__new__", "socket.getaddrinfo", "socket.gethostbyname") and not local:
        if not _asks_for_ipv6():
            with open(os.environ["NO_SOCKETS_LOG"], "a") as file:  # noqa: PTH123
                file.write(f"{event} {given[1:]!r}\n")
        raise PermissionError("sockets are forbidden in this test")


def _asks_for_ipv6() -> bool:
    """Whether it is urllib3, which tries at import whether ::1 can be bound; nothing is sent."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "urllib3.util.connection":
            return frame.f_code.co_name == "_has_ipv6"
        frame = frame.f_back
    return False


sys.addaudithook(_forbid)
