// SPDX-License-Identifier: GPL-2.0
#include "plat.h"

static DEFINE_MUTEX(lock);
static DECLARE_COMPLETION(done);
static DEFINE_MUTEX(aux);

static noinline int a_wait(void)
{
	mutex_lock(&lock);
	mutex_lock(&aux);
	wait_for_completion(&done);
	mutex_unlock(&aux);
	mutex_unlock(&lock);
	return 0;
}

static noinline int a_peek(void)
{
	mutex_lock(&aux);
	mutex_unlock(&aux);
	return 0;
}

static int a_command(char *cmd)
{
	return cmd[0] == 'w' ? a_wait() : a_peek();
}
PLAT_CMD_FILE(twin_a, a_command);

static int __init twin_a_init(void)
{
	proc_create("twin_a", 0200, NULL, &twin_a_pops);
	return 0;
}
module_init(twin_a_init);
