// SPDX-License-Identifier: GPL-2.0
#include "plat.h"

struct codec {
	struct mutex	reg_lock;
	int		*cache;
};

static struct codec cd;

static noinline int codec_sync(struct codec *c)
{
	return c->cache[4];
}

static noinline int codec_resume(struct codec *c)
{
	int rc;

	mutex_lock(&c->reg_lock);
	rc = codec_sync(c);
	mutex_unlock(&c->reg_lock);
	return rc;
}

static noinline int codec_read(struct codec *c)
{
	mutex_lock(&c->reg_lock);
	pr_info("diehold: %p\n", c->cache);
	mutex_unlock(&c->reg_lock);
	return 0;
}

static int codec_command(char *cmd)
{
	if (!strcmp(cmd, "resume"))
		return codec_resume(&cd);
	return codec_read(&cd);
}
PLAT_CMD_FILE(diehold, codec_command);

static int __init diehold_init(void)
{
	mutex_init(&cd.reg_lock);
	proc_create("diehold", 0200, NULL, &diehold_pops);
	return 0;
}
module_init(diehold_init);
