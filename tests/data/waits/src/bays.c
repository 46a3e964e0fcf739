// SPDX-License-Identifier: GPL-2.0
#include "plat.h"
#include "bay.h"

static struct shelf *main_shelf;

static noinline int shelf_count(struct shelf *s)
{
	int n;

	shelf_lock(s);
	n = s->n;
	shelf_unlock(s);
	return n;
}

static noinline int bay_open(struct bay *b)
{
	int n;

	bay_lock(b);
	msleep(500);
	n = shelf_count(b->shelf);
	bay_unlock(b);
	return n;
}

static noinline int shelf_scan(struct shelf *s)
{
	struct bay *b;

	shelf_lock(s);
	msleep(500);
	list_for_each_entry(b, &s->bays, node) {
		bay_lock(b);
		s->n += b->id;
		bay_unlock(b);
	}
	shelf_unlock(s);
	return 0;
}

static int bays_command(char *cmd)
{
	if (!strcmp(cmd, "scan"))
		return shelf_scan(main_shelf);
	return bay_open(list_first_entry(&main_shelf->bays, struct bay, node));
}
PLAT_CMD_FILE(bays, bays_command);

static int __init bays_init(void)
{
	struct bay *b = kzalloc(sizeof(*b), GFP_KERNEL);

	main_shelf = kzalloc(sizeof(*main_shelf), GFP_KERNEL);
	mutex_init(&main_shelf->lock);
	INIT_LIST_HEAD(&main_shelf->bays);
	mutex_init(&b->slot_lock);
	b->shelf = main_shelf;
	list_add(&b->node, &main_shelf->bays);
	proc_create("bays", 0200, NULL, &bays_pops);
	return 0;
}
module_init(bays_init);
