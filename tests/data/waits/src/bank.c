// SPDX-License-Identifier: GPL-2.0
#include "plat.h"

struct account {
	struct mutex	lock;
	int		id;
	long		sum;
};

static struct account *acc[3];

static noinline void account_credit(struct account *a, long n)
{
	mutex_lock_nested(&a->lock, SINGLE_DEPTH_NESTING);
	a->sum += n;
	mutex_unlock(&a->lock);
}

static noinline int account_move(struct account *from, struct account *to, long n)
{
	mutex_lock(&from->lock);
	msleep(500);
	from->sum -= n;
	account_credit(to, n);
	mutex_unlock(&from->lock);
	return 0;
}

static noinline int account_audit(struct account *a)
{
	mutex_lock(&a->lock);
	msleep(100000);
	mutex_unlock(&a->lock);
	return 0;
}

static int bank_command(char *cmd)
{
	int a, b;

	if (sscanf(cmd, "move %d %d", &a, &b) == 2)
		return account_move(acc[a], acc[b], 5);
	if (sscanf(cmd, "audit %d", &a) == 1)
		return account_audit(acc[a]);
	return -EINVAL;
}
PLAT_CMD_FILE(bank, bank_command);

static int __init bank_init(void)
{
	int i;

	for (i = 0; i < 3; i++) {
		acc[i] = kzalloc(sizeof(*acc[i]), GFP_KERNEL);
		mutex_init(&acc[i]->lock);
		acc[i]->id = i;
	}
	proc_create("bank", 0200, NULL, &bank_pops);
	return 0;
}
module_init(bank_init);
