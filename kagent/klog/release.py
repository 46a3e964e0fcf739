"""What a kernel's release string says of the upstream version it was built from.

Distributions keep the number that `uname -r` shows constant while they merge stable releases, so
the string alone often names a base that says little; the boot banner's build part sometimes holds
the true version. Sources of the forms: `init/version-timestamp.c` for the banner, Debian's
`debian/rules.real` (``Debian 6.1.192-2``), Ubuntu's `debian/rules.d/0-common-vars.mk`
(``Ubuntu 5.15.0-105.115-generic 5.15.148``), and what the other distributions name their kernels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

__all__ = ["KernelRelease", "StatedKernel", "read_release", "revision_candidates", "stated_kernels"]

_VERSION = re.compile(r"(\d{1,3})\.(\d{1,4})(?:\.(\d{1,5}))?(?:\.\d{1,5})?(-rc\d{1,2})?")
_COMMIT = re.compile(r"-g([0-9a-f]{7,40})\b")
_FEDORA_RC = re.compile(r"-0\.(rc\d{1,2})\.")
"""Of a candidate, which would sort behind the release if it were named as upstream does."""
_NEXT = re.compile(r"-next-(\d{8})\b")
_DEBIAN = re.compile(r"\bDebian (\d{1,3}\.\d{1,4}(?:\.\d{1,5})?)[-~]")
_UBUNTU = re.compile(r"\(Ubuntu [\w.~+-]{1,60} (\d{1,3}\.\d{1,4}(?:\.\d{1,5})?)\)")

# init/version-timestamp.c; then lib/dump_stack.c, where the taint flags stand in front of the
# release, and kernel/locking/lockdep.c, where they stand behind it.
_STATED = re.compile(
    rb"Linux version (\d[\w.+~-]{2,96}) "
    rb"|(?:Not tainted|Tainted: [A-Z ]{1,40}(?<! )) {1,8}(\d{1,3}\.\d[\w.+~-]{1,96})(?=[ \r\n])"
    rb"(?: #\d[^\s]{0,80} ([0-9a-f]{32,64})(?=[ \r\n]))?"
    rb"|(?<![\w.])(\d{1,3}\.\d[\w.+~-]{1,96}) #\d[^\n]{0,80} (?:Not tainted|Tainted: )"
)


@dataclass(frozen=True, slots=True)
class _Vendor:
    name: str
    shape: re.Pattern[str]
    """Searched in what follows the version."""
    follows_stable: bool
    """The number in the release is that of the stable release it was built from."""
    why: str


# Tried in order. What a vendor does to the number, not which versions there are.
_VENDORS = (
    _Vendor(
        "Oracle UEK",
        re.compile(r"\.el\d{1,2}uek"),
        False,
        "Oracle keeps the number while it merges stable releases",
    ),
    _Vendor(
        "Red Hat",
        re.compile(r"\.el\d"),
        False,
        "Red Hat keeps the number and backports thousands of changes",
    ),
    _Vendor(
        "Fedora", re.compile(r"\.fc\d{2}"), True, "Fedora adds patches to the release it names"
    ),
    _Vendor(
        "SUSE",
        re.compile(r"-(?:15\d{4}|lp15\d|6\d{5})\.|-default$|-azure-default$"),
        False,
        "SUSE keeps the number of a service pack and backports fixes",
    ),
    _Vendor(
        "Amazon Linux",
        re.compile(r"\.amzn\d"),
        True,
        "Amazon adds fixes to the stable release it names",
    ),
    _Vendor(
        "Android",
        re.compile(r"-android\d"),
        True,
        "Android adds changes to the stable release it names",
    ),
    _Vendor(
        "WSL", re.compile(r"-microsoft"), True, "Microsoft adds patches to the release it names"
    ),
    _Vendor("Arch", re.compile(r"-arch\d"), True, "Arch adds patches to the release it names"),
    _Vendor(
        "Proxmox",
        re.compile(r"-pve\b"),
        False,
        "Proxmox builds Ubuntu's kernel, whose stable level the release does not show",
    ),
    _Vendor(
        "Ubuntu",
        re.compile(
            r"^-\d{1,4}-(?:generic|lowlatency|aws|azure|gcp|gke|gkeop|oracle|kvm|raspi|ibm|nvidia|oem|"
            r"virtual|realtime|fips|hwe)\b"
        ),
        False,
        "Ubuntu's release does not show which stable release was merged; the boot banner does",
    ),
    _Vendor(
        "Debian",
        re.compile(r"^\+deb\d{1,2}(?:\.\d{1,3})?(?:\+\d{1,3})?-"),
        True,
        "Debian adds patches to the stable release it names",
    ),
    _Vendor(
        "Debian",
        re.compile(
            r"^-\d{1,3}(?:\.bpo\.\d{1,3})?-(?:\w{1,12}-)?(?:amd64|arm64|686|armmp|riscv64|ppc64el|"
            r"powerpc64le|s390x|loong64|loongson-3|mips64el|4kc|5kc|marvell|rpi)"
        ),
        False,
        "Debian's release holds an ABI number; the boot banner names the stable release",
    ),
)


@dataclass(frozen=True, slots=True)
class KernelRelease:
    """A release string, read as far as it is sound."""

    release: str
    version: str | None = None
    """Upstream version, ``6.1.192`` or ``6.15-rc3``; a final ``.0`` is dropped, as in tags."""
    exact: bool = False
    """The upstream version is the one that was built; False: at least its base."""
    vendor: str | None = None
    commit: str | None = None
    """The commit that ``-gHASH`` of `scripts/setlocalversion` names."""
    next_day: str | None = None
    """Day of a linux-next, ``20250422``."""
    note: str = ""
    """What the number leaves open; empty when it is all there is to know."""

    @property
    def series(self) -> str | None:
        """``6.1`` of ``6.1.192``: the stable branch it belongs to."""
        found = re.match(r"\d+\.\d+", self.version or "")
        return found[0] if found else None

    @property
    def tag(self) -> str | None:
        """Name that upstream's tag of the version has."""
        return f"v{self.version}" if self.version else None


