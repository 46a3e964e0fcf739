// SPDX-License-Identifier: GPL-2.0
#include "plat.h"

/* Orders are inverted in the text, but nobody is stuck in that. */
struct tank {
	struct mutex		in, out;
	struct completion	full;
	struct semaphore	taps;
	unsigned long		bits;
	int			level;
};

static struct tank tk;

static noinline int tank_fill(struct tank *t)
{
	mutex_lock(&t->in);
	t->level++;
	mutex_unlock(&t->in);
	mutex_lock(&t->out);
	wait_for_completion(&t->full);
	mutex_unlock(&t->out);
	return 0;
}

static noinline int tank_drain(struct tank *t)
{
	mutex_lock(&t->in);
	mutex_lock(&t->out);
	t->level--;
	mutex_unlock(&t->out);
	mutex_unlock(&t->in);
	return 0;
}

static noinline int tank_peek(struct tank *t)
{
	int n;

	mutex_lock(&t->in);
	n = t->level;
	mutex_unlock(&t->in);
	return n;
}

static noinline int tank_tap(struct tank *t)
{
	down(&t->taps);
	wait_on_bit(&t->bits, 0, TASK_UNINTERRUPTIBLE);
	up(&t->taps);
	return 0;
}

static int quiet_command(char *cmd)
{
	if (!strcmp(cmd, "fill"))
		return tank_fill(&tk);
	if (!strcmp(cmd, "drain"))
		return tank_drain(&tk);
	if (!strcmp(cmd, "tap"))
		return tank_tap(&tk);
	return tank_peek(&tk);
}
PLAT_CMD_FILE(quiet, quiet_command);

static int __init quiet_init(void)
{
	mutex_init(&tk.in);
	mutex_init(&tk.out);
	sema_init(&tk.taps, 2);
	init_completion(&tk.full);
	tk.bits = 1;
	proc_create("quiet", 0200, NULL, &quiet_pops);
	return 0;
}
module_init(quiet_init);
