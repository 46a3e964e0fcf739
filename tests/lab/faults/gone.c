// SPDX-License-Identifier: GPL-2.0-only
#include "lab.h"
#include <linux/stacktrace.h>

struct gn_state { u64 ticks; struct timer_list timer; struct gn_state *peer; };
static struct gn_state state;
static u64 sink;

static void gn_tick(struct timer_list *t)
{
	struct gn_state *s = from_timer(s, t, timer);

	s->ticks++;
	mod_timer(&s->timer, jiffies + HZ / 10);
}
static noinline int deeper(int n)
{
	volatile char frame[256];

	frame[n & 255] = n;
	if (n > 1000000)
		return 0;
	return deeper(n + 1) + frame[7]; /* @deeper */
}
static noinline void overrun(const char *s)
{
	char local[8];
	int i;

	for (i = 0; s[i]; i++)
		local[i] = s[i];
	sink += local[3];
} /* @overrun */
static int gone_run(char *name)
{
	if (!strcmp(name, "arm")) {
		timer_setup(&state.timer, gn_tick, 0);
		mod_timer(&state.timer, jiffies + HZ / 10);
	} else if (!strcmp(name, "deeper"))
		sink += deeper(strlen(name));
	else if (!strcmp(name, "overrun"))
		overrun("a string that does not fit into eight bytes at all");
	else if (!strcmp(name, "panic"))
		panic("gone: asked to");
	else
		return -EINVAL;
	return 0;
}
LAB_CASES(gone, gone_run);
static void __exit gone_exit(void)
{
	remove_proc_entry("gone", NULL);
}
module_exit(gone_exit);
