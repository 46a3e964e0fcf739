// SPDX-License-Identifier: GPL-2.0
#include "plat.h"

static DEFINE_MUTEX(left);
static DEFINE_MUTEX(right);
static int hits;

static noinline int take_right(void)
{
	mutex_lock(&left);
	msleep(500);
	while (!mutex_trylock(&right))
		msleep(20);
	hits++;
	mutex_unlock(&right);
	mutex_unlock(&left);
	return 0;
}

static noinline int take_left(void)
{
	mutex_lock(&right);
	msleep(500);
	mutex_lock(&left);
	hits++;
	mutex_unlock(&left);
	mutex_unlock(&right);
	return 0;
}

static int tryl_command(char *cmd)
{
	return cmd[0] == 'r' ? take_right() : take_left();
}
PLAT_CMD_FILE(tryl, tryl_command);

static int __init tryl_init(void)
{
	proc_create("tryl", 0200, NULL, &tryl_pops);
	return 0;
}
module_init(tryl_init);
