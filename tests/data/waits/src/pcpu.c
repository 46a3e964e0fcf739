// SPDX-License-Identifier: GPL-2.0
#include "plat.h"
#include <linux/percpu-rwsem.h>
#include <linux/rtmutex.h>

DEFINE_STATIC_PERCPU_RWSEM(gate);

struct lane {
	struct rt_mutex	rt;
	int		n;
};

static struct lane lanes[2];

static noinline int gate_close(void)
{
	percpu_down_write(&gate);
	lanes[0].n++;
	percpu_up_write(&gate);
	return 0;
}

static noinline int lane_pass(struct lane *l)
{
	percpu_down_read(&gate);
	msleep(500);
	rt_mutex_lock(&l->rt);
	l->n++;
	rt_mutex_unlock(&l->rt);
	percpu_up_read(&gate);
	return 0;
}

static noinline int lane_stop(struct lane *l)
{
	rt_mutex_lock(&l->rt);
	msleep(500);
	gate_close();
	rt_mutex_unlock(&l->rt);
	return 0;
}

static int pcpu_command(char *cmd)
{
	if (!strcmp(cmd, "pass"))
		return lane_pass(&lanes[1]);
	return lane_stop(&lanes[1]);
}
PLAT_CMD_FILE(pcpu, pcpu_command);

static int __init pcpu_init(void)
{
	rt_mutex_init(&lanes[0].rt);
	rt_mutex_init(&lanes[1].rt);
	proc_create("pcpu", 0200, NULL, &pcpu_pops);
	return 0;
}
module_init(pcpu_init);
