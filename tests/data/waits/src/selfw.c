// SPDX-License-Identifier: GPL-2.0
#include "plat.h"

struct uplink {
	struct work_struct	kick;
	struct work_struct	fin;
	struct mutex		st;
	struct completion	ready;
	wait_queue_head_t	wq;
	int			going, gen;
	struct rw_semaphore	rw;
};

static struct uplink upl;

static noinline void uplink_reset(struct uplink *u)
{
	cancel_work_sync(&u->kick);
	u->going = 0;
}

static void uplink_kick(struct work_struct *w)
{
	struct uplink *u = container_of(w, struct uplink, kick);

	u->gen++;
	if (u->going)
		uplink_reset(u);
	u->gen++;
}

static noinline void uplink_done(struct uplink *u)
{
	u->gen++;
	complete(&u->ready);
}

static void uplink_fin(struct work_struct *w)
{
	struct uplink *u = container_of(w, struct uplink, fin);

	mutex_lock(&u->st);
	u->gen++;
	mutex_unlock(&u->st);
	uplink_done(u);
}

static noinline int uplink_wait(struct uplink *u)
{
	mutex_lock(&u->st);
	schedule_work(&u->fin);
	wait_for_completion(&u->ready);
	mutex_unlock(&u->st);
	return 0;
}

static noinline int uplink_grow(struct uplink *u)
{
	down_write(&u->rw);
	u->gen++;
	up_write(&u->rw);
	return 0;
}

static noinline int uplink_upgrade(struct uplink *u)
{
	down_read(&u->rw);
	if (u->gen >= 0)
		uplink_grow(u);
	up_read(&u->rw);
	return 0;
}

static noinline int uplink_evwait(struct uplink *u)
{
	mutex_lock(&u->st);
	wait_event(u->wq, READ_ONCE(u->gen) > 100);
	mutex_unlock(&u->st);
	return 0;
}

static noinline int uplink_evwake(struct uplink *u)
{
	msleep(300);
	if (mutex_lock_killable(&u->st))
		return -EINTR;
	u->gen = 200;
	mutex_unlock(&u->st);
	wake_up(&u->wq);
	return 0;
}

static int selfw_command(char *cmd)
{
	if (!strcmp(cmd, "kick")) {
		upl.going = 1;
		schedule_work(&upl.kick);
		return 0;
	}
	if (!strcmp(cmd, "wait"))
		return uplink_wait(&upl);
	if (!strcmp(cmd, "upgrade"))
		return uplink_upgrade(&upl);
	if (!strcmp(cmd, "evwait"))
		return uplink_evwait(&upl);
	if (!strcmp(cmd, "evwake"))
		return uplink_evwake(&upl);
	return -EINVAL;
}
PLAT_CMD_FILE(selfw, selfw_command);

static int __init selfw_init(void)
{
	INIT_WORK(&upl.kick, uplink_kick);
	INIT_WORK(&upl.fin, uplink_fin);
	mutex_init(&upl.st);
	init_rwsem(&upl.rw);
	init_completion(&upl.ready);
	init_waitqueue_head(&upl.wq);
	proc_create("selfw", 0200, NULL, &selfw_pops);
	return 0;
}
module_init(selfw_init);
