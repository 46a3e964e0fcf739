"""Memory ran out: mm/oom_kill.c. No kernel bug by itself, and no report for syzbot."""

from __future__ import annotations

from kagent.klog.formats.shape import Format, rx

__all__ = ["INVOKED", "KILLED", "OOM", "OOM_KILLED"]

INVOKED = "invoked oom-killer:"
KILLED = "Killed process "

_KIND = "OOM"
_VICTIM = (
    r"(?P<what>(?:Memory cgroup o|O)ut of memory)(?: \([a-z_ ]{1,40}\))?: Killed process [0-9]+"
    r"(?:, UID [0-9]+,)? \((?P<comm>.{1,64})\),? (?:UID:[0-9]+,? )?total-vm:"
)
_HEADER = rx(rf"{INVOKED} gfp_mask=")
OOM = (
    Format(
        _HEADER,
        "{what}: Killed {comm}",
        details=(rx(_VICTIM),),
        stackless=True,
        kind=_KIND,
        kernel_bug=False,
    ),
    Format(_HEADER, "Out of memory", stackless=True, kind=_KIND, kernel_bug=False),
)
OOM_KILLED = (  # all that is printed when reports come too fast: oom_kill_process()
    Format(rx(_VICTIM), "{what}: Killed {comm}", stackless=True, kind=_KIND, kernel_bug=False),
)
