// SPDX-License-Identifier: GPL-2.0
#include "plat.h"

struct region_map {
	struct rw_semaphore	map_sem;
	struct rw_semaphore	page_sem;
	unsigned long		pages;
};

static struct region_map rm;

static noinline unsigned long map_count(struct region_map *m)
{
	unsigned long n;

	down_read(&m->page_sem);
	n = m->pages;
	up_read(&m->page_sem);
	return n;
}

static noinline int map_lookup(struct region_map *m)
{
	int rc;

	down_read(&m->map_sem);
	msleep(500);
	rc = map_count(m);
	up_read(&m->map_sem);
	return rc;
}

static noinline void map_insert(struct region_map *m)
{
	down_write(&m->map_sem);
	m->pages++;
	up_write(&m->map_sem);
}

static noinline int page_fill(struct region_map *m)
{
	down_write(&m->page_sem);
	msleep(500);
	map_insert(m);
	up_write(&m->page_sem);
	return 0;
}

static noinline int map_dump(struct region_map *m)
{
	down_read(&m->map_sem);
	pr_info("rwmap: %lu\n", m->pages);
	up_read(&m->map_sem);
	return 0;
}

static int rw_command(char *cmd)
{
	if (!strcmp(cmd, "lookup"))
		return map_lookup(&rm);
	if (!strcmp(cmd, "fill"))
		return page_fill(&rm);
	if (!strcmp(cmd, "dump"))
		return map_dump(&rm);
	return -EINVAL;
}
PLAT_CMD_FILE(rwmap, rw_command);

static int __init rwmap_init(void)
{
	init_rwsem(&rm.map_sem);
	init_rwsem(&rm.page_sem);
	proc_create("rwmap", 0200, NULL, &rwmap_pops);
	return 0;
}
module_init(rwmap_init);
