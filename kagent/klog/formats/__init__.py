r"""How the kernel announces each kind of report, and the title syzbot gives it. A table to read.

A :class:`Family` is a literal that betrays a report anywhere in a line, with the lines that only
look alike. Its :class:`Format`\ s say: the header's regex → the title → which stack to blame. The
first format whose `header` matches earliest, and whose `details` follow, names the report.

Titles are templates over the named groups of `header` and `details` and over ``{frame}``, the
function the `blame` picks (``{origin}``: the one of its second stack).

Regexes may use ``<FUNC>`` (``symbol`` before ``+0x..`` or ``.isra``), ``<SRC>`` (``file.c:12``)
and ``<PC>`` (``[<ffffffff81000000>]``). Header spellings come from the kernel's own printk()
calls, the older ones from releases back to 3.x; title spellings from syzbot's dashboard.
"""

from __future__ import annotations

from kagent.klog.formats.families import FAMILIES, family_of
from kagent.klog.formats.shape import STACK, Before, Blame, Family, Format, Stack, Step

__all__ = ["FAMILIES", "STACK", "Before", "Blame", "Family", "Format", "Stack", "Step", "family_of"]
