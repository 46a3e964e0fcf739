// SPDX-License-Identifier: GPL-2.0
#include "plat.h"
#include <linux/notifier.h>

struct psu {
	struct mutex			state_lock;
	struct raw_notifier_head	chain;
	int				level;
};

static struct psu psu0;

static noinline int psu_level(struct psu *p)
{
	int v;

	mutex_lock(&p->state_lock);
	v = p->level;
	mutex_unlock(&p->state_lock);
	return v;
}

static int psu_event(struct notifier_block *nb, unsigned long ev, void *data)
{
	struct psu *p = data;

	pr_info("cbself: %d\n", psu_level(p));
	return NOTIFY_OK;
}

static struct notifier_block psu_nb = { .notifier_call = psu_event };

static noinline int psu_set(struct psu *p, int level)
{
	mutex_lock(&p->state_lock);
	p->level = level;
	raw_notifier_call_chain(&p->chain, 1, p);
	mutex_unlock(&p->state_lock);
	return 0;
}

static int psu_command(char *cmd)
{
	return psu_set(&psu0, 3);
}
PLAT_CMD_FILE(cbself, psu_command);

static int __init cbself_init(void)
{
	mutex_init(&psu0.state_lock);
	RAW_INIT_NOTIFIER_HEAD(&psu0.chain);
	raw_notifier_chain_register(&psu0.chain, &psu_nb);
	proc_create("cbself", 0200, NULL, &cbself_pops);
	return 0;
}
module_init(cbself_init);
