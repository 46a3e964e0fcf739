"""From the release a log prints to the git revision that was built."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["revision_candidates"]

_RELEASE = re.compile(r"(\d{1,3})\.(\d{1,4})(?:\.(\d{1,5}))?(-rc\d{1,2})?(.{0,200})\Z", re.DOTALL)
_COMMIT = re.compile(r"-g([0-9a-f]{7,40})\b")
_NEXT = re.compile(r"-next-(\d{8})\b")
_DEBIAN = re.compile(r"\bDebian (\d{1,3}\.\d{1,4}\.\d{1,5})\b")


def revision_candidates(release: str, build: str | None = None) -> Iterator[tuple[str, str]]:
    """(revision, why) pairs to try in order, the most exact first.

    `build` is what the log prints after the release; Debian puts the upstream version only
    there (``6.1.0-56-amd64 #1 SMP ... Debian 6.1.192-2``).
    """
    release = release.strip()
    if commit := _COMMIT.search(release):
        yield commit[1], f"the release {release} names this commit"
    if day := _NEXT.search(release):
        yield f"next-{day[1]}", f"the release {release} is that linux-next"
    if build and (debian := _DEBIAN.search(build)):
        upstream = debian[1].removesuffix(".0")
        yield f"v{upstream}", f"Debian's {debian[1]} is built from it, with Debian's own patches"
    found = _RELEASE.match(release)
    if found is None:
        return
    major, minor, stable, candidate, rest = found.groups()
    version = f"{major}.{minor}" + (f".{stable}" if stable and stable != "0" else "")
    version += candidate or ""
    extra = rest.removesuffix("+") if rest else ""
    if re.fullmatch(r"[-.\w]{1,64}", extra, re.ASCII):
        yield f"v{version}{extra}", f"the tag of the release {release}"
    reason = f"the tag of the release {release}"
    if extra:
        reason = f"the upstream version of {release}; what {extra!r} adds is not in it"
    elif release.endswith("+"):
        reason = f"the tag below {release}; the '+' says that more commits were on top"
    yield f"v{version}", reason
