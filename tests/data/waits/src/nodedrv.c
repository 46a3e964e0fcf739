// SPDX-License-Identifier: GPL-2.0
#include "plat.h"
#include "node.h"

static struct {
	struct mutex	lock;
	int		seen;
} drv;

static int drv_scan(int n)
{
	mutex_lock(&drv.lock);
	drv.seen = n;
	mutex_unlock(&drv.lock);
	return 0;
}

static const struct node_ops drv_ops = { .scan = drv_scan };

static noinline int drv_attach(void)
{
	mutex_lock(&drv.lock);
	msleep(500);
	node_add();
	mutex_unlock(&drv.lock);
	return 0;
}

static int drv_command(char *cmd)
{
	return drv_attach();
}
PLAT_CMD_FILE(nodedrv, drv_command);

static int __init nodedrv_init(void)
{
	mutex_init(&drv.lock);
	node_register(&drv_ops);
	proc_create("nodedrv", 0200, NULL, &nodedrv_pops);
	return 0;
}
module_init(nodedrv_init);
