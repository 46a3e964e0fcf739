#!/usr/bin/env python3
"""Work out the ground truth of a rebuilt demo crash and print it as JSON.

usage: truth.py OUTDIR        (a directory filled by rebuild.sh)

It uses nothing but the log, git, and binutils, gdb and pahole on the module.
Two tools have to agree wherever there are two, otherwise it stops.
"""

import hashlib
import json
import lzma
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BUILD_DIR = "/usr/src/tidelink/"
FIX_SUBJECT = "tidelink: skip the surge check for stations without a datum"
FRAME = r"([\w.]+)\+(0x[0-9a-f]+)/(0x[0-9a-f]+)(?: \[(\w+)\])?"


def run(*argv: str) -> str:
    """Run a command and return what it writes."""
    return subprocess.run(argv, check=True, text=True, stdout=subprocess.PIPE).stdout


def agree(what: str, first: Any, second: Any) -> Any:
    """Return the value that two sources have for the same thing."""
    if first != second:
        sys.exit(f"truth.py: {what}: {first!r} != {second!r}")
    return first


def find(pattern: str, text: str) -> re.Match[str]:
    """Search for what has to be there."""
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        sys.exit(f"truth.py: nothing matches {pattern!r}")
    return match


class Module:
    """The module that crashed, seen through binutils, gdb and pahole."""

    def __init__(self, path: Path, source: Path) -> None:
        self.path = str(path)
        self.source = source

    def symbol(self, name: str) -> int:
        """Offset of a function in .text."""
        return int(find(rf"^([0-9a-f]+) \w \.?{re.escape(name)}$", run("nm", self.path))[1], 16)

    def lines(self, name: str, offset: int) -> list[dict[str, Any]]:
        """Inline chain of a code address, innermost first."""
        address = self.symbol(name) + offset
        out = run("addr2line", "-fis", "-j", ".text", "-e", self.path, hex(address)).splitlines()
        chain: list[dict[str, Any]] = []
        for function, where in zip(out[::2], out[1::2], strict=True):
            file, line = where.split()[0].split(":")
            text = (self.source / file).read_text().splitlines()[int(line) - 1].strip()
            chain.append({"function": function, "file": file, "line": int(line), "text": text})
        said = find(
            r'Line (\d+) of "(.*)"',
            run("gdb", "-nx", "-batch", "-ex", f"info line *({name}+{offset})", self.path),
        )
        agree("gdb's line", int(said[1]), chain[0]["line"])
        agree("gdb's file", said[2], BUILD_DIR + chain[0]["file"])
        agree("outermost function", chain[-1]["function"], name)
        return chain

    def instruction(self, name: str, offset: int) -> tuple[bytes, str]:
        """Bytes and text of one instruction."""
        address = self.symbol(name) + offset
        out = run(
            "objdump",
            "-d",
            "-j",
            ".text",
            f"--start-address={address}",
            f"--stop-address={address + 16}",
            self.path,
        )
        match = find(rf"^ +{address:x}:\t([0-9a-f ]+)\t(.+)$", out)
        return bytes.fromhex(match[1]), " ".join(match[2].split())

    def member_at(self, struct: str, offset: int) -> tuple[str, str, int]:
        """Type, name and size of a structure's member at an offset."""
        row = find(
            rf"^\s+(.+?) *\s(\*?\w+)(\[\d+\])?; +/\* +{offset} +(\d+) \*/",
            run("pahole", "-C", struct, self.path),
        )
        name = row[2].lstrip("*")
        said = run(
            "gdb",
            "-nx",
            "-batch",
            "-ex",
            f"print (long) &((struct {struct} *)0)->{name}",
            "-ex",
            f"print sizeof(((struct {struct} *)0)->{name})",
            self.path,
        )
        values = [int(v) for v in re.findall(r"= (\d+)$", said, re.MULTILINE)]
        agree(f"{struct}.{name}", values, [offset, int(row[4])])
        return row[1], name, int(row[4])


def frames(log: str, module: Module) -> list[dict[str, Any]]:
    """The call trace without its "?" frames, with lines for those in the module."""
    trace = find(r"Call Trace:\n.*<TASK>\n((?:.*\n)+?).*RIP: 0033", log)[1]
    result = []
    for name, offset, size, owner in re.findall(r"\]  " + FRAME + r"$", trace, re.MULTILINE):
        frame: dict[str, Any] = {
            "symbol": name,
            "offset": int(offset, 16),
            "size": int(size, 16),
            "module": owner or None,
            "file": None,
            "line": None,
        }
        if owner:
            # A return address: the call is one byte or more before it
            chain = module.lines(name, int(offset, 16) - 1)
            frame |= {"file": chain[0]["file"], "line": chain[0]["line"], "text": chain[0]["text"]}
            agree("caller without inlines", len(chain), 1)
        result.append(frame)
    return result


