// SPDX-License-Identifier: GPL-2.0
#include "plat.h"

struct journal {
	struct mutex	head_lock;
	struct mutex	tail_lock;
	struct mutex	data_lock;
	u64		n;
};

static noinline void jr_bump(struct journal *j, struct mutex *which)
{
	mutex_lock(which);
	j->n++;
	mutex_unlock(which);
}

static noinline int jr_commit(struct journal *j)
{
	mutex_lock(&j->head_lock);
	msleep(600);
	jr_bump(j, &j->tail_lock);
	mutex_unlock(&j->head_lock);
	return 0;
}

static noinline int jr_trim(struct journal *j)
{
	mutex_lock(&j->tail_lock);
	msleep(600);
	jr_bump(j, &j->data_lock);
	mutex_unlock(&j->tail_lock);
	return 0;
}

static noinline int jr_write(struct journal *j)
{
	if (mutex_lock_interruptible(&j->data_lock))
		return -EINTR;
	msleep(600);
	jr_bump(j, &j->head_lock);
	mutex_unlock(&j->data_lock);
	return 0;
}

static struct journal *jr;

static int jr_command(char *cmd)
{
	switch (cmd[0]) {
	case 'c':
		return jr_commit(jr);
	case 't':
		return jr_trim(jr);
	case 'w':
		return jr_write(jr);
	}
	return -EINVAL;
}
PLAT_CMD_FILE(tri, jr_command);

static int __init tri_init(void)
{
	jr = kzalloc(sizeof(*jr), GFP_KERNEL);
	mutex_init(&jr->head_lock);
	mutex_init(&jr->tail_lock);
	mutex_init(&jr->data_lock);
	proc_create("tri", 0200, NULL, &tri_pops);
	return 0;
}
module_init(tri_init);
