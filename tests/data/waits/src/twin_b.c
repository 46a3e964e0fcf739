// SPDX-License-Identifier: GPL-2.0
#include "plat.h"

static DEFINE_MUTEX(aux);
static DEFINE_MUTEX(lock);
static DECLARE_WAIT_QUEUE_HEAD(done);
static int flag;

static noinline int b_wait(void)
{
	mutex_lock(&aux);
	wait_event(done, READ_ONCE(flag));
	mutex_unlock(&aux);
	return 0;
}

static noinline int b_peek(void)
{
	mutex_lock(&lock);
	mutex_lock(&aux);
	flag = 1;
	wake_up(&done);
	mutex_unlock(&aux);
	mutex_unlock(&lock);
	return 0;
}

static int b_command(char *cmd)
{
	return cmd[0] == 'w' ? b_wait() : b_peek();
}
PLAT_CMD_FILE(twin_b, b_command);

static int __init twin_b_init(void)
{
	proc_create("twin_b", 0200, NULL, &twin_b_pops);
	return 0;
}
module_init(twin_b_init);
