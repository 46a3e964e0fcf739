// SPDX-License-Identifier: GPL-2.0
#include "plat.h"

struct ring {
	struct mutex	lock;
	int		head;
};

struct port {
	struct ring		rx, tx;
	struct {
		struct rw_semaphore	sem;
		int			speed;
	} link;
	struct port		*peer;
	struct list_head	node;
};

struct chip {
	struct port	ports[2];
	struct mutex	cfg;
	const struct chip_ops *ops;
	int		err;
};

struct chip_ops {
	int (*reset)(struct chip *c, int why);
};

static struct chip *chip;

static noinline int ring_drain(struct ring *r, int n)
{
	int rc = 0;

	mutex_lock(&r->lock);
	if (!r->head) {
		rc = -ENODATA;
		goto out;
	}
	r->head -= n;
out:
	mutex_unlock(&r->lock);
	return rc;
}

static noinline int port_flush(struct port *p)
{
	int rc;

	mutex_lock(&p->rx.lock);
	msleep(500);
	rc = ring_drain(&p->tx, 1);
	if (rc)
		goto fail;
	p->rx.head = 0;
fail:
	mutex_unlock(&p->rx.lock);
	return rc;
}

static noinline int port_kick(struct port *p)
{
	int rc = mutex_lock_interruptible(&p->tx.lock);

	if (rc)
		return rc;
	msleep(500);
	rc = ring_drain(&p->rx, 2);
	mutex_unlock(&p->tx.lock);
	return rc;
}

static noinline int port_speed(struct port *p, bool set, int v)
{
	int rc;

	if (set)
		down_write(&p->link.sem);
	else
		down_read(&p->link.sem);
	rc = p->link.speed;
	if (set)
		p->link.speed = v;
	if (set)
		up_write(&p->link.sem);
	else
		up_read(&p->link.sem);
	return rc;
}

static int chip_reset(struct chip *c, int why)
{
	struct port *p = &c->ports[0];

	mutex_lock(&c->cfg);
	c->err = why;
	port_speed(p, true, 10);
	mutex_unlock(&c->cfg);
	return 0;
}

static const struct chip_ops ops = { .reset = chip_reset };

static noinline int chip_watch(struct chip *c)
{
	struct port *p = &c->ports[0];
	int rc = 0;

	down_read(&p->link.sem);
	msleep(500);
	if (!c->err) {
		mutex_lock(&c->cfg);
		rc = c->err;
		mutex_unlock(&c->cfg);
	}
	up_read(&p->link.sem);
	return rc;
}

static noinline int chip_nap(struct chip *c)
{
	down_read(&c->ports[0].link.sem);
	ssleep(1000);
	up_read(&c->ports[0].link.sem);
	return 0;
}

static noinline int chip_swap(struct chip *c, int a, int b)
{
	struct port *first = &c->ports[a], *second = &c->ports[b];

	mutex_lock(&first->rx.lock);
	msleep(500);
	mutex_lock_nested(&second->rx.lock, SINGLE_DEPTH_NESTING);
	swap(first->rx.head, second->rx.head);
	mutex_unlock(&second->rx.lock);
	mutex_unlock(&first->rx.lock);
	return 0;
}

static int deep_command(char *cmd)
{
	int a, b;

	if (!strcmp(cmd, "flush"))
		return port_flush(&chip->ports[1]);
	if (!strcmp(cmd, "kick"))
		return port_kick(&chip->ports[1]);
	if (!strcmp(cmd, "reset"))
		return chip->ops->reset(chip, 3);
	if (!strcmp(cmd, "watch"))
		return chip_watch(chip);
	if (!strcmp(cmd, "nap"))
		return chip_nap(chip);
	if (!strcmp(cmd, "speed"))
		return port_speed(&chip->ports[0], false, 0);
	if (sscanf(cmd, "swap %d %d", &a, &b) == 2)
		return chip_swap(chip, a & 1, b & 1);
	return -EINVAL;
}
PLAT_CMD_FILE(deep, deep_command);

static int __init deep_init(void)
{
	int i;

	chip = kzalloc(sizeof(*chip), GFP_KERNEL);
	mutex_init(&chip->cfg);
	chip->ops = &ops;
	for (i = 0; i < 2; i++) {
		mutex_init(&chip->ports[i].rx.lock);
		mutex_init(&chip->ports[i].tx.lock);
		init_rwsem(&chip->ports[i].link.sem);
	}
	proc_create("deep", 0200, NULL, &deep_pops);
	return 0;
}
module_init(deep_init);
