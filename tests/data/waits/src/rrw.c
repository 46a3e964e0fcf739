// SPDX-License-Identifier: GPL-2.0
#include "plat.h"

struct route_table {
	struct rw_semaphore	tbl_sem;
	int			n;
};

static struct route_table rt;

static noinline int rt_count(struct route_table *t)
{
	int n;

	down_read(&t->tbl_sem);
	n = t->n;
	up_read(&t->tbl_sem);
	return n;
}

static noinline int rt_walk(struct route_table *t)
{
	int n;

	down_read(&t->tbl_sem);
	msleep(1000);
	n = rt_count(t);
	up_read(&t->tbl_sem);
	return n;
}

static noinline int rt_add(struct route_table *t)
{
	down_write(&t->tbl_sem);
	t->n++;
	up_write(&t->tbl_sem);
	return 0;
}

static int rt_command(char *cmd)
{
	if (!strcmp(cmd, "walk"))
		return rt_walk(&rt);
	if (!strcmp(cmd, "add"))
		return rt_add(&rt);
	return rt_count(&rt);
}
PLAT_CMD_FILE(rrw, rt_command);

static int __init rrw_init(void)
{
	init_rwsem(&rt.tbl_sem);
	proc_create("rrw", 0200, NULL, &rrw_pops);
	return 0;
}
module_init(rrw_init);
