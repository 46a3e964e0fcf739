// SPDX-License-Identifier: GPL-2.0
struct fan_curve {
	char name[24];
	u32 hyst;
	u32 nr;
};

struct fan_step {
	u32 temp;
	u32 duty;
};

struct fan_ops {
	int (*start)(struct fan *f);
	int (*stop)(struct fan *f);
};

struct fan {
	const char *label;
	struct list_head node;
	struct fan_curve *curve;
	const struct fan_ops *ops;
	struct mutex lock;
	u32 period;
	struct fan_step steps[4];
};

static struct fan chassis;
static LIST_HEAD(fans);

static u32 curve_size(const struct fan_curve *c)
{
	return c->nr;
}

static noinline int fan_apply(struct fan *f)
{
	u32 n = curve_size(f->curve);
	return n + strlen(f->label);
}

static noinline int fan_stop(struct fan *f)
{
	return f->ops->stop(f);
}

static noinline u32 fan_rate(struct fan *f)
{
	return 1000 / f->period;
}

static noinline void fan_drop(struct fan *f)
{
	list_del(&f->node);
	BUG_ON(f->period != 0);
}

static noinline u32 fan_report(struct fan *f)
{
	u32 n = f->curve->nr;

	pr_info("fan %u\n", n);
	return 0;
}

static noinline void fan_lock(struct fan *f)
{
	mutex_lock(&f->lock);
}

static noinline u32 fan_duty(struct fan *f, int i)
{
	return f->steps[i].duty;
}

static noinline char fan_initial(struct fan *f)
{
	return f->label[0];
}

static noinline void fan_forget(struct fan *f)
{
	kfree(f->label - 4);
}

static noinline void fan_enlist(struct fan *f)
{
	list_add_tail(&f->node, &chassis.node);
}
