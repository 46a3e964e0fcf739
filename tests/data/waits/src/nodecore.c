// SPDX-License-Identifier: GPL-2.0
#include "plat.h"
#include "node.h"

static DEFINE_MUTEX(core_lock);
static const struct node_ops *node_cb;
static int nodes;

int node_register(const struct node_ops *ops)
{
	mutex_lock(&core_lock);
	node_cb = ops;
	mutex_unlock(&core_lock);
	return 0;
}
EXPORT_SYMBOL_GPL(node_register);

int node_add(void)
{
	mutex_lock(&core_lock);
	nodes++;
	mutex_unlock(&core_lock);
	return nodes;
}
EXPORT_SYMBOL_GPL(node_add);

static noinline int node_scan(void)
{
	int rc;

	mutex_lock(&core_lock);
	msleep(500);
	rc = node_cb->scan(nodes);
	mutex_unlock(&core_lock);
	return rc;
}

static int core_command(char *cmd)
{
	return node_scan();
}
PLAT_CMD_FILE(nodecore, core_command);

static int __init nodecore_init(void)
{
	proc_create("nodecore", 0200, NULL, &nodecore_pops);
	return 0;
}
module_init(nodecore_init);