def read_release(release: str, build: str | None = None) -> KernelRelease:
    """Read `release` (as `uname -r`) with what the boot banner prints after it, if known.

    >>> read_release("5.15.0-105-generic", "#115-Ubuntu SMP (Ubuntu 5.15.0-105.115-generic 5.15.148)").tag
    'v5.15.148'
    >>> read_release("5.14.0-427.el9.x86_64").exact
    False
    """  # noqa: E501 - a banner is long
    release = release.strip()[:300]
    number = _VERSION.match(release)
    if number is None:
        return KernelRelease(release, note="the release names no version")
    commit, day = _COMMIT.search(release), _NEXT.search(release)
    rest = release[number.end() :]
    fedora = _FEDORA_RC.match(rest)
    candidate = number[4] or (f"-{fedora[1]}" if fedora else "")
    found = KernelRelease(
        release,
        version=_joined(*number.group(1, 2, 3)) + candidate,
        commit=commit[1] if commit else None,
        next_day=day[1] if day else None,
    )
    return _of_vendor(found, number[4] is not None, rest, build or "")


def _of_vendor(found: KernelRelease, candidate: bool, rest: str, build: str) -> KernelRelease:
    for name, banner in (("Debian", _DEBIAN), ("Ubuntu", _UBUNTU)):
        named = banner.search(build)
        if named:
            version = _joined(*[*named[1].split("."), None][:3])
            note = f"{name} builds {version} with patches of its own"
            return replace(found, version=version, exact=True, vendor=name, note=note)
    for vendor in _VENDORS:
        if vendor.shape.search(rest):
            exact = vendor.follows_stable
            return replace(found, exact=exact, vendor=vendor.name, note=vendor.why)
    if found.commit or found.next_day:
        return replace(found, exact=False, note="built between releases")
    extra = rest.removesuffix("+")
    if extra and not candidate:
        return replace(found, exact=True, note=f"what {extra[:60]!r} adds is not known")
    if rest.endswith("+"):
        return replace(found, exact=True, note="the '+' says that more commits were on top")
    return replace(found, exact=True)


def _joined(major: str | None, minor: str | None, point: str | None) -> str:
    return f"{major}.{minor}" + (f".{int(point)}" if point and int(point) else "")


def revision_candidates(release: str, build: str | None = None) -> Iterator[tuple[str, str]]:
    """(revision, why) pairs to try in a repository in order, the most exact first.

    `build` is what the boot banner prints after the release.
    """
    found = read_release(release, build)
    if found.commit:
        yield found.commit, f"the release {found.release} names this commit"
    if found.next_day:
        yield f"next-{found.next_day}", f"the release {found.release} is that linux-next"
    number = _VERSION.match(found.release)
    if number is None or found.tag is None:
        return
    bare = "v" + _joined(*number.group(1, 2, 3)) + (number[4] or "")
    if found.tag != bare:
        reason = f"{found.vendor}'s {found.version} is built from it, with patches of its own"
        yield found.tag, reason
    rest = found.release[number.end() :]
    extra = rest.removesuffix("+")
    if re.fullmatch(r"[-.\w]{1,64}", extra, re.ASCII):
        yield f"{bare}{extra}", f"the tag of the release {found.release}"
    reason = f"the tag of the release {found.release}"
    if extra:
        reason = f"the upstream version of {found.release}; what {extra!r} adds is not in it"
    elif rest.endswith("+"):
        reason = f"the tag below {found.release}; the '+' says that more commits were on top"
    yield bare, reason


@dataclass(frozen=True, slots=True)
class StatedKernel:
    """What a line of a log says of the kernel that printed it."""

    at: int
    """Byte offset of the statement."""
    release: str
    build_id: str | None = None
    """Of vmlinux, as CONFIG_STACKTRACE_BUILD_ID has it printed (lib/dump_stack.c, since 5.14)."""


def stated_kernels(data: bytes) -> tuple[StatedKernel, ...]:
    """What boot banners and reports of a log say of their kernel, in order; runs of one folded.

    A look at two kinds of lines, for those who need no more of the log than this.
    """
    found: list[StatedKernel] = []
    for match in _STATED.finditer(data):
        release = (match[1] or match[2] or match[4]).decode("ascii", "replace")
        build_id = match[3].decode("ascii") if match[3] else None
        last = found[-1] if found and found[-1].release == release else None
        if last is None or (build_id is not None and last.build_id not in (None, build_id)):
            found.append(StatedKernel(match.start(), release, build_id))
        elif last.build_id is None and build_id is not None:
            found[-1] = replace(last, build_id=build_id)
    return tuple(found)
