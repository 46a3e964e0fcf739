// SPDX-License-Identifier: GPL-2.0-only
#include "lab.h"
#include <linux/refcount.h>
#include <linux/err.h>
#include <linux/hashtable.h>
#include <linux/kref.h>

struct nl_stats { u64 rx; u64 tx; atomic_t drops; u32 flags; };
struct nl_port {
	char name[16];
	struct nl_stats *stats;
	struct { u32 speed; u32 duplex; };
	union { u64 raw; struct { u16 lo, hi; } half; } cfg;
	u32 on:1, full:1, pause:3;
	struct mutex lock;
	spinlock_t slock;
	struct list_head node;
	struct kref ref;
	unsigned long bits;
	struct nl_slot { u32 key; u32 val; u64 pad; } slots[8];
	wait_queue_head_t wq;
	struct work_struct work;
	char *label;
	u8 mac[6];
};
struct nl_switch { int nr; struct nl_port *port[4]; struct nl_port *uplink; struct nl_ops *ops; };
struct nl_ops { int (*open)(struct nl_port *p); int (*poll)(struct nl_port *p, int budget); };
static struct nl_switch sw;
static u64 sink;

static noinline void chain_read(struct nl_switch *s, int i)
{
	sink = s->port[i]->stats->tx; /* @chain */
}
static noinline void write_member(struct nl_port *p, u32 speed)
{
	p->duplex = speed; /* @wmember */
}
static noinline struct nl_port *find_port(int i)
{
	if (i > 3)
		return ERR_PTR(-ENODEV);
	return sw.port[i];
}
static noinline void errptr(int i)
{
	struct nl_port *p = find_port(i);

	sink += p->cfg.raw; /* @errptr */
}
static inline void port_drop(struct nl_port *p)
{
	atomic_inc(&p->stats->drops); /* @atomic */
}
static noinline void atomic_case(struct nl_port *p)
{
	port_drop(p);
	sink++;
}
static noinline void mutex_case(struct nl_switch *s)
{
	struct nl_port *p = s->uplink;

	mutex_lock(&p->lock); /* @mutex */
	p->speed = 1;
	mutex_unlock(&p->lock);
}
static noinline void spin_case(struct nl_switch *s)
{
	unsigned long flags;

	spin_lock_irqsave(&s->uplink->slock, flags); /* @spin */
	s->nr++;
	spin_unlock_irqrestore(&s->uplink->slock, flags);
}
static noinline void bit_case(struct nl_port *p)
{
	set_bit(3, &p->bits); /* @bit */
}
static noinline void kref_case(struct nl_port *p)
{
	kref_get(&p->ref); /* @kref */
}
static noinline void slot_case(struct nl_port *p, int i)
{
	p->slots[i].val = i; /* @slot */
	sink++;
}
static noinline void bitfield_case(struct nl_port *p)
{
	if (p->pause == 3) /* @bitfield */
		sink++;
}
static noinline void strcmp_case(struct nl_port *p, const char *s)
{
	if (!strcmp(p->label, s)) /* @strcmp */
		sink++;
}
static noinline void memcpy_case(struct nl_port *p, size_t n)
{
	static char buf[256];

	memcpy(buf, p->stats, n); /* @memcpy */
	sink += buf[3];
}
static noinline void memset_case(struct nl_switch *s, size_t n)
{
	memset(s->uplink->mac, 0, n); /* @memset */
	sink++;
}
static noinline void call_ops(struct nl_switch *s)
{
	sink += s->ops->poll(s->uplink, 64); /* @ops */
}
static noinline void wake_case(struct nl_port *p)
{
	wake_up(&p->wq); /* @wake */
	sink++;
}
static noinline void list_case(struct nl_switch *s)
{
	struct list_head *h = &s->uplink->node;
	struct nl_port *p;

	list_for_each_entry(p, h, node) { /* @listwalk */
		sink += p->speed;
	}
}
static noinline void container_case(struct list_head *n)
{
	struct nl_port *p = container_of(n, struct nl_port, node);

	sink += p->full; /* @container */
}
static noinline void strscpy_case(struct nl_port *p, const char *s)
{
	strscpy(p->name, s, sizeof(p->name)); /* @strscpy */
	sink++;
}
static noinline void seq_case(struct nl_port *p)
{
	pr_info("port %s speed %u\n", p->name, p->speed); /* @printk */
}
static struct nl_ops ops_garbage = { .poll = (void *)0x4141414141414141ull };
static u64 data_fn[4];
static struct nl_ops ops_data = { .poll = (void *)data_fn };

static int nulls_run(char *name)
{
	int i = strlen(name) & 3;
	struct nl_port *p;

	if (!sw.port[1])
		sw.port[1] = kzalloc(sizeof(*p), GFP_KERNEL);
	if (!strcmp(name, "chain")) chain_read(&sw, 1);
	else if (!strcmp(name, "wmember")) write_member(sw.uplink, 10);
	else if (!strcmp(name, "errptr")) errptr(i + 4);
	else if (!strcmp(name, "atomic")) atomic_case(sw.port[1]);
	else if (!strcmp(name, "mutex")) mutex_case(&sw);
	else if (!strcmp(name, "spin")) spin_case(&sw);
	else if (!strcmp(name, "bit")) bit_case(sw.uplink);
	else if (!strcmp(name, "kref")) kref_case(sw.uplink);
	else if (!strcmp(name, "slot")) slot_case(sw.uplink, i + 2);
	else if (!strcmp(name, "bitfield")) bitfield_case(sw.uplink);
	else if (!strcmp(name, "strcmp")) strcmp_case(sw.port[1], name);
	else if (!strcmp(name, "memcpy")) memcpy_case(sw.port[1], 100 + i);
	else if (!strcmp(name, "memset")) memset_case(&sw, 100 + i);
	else if (!strcmp(name, "ops")) call_ops(&sw);
	else if (!strcmp(name, "opsnull")) { static struct nl_ops o; sw.ops = &o; call_ops(&sw); }
	else if (!strcmp(name, "opsgarbage")) { sw.ops = &ops_garbage; call_ops(&sw); }
	else if (!strcmp(name, "opsdata")) { sw.ops = &ops_data; call_ops(&sw); }
	else if (!strcmp(name, "wake")) wake_case(sw.port[1]);
	else if (!strcmp(name, "listwalk")) list_case(&sw);
	else if (!strcmp(name, "container")) container_case(NULL);
	else if (!strcmp(name, "strscpy")) strscpy_case(sw.uplink, name);
	else if (!strcmp(name, "printk")) seq_case(sw.uplink);
	else if (!strcmp(name, "ascii")) {
		p = kzalloc(sizeof(*p), GFP_KERNEL);
		memcpy(&p->stats, "overflow", 8);
		sw.port[2] = p;
		chain_read(&sw, 2);
	} else return -EINVAL;
	return 0;
}
LAB_CASES(nulls, nulls_run);
