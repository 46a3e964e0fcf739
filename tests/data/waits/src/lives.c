// SPDX-License-Identifier: GPL-2.0
#include "plat.h"
#include <linux/wait.h>

struct disk {
	struct mutex		io_lock;
	struct rw_semaphore	top;
	wait_queue_head_t	wq;
	struct completion	idle;
	int			stop, ready;
};

static struct disk dk;

static noinline int disk_crawl(struct disk *d)
{
	mutex_lock(&d->io_lock);
	while (!READ_ONCE(d->stop))
		msleep(100);
	mutex_unlock(&d->io_lock);
	return 0;
}

static noinline int disk_spin(struct disk *d)
{
	mutex_lock(&d->io_lock);
	while (!READ_ONCE(d->stop))
		cpu_relax();
	mutex_unlock(&d->io_lock);
	return 0;
}

static noinline int disk_yield(struct disk *d)
{
	mutex_lock(&d->io_lock);
	while (!READ_ONCE(d->stop))
		cond_resched();
	mutex_unlock(&d->io_lock);
	return 0;
}

static noinline int disk_event(struct disk *d)
{
	mutex_lock(&d->io_lock);
	wait_event(d->wq, d->ready);
	mutex_unlock(&d->io_lock);
	return 0;
}

static noinline int disk_leak(struct disk *d, int bad)
{
	mutex_lock(&d->io_lock);
	if (bad)
		return -EIO;
	mutex_unlock(&d->io_lock);
	return 0;
}

static noinline int disk_read(struct disk *d)
{
	mutex_lock(&d->io_lock);
	d->ready = 0;
	mutex_unlock(&d->io_lock);
	return 0;
}

static noinline int disk_nap(struct disk *d)
{
	down_read(&d->top);
	wait_for_completion(&d->idle);
	up_read(&d->top);
	return 0;
}

static noinline int disk_grow(struct disk *d)
{
	down_write(&d->top);
	up_write(&d->top);
	return 0;
}

static int dk_command(char *cmd)
{
	if (!strcmp(cmd, "crawl"))
		return disk_crawl(&dk);
	if (!strcmp(cmd, "spin"))
		return disk_spin(&dk);
	if (!strcmp(cmd, "yield"))
		return disk_yield(&dk);
	if (!strcmp(cmd, "event"))
		return disk_event(&dk);
	if (!strcmp(cmd, "leak"))
		return disk_leak(&dk, 1);
	if (!strcmp(cmd, "nap"))
		return disk_nap(&dk);
	if (!strcmp(cmd, "grow"))
		return disk_grow(&dk);
	return disk_read(&dk);
}
PLAT_CMD_FILE(lives, dk_command);

static int __init lives_init(void)
{
	mutex_init(&dk.io_lock);
	init_rwsem(&dk.top);
	init_waitqueue_head(&dk.wq);
	init_completion(&dk.idle);
	proc_create("lives", 0200, NULL, &lives_pops);
	return 0;
}
module_init(lives_init);