def commits(repo: Path, source: Path) -> dict[str, Any]:
    """The commits that matter, and proof that they hang together."""

    def git(*argv: str) -> str:
        return run("git", "-C", str(repo), *argv).strip()

    def describe(rev: str) -> dict[str, str]:
        return dict(
            zip(
                ("hash", "subject", "author", "date"),
                git("show", "-s", "--format=%H%n%s%n%an <%ae>%n%aI", rev).splitlines(),
                strict=True,
            )
        )

    history = git("rev-list", "--reverse", "HEAD").splitlines()
    subjects = {git("show", "-s", "--format=%s", h): h for h in history}
    repairs = []
    for commit in history:
        body = git("show", "-s", "--format=%B", commit)
        for short, subject in re.findall(r'^Fixes: ([0-9a-f]{12}) \("(.*)"\)$', body, re.MULTILINE):
            agree("Fixes: tag", git("rev-parse", short), subjects[subject])
            git("merge-base", "--is-ancestor", short, commit)
            repairs.append(commit)
    fix = subjects[FIX_SUBJECT]
    introduced = git("rev-parse", find(r"^Fixes: (\w+)", git("show", "-s", "--format=%B", fix))[1])
    # The source that crashed is the tree of exactly one commit
    trees = {
        h: set(git("ls-tree", "-r", "--format=%(objectname) %(path)", h).splitlines())
        for h in history
    }
    mine = {f"{git('hash-object', str(p.resolve()))} {p.name}" for p in source.iterdir()}
    crashed = [h for h in history if trees[h] == mine]
    agree("commits with the crashed source", len(crashed), 1)
    order = [history.index(h) for h in (introduced, crashed[0], fix)]
    agree("order of the commits", order, sorted(order))
    return {
        "count": len(history),
        "head": history[-1],
        "introduced_by": describe(introduced),
        "crashed": describe(crashed[0]),
        "fix": describe(fix),
        "other_fixes": [
            describe(h) | {"in_crashed": history.index(h) <= order[1]} for h in repairs if h != fix
        ],
    }


def truth(out: Path, ko: Path) -> dict[str, Any]:
    """Everything that is known about the crash."""
    log = (out / "console.log").read_bytes().decode().replace("\r\n", "\n")
    module = Module(ko, out / "src")
    title = find(r"(BUG: kernel NULL pointer dereference, address: ([0-9a-f]+))$", log)
    rip = find(r"RIP: 0010:" + FRAME + r"$", log)
    task = find(r"CPU: (\d+) PID: (\d+) Comm: (\S+) Tainted: (\S[A-Z ]*?) +(\S+) #", log)
    function, offset = rip[1], int(rip[2], 16)
    chain = module.lines(function, offset)

    code, text = module.instruction(function, offset)
    in_log = find(r"Code: .*<([0-9a-f]{2})>((?: [0-9a-f]{2})+)$", log)
    agree("code bytes", code, bytes.fromhex(in_log[1] + in_log[2])[: len(code)])
    operand = find(r"^mov (0x[0-9a-f]+)\(%(r\w+)\),%(e\w+)$", text)
    pointer = int(find(rf"\b{operand[2].upper()}: ([0-9a-f]+)", log)[1], 16)
    displacement = int(operand[1], 16)
    address = agree("fault address", int(title[2], 16), pointer + displacement)
    agree("CR2", int(find(r"\bCR2: ([0-9a-f]+)", log)[1], 16), address)
    find(r"#PF: supervisor read access in kernel mode$", log)

    kind, member, size = module.member_at("tide_datum", displacement)
    # The pointer itself was loaded from the station shortly before
    before = run("gdb", "-nx", "-batch", "-ex", f"disassemble {function}", module.path)
    load = find(
        rf"mov +(0x[0-9a-f]+)\(%rbx\),%{operand[2]}\n(?:.*\n){{0,3}}.*<\+{offset}>:", before
    )
    via_type, via, _ = module.member_at("tide_station", int(load[1], 16))
    agree("type behind the pointer", via_type, "struct tide_datum *")
    return {
        "log": "kagent/demo/data/tidelink/console.log",
        "kind": "NULL-POINTER-DEREFERENCE",
        "header": title[1],
        "kernel": {"release": task[5], "version": find(r"(Debian \S+)$", log)[1], "arch": "x86_64"},
        "task": {"comm": task[3], "pid": int(task[2]), "cpu": int(task[1]), "taint": task[4]},
        "module": {
            "name": rip[4],
            "sha256": hashlib.sha256(ko.read_bytes()).hexdigest(),
            "build_id": find(r"Build ID: (\w+)", run("readelf", "-n", str(ko)))[1],
        },
        "fault": {
            "symbol": function,
            "offset": offset,
            "size": int(rip[3], 16),
            "module": rip[4],
            "function": chain[0]["function"],
            "file": chain[0]["file"],
            "line": chain[0]["line"],
            "inline_chain": chain,
            "instruction": text,
            "access": "read",
            "access_size": size,
            "address": address,
            "pointer": {"register": operand[2], "value": pointer},
            "struct": "tide_datum",
            "member": member,
            "member_type": kind,
            "member_offset": displacement,
            "via": {"struct": "tide_station", "member": via, "member_offset": int(load[1], 16)},
        },
        "frames": frames(log, module),
        "unreliable_frames": len(re.findall(r"\]  \? ", log)),
        "commits": commits(out / "history", out / "src"),
    }


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch:
        ko = Path(scratch) / "tidelink.ko"
        ko.write_bytes(lzma.decompress((out / "tidelink.ko.xz").read_bytes()))
        print(json.dumps(truth(out, ko), indent=2))


if __name__ == "__main__":
    main()
