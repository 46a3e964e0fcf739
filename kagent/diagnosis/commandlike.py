"""Tells words that somebody may run, open or write to from words about a kernel.

What a model, a commit's subject or a log says is shown to people who are looking for something to
do. A command or an address that any of them wrote must not reach such a reader as advice: commands
come from the templates of `kagent.diagnosis.actions` alone. The check looks for the forms that a
shell and a browser act on, so it is strict with prose: a sentence that it refuses wrongly is named
among the unverified ones and nothing is lost, one that it passes wrongly may be pasted.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["command_like", "path_like"]

# What has no other meaning in a sentence about a kernel, or next to none.
_TOOL = (
    "sudo|doas|pkexec|curl|wget|aria2c|ncat|netcat|socat|ssh|scp|sftp|rsync|telnet|ftp|apt|apt-get|"
    "aptitude|dpkg|dnf|yum|rpm|zypper|pacman|apk|emerge|snap|flatpak|pip|pip3|pipx|npm|npx|gem|"
    "cargo|docker|podman|kubectl|insmod|rmmod|modprobe|depmod|dracut|mkinitcpio|kexec|"
    "update-initramfs|update-grub|grub-install|grub2-mkconfig|grubby|systemctl|journalctl|sysctl|"
    "chmod|chown|chattr|setenforce|mkfs|wipefs|fdisk|parted|dd|shred|mkswap|swapoff|swapon|crontab|"
    "nohup|xargs|bash|zsh|dash|ksh|fish|pwsh|powershell|perl|python|python3|ruby|php|lua|awk|"
    "sed|tee|base64|xxd|openssl|gpg|useradd|usermod|passwd|visudo|iptables|nft|tcpdump|b4|bpftool|"
    "bpftrace|setcap|unshare|nsenter|chroot|umount|losetup|cryptsetup|debugfs|tune2fs|fsck|kubeadm"
)
# Words of English or of the kernel too: commands only with something that is no English.
_ENGLISH = (
    "su|sh|nc|cat|cp|mv|rm|ln|echo|printf|eval|exec|source|env|export|kill|killall|pkill|reboot|"
    "shutdown|halt|poweroff|init|mount|make|git|gdb|mkdir|find|tar|unzip|tail|ls|ps|trap"
)
_PLAINLY = r"(?:-{1,2}[A-Za-z0-9]|[~.]{0,2}/[\w.]|\$[\w({])"
_ARGUMENT = rf"(?:{_PLAINLY}|[\"'][^\"'\n]{{1,200}}[\"']|[^\s()]{{1,200}}[./=][\w/])"
_WORD = r"(?<![\w./+-])"
_ANY = f"{_TOOL}|{_ENGLISH}"
_GIT = (
    "clone|fetch|pull|push|checkout|switch|restore|cherry-pick|am|apply|revert|reset|config|remote"
    "|submodule|rebase|merge|clean|init|daemon|gc|stash|worktree|send-email"
)
_OPENING = r"(?:^|`|[$#>]\s|:\s|;\s*|&&?\s*|\|\|?\s*|\(\s*|[\"'])\s*"
_BIDDING = (
    r"\b(?:run|running|execute|executing|type|typing|enter|issue|invoke|paste|launch|start|then|do)"
    r"\s+(?:the\s+command\s+|as\s+root\s+)?[`\"']?"
)
_UNGUARDED = (
    r"mitigations=off|nokaslr|nosmep|nosmap|nopti|pti=(?:off|0)|kpti=(?:off|0)|rodata=off"
    r"|selinux=0|enforcing=0|apparmor=0|audit=0|lockdown=none|(?:security|lsm)=\S+"
    r"|module\.sig_enforce\S*|(?:rd)?init=/\S*|(?:spectre_v2|spec_store_bypass_disable|mds|l1tf"
    r"|retbleed|tsx_async_abort|srbds|mmio_stale_data)=off|nospectre_v[12]|iommu=off"
    r"|init_on_(?:alloc|free)=0|randomize_kstack_offset=(?:off|0)|efi=\S+|systemd\.\w+=\S+"
)
"""Parameters of Documentation/admin-guide/kernel-parameters.txt that take a guard away."""
_FORMS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (what, re.compile(form, re.IGNORECASE | re.MULTILINE))
    for what, form in (
        # RFC 3986: a scheme; the forms without "//" that browsers act on.
        ("an address", r"(?<![\w.])[a-z][a-z0-9+.-]{0,20}://\S"),
        ("an address", r"(?<!\w)(?:javascript|data|vbscript|file|mailto|tel|magnet):\S"),
        ("an address", r"(?<![\w.])www\.[\w-]"),
        ("an address", r"(?<![\w.@/-])(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}(?::\d{1,5})?/[\w?#%-]"),
        ("an address", r"(?<![\w.>/-])(?:[a-z0-9-]{1,63}\.){1,8}(?:com|org|net|info|biz|edu|xyz|dev"
         r"|onion)(?![\w.(\[-])"),
        ("an address", r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}[:/]"),
        ("an address", r"(?<![\w.])git@|[\w.+-]{1,64}@(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}\b"),
        ("a command", rf"{_WORD}(?:sudo|doas|pkexec)\s+\S"),
        ("a command", rf"\|\s*(?:\S{{0,40}}/)?(?:{_ANY})\b"),
        ("a command", r"\$\(|\$\{|<\(|`\s*\$\s|(?:^|\s)\$[A-Z_]{2,}"),
        ("a command", r"\b(?:LD_PRELOAD|LD_LIBRARY_PATH|PATH|BASH_ENV|PYTHONPATH)="),
        ("a command", r"\d?>{1,2}\s*[~.]{0,2}/\w|\d>&\d|&>\s*\S"),
        ("a command", r"(?<![\w./])[~.]{1,2}/[\w.-]"),
        ("a command", r"(?<!\w)/(?:bin|sbin|usr|tmp|var|opt|home|root|etc|boot|dev)/[\w.-]"),
        ("a command", rf"{_WORD}(?:{_TOOL})\s+{_ARGUMENT}"),
        ("a command", rf"{_WORD}(?:{_ANY})\s+{_PLAINLY}"),
        ("a command", rf"{_OPENING}(?:{_TOOL})\s+\w"),
        ("a command", rf"{_BIDDING}(?:{_ANY})(?:\s+\S|[`\"'])"),
        ("a command", rf"{_WORD}git\s+(?:{_GIT})\b"),
        ("a kernel parameter", rf"(?<![\w.=-])(?:{_UNGUARDED})(?![\w=-])"),
        ("a kernel parameter", r"\bboot(?:ing|ed)?\s+(?:\w+\s+){0,3}?with\s+[`\"']?[\w.-]+=\S"),
        ("a command", rf"(?:&&|\|\|)\s*(?:{_ANY})\b"),
        ("a command", rf";\s*(?:{_TOOL}|rm|reboot|poweroff|halt|shutdown)\b(?!/)"),
        ("a command", rf"`\s*(?:{_TOOL})\s*`"),
        ("a command", r"(?<!\w)rm\s+\S{1,40}/|:\s*\(\)\s*\{"),
        ("a command", r"(?<![\w`])(?:\w[\w-]{0,30})\s+--[a-z][a-z-]+(?:[=\s]\S|$)"),
    )
)  # fmt: skip
_OPERATORS = re.compile(r"&&|(?<!\|)\|\|(?!\|)|\s\|\s|;\s*\S+\s+[-/~.]|>>")
"""In a source line they are C, in a sentence they join commands."""
_PATH = re.compile(r"(?<![\w./+-])(?:/|(?:[\w.-]{1,64}/){1,16})[\w.-]{1,64}\.[A-Za-z]\w{0,7}\b")
_SHOWN = 80


def command_like(text: str, *, code: bool = False) -> list[str]:
    """What in `text` reads like a command or an address, a line each; empty when nothing does.

    `code` says that the text was found, as it is, in code: then its operators are C's.
    """
    plain = _plain(text)
    # Emphasis may hide a word from a check, and is gone when the text is shown.
    variants = dict.fromkeys((plain, plain.replace("`", ""), re.sub(r"[*_`\\]", "", plain)))
    found: dict[str, None] = {}
    for variant in variants:
        for what, form in _FORMS:
            if match := form.search(variant):
                found[f"contains {what}: {_near(variant, match)}"] = None
        if not code and (match := _OPERATORS.search(variant)):
            found[f"contains shell operators: {_near(variant, match)}"] = None
        if found:
            break
    return list(found)


def path_like(text: str) -> list[str]:
    """The file names with a folder that stand in `text`."""
    return [match[0] for match in _PATH.finditer(_plain(text))]


def _plain(text: str) -> str:
    """As a reader sees it: compatibility forms folded, what shows nothing taken out."""
    folded = unicodedata.normalize("NFKC", text)
    if folded.isascii():
        return folded
    return "".join(char for char in folded if unicodedata.category(char) not in {"Cf", "Mn", "Me"})


def _near(text: str, match: re.Match[str]) -> str:
    return " ".join(text[match.start() : match.start() + _SHOWN].split())
