// SPDX-License-Identifier: GPL-2.0
#include "plat.h"

struct link_dev {
	struct mutex		cfg_lock;
	struct work_struct	poll;
	struct delayed_work	retry;
	struct workqueue_struct *wq;
	int			up;
};

static struct link_dev *ld;

static void link_poll(struct work_struct *w)
{
	struct link_dev *d = container_of(w, struct link_dev, poll);

	msleep(300);
	mutex_lock(&d->cfg_lock);
	d->up = 1;
	mutex_unlock(&d->cfg_lock);
}

static void link_retry(struct work_struct *w)
{
	struct link_dev *d = container_of(to_delayed_work(w), struct link_dev, retry);

	msleep(300);
	mutex_lock(&d->cfg_lock);
	d->up = 2;
	mutex_unlock(&d->cfg_lock);
}

static noinline void link_quiesce(struct link_dev *d)
{
	cancel_work_sync(&d->poll);
}

static noinline int link_down(struct link_dev *d)
{
	mutex_lock(&d->cfg_lock);
	schedule_work(&d->poll);
	msleep(100);
	d->up = 0;
	link_quiesce(d);
	mutex_unlock(&d->cfg_lock);
	return 0;
}

static noinline int link_flush(struct link_dev *d)
{
	mutex_lock(&d->cfg_lock);
	queue_work(d->wq, &d->poll);
	msleep(100);
	flush_work(&d->poll);
	mutex_unlock(&d->cfg_lock);
	return 0;
}

static noinline int link_drain(struct link_dev *d)
{
	mutex_lock(&d->cfg_lock);
	queue_work(d->wq, &d->poll);
	msleep(100);
	flush_workqueue(d->wq);
	mutex_unlock(&d->cfg_lock);
	return 0;
}

static noinline int link_stop(struct link_dev *d)
{
	mutex_lock(&d->cfg_lock);
	queue_delayed_work(d->wq, &d->retry, 0);
	msleep(100);
	cancel_delayed_work_sync(&d->retry);
	mutex_unlock(&d->cfg_lock);
	return 0;
}

static int ld_command(char *cmd)
{
	if (!strcmp(cmd, "down"))
		return link_down(ld);
	if (!strcmp(cmd, "flush"))
		return link_flush(ld);
	if (!strcmp(cmd, "drain"))
		return link_drain(ld);
	if (!strcmp(cmd, "stop"))
		return link_stop(ld);
	return -EINVAL;
}
PLAT_CMD_FILE(mwork, ld_command);

static int __init mwork_init(void)
{
	ld = kzalloc(sizeof(*ld), GFP_KERNEL);
	mutex_init(&ld->cfg_lock);
	INIT_WORK(&ld->poll, link_poll);
	INIT_DELAYED_WORK(&ld->retry, link_retry);
	ld->wq = alloc_workqueue("linkd", WQ_UNBOUND, 1);
	proc_create("mwork", 0200, NULL, &mwork_pops);
	return 0;
}
module_init(mwork_init);
