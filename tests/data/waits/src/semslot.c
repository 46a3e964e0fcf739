// SPDX-License-Identifier: GPL-2.0
#include "plat.h"

struct slot_pool {
	struct semaphore	bus;
	struct semaphore	slots;
	int			used;
};

static struct slot_pool pool;

static noinline int slot_get(struct slot_pool *p)
{
	down(&p->slots);
	p->used++;
	return 0;
}

static noinline void slot_put(struct slot_pool *p)
{
	p->used--;
	up(&p->slots);
}

static noinline int bus_transfer(struct slot_pool *p)
{
	int rc;

	rc = down_interruptible(&p->bus);
	if (rc)
		return rc;
	msleep(500);
	slot_get(p);
	slot_put(p);
	up(&p->bus);
	return 0;
}

static noinline int slot_reset(struct slot_pool *p)
{
	slot_get(p);
	msleep(500);
	down(&p->bus);
	p->used = 1;
	up(&p->bus);
	slot_put(p);
	return 0;
}

static int sem_command(char *cmd)
{
	if (!strcmp(cmd, "xfer"))
		return bus_transfer(&pool);
	if (!strcmp(cmd, "reset"))
		return slot_reset(&pool);
	return -EINVAL;
}
PLAT_CMD_FILE(semslot, sem_command);

static int __init semslot_init(void)
{
	sema_init(&pool.bus, 1);
	sema_init(&pool.slots, 1);
	proc_create("semslot", 0200, NULL, &semslot_pops);
	return 0;
}
module_init(semslot_init);
