// SPDX-License-Identifier: GPL-2.0-only
#include "lab.h"
#include <linux/completion.h>
#include <linux/interrupt.h>
#include <linux/kernel.h>
#include <linux/rcupdate.h>
#include <linux/semaphore.h>
#include <linux/seq_file.h>
#include <linux/idr.h>
#include <linux/xarray.h>
#include <linux/percpu.h>
#include <linux/hrtimer.h>

struct ms_hdr { u16 type; u16 len; u32 seq; };
struct ms_buf { struct ms_hdr hdr; u8 *head; u8 *tail; char name[12]; struct ms_buf *next; };
struct ms_dev {
	int id;
	char *model;
	struct semaphore sem;
	struct completion done;
	struct timer_list timer;
	struct work_struct work;
	struct workqueue_struct *wq;
	struct list_head queue;
	struct ms_buf *rx;
	struct ms_buf inl;
	const struct ms_vec *vec;
	void *priv;
	struct rcu_head rcu;
	struct xarray table;
	struct hrtimer hr;
	struct kobject kobj;
	int __percpu *hits;
	struct tasklet_struct tl;
	u8 ring[16];
};
struct ms_vec { const char *name; int (*fn[3])(struct ms_dev *d, int v); };

static struct ms_dev *dev;
static struct ms_dev zero;
static const u32 frozen[4] = { 1, 2, 3, 4 };
static u64 sink;

static int vec_ok(struct ms_dev *d, int v) { return d->id + v; }
static const struct ms_vec vec_one = { .name = "one", .fn = { vec_ok } };

static noinline void sem_null(struct ms_dev *d)
{
	down(&d->sem); /* @sem */
	sink++;
}
static noinline void complete_null(struct ms_dev *d)
{
	complete(&d->done); /* @complete */
	sink++;
}
static noinline void wait_null(struct ms_dev *d)
{
	wait_for_completion(&d->done); /* @waitc */
	sink++;
}
static noinline void timer_null(struct ms_dev *d)
{
	mod_timer(&d->timer, jiffies + 100); /* @modtimer */
	sink++;
}
static noinline void queue_null(struct ms_dev *d)
{
	queue_work(d->wq, &d->work); /* @queuework */
	sink++;
}
static noinline void work_null(struct ms_dev *d)
{
	schedule_work(&d->work); /* @schedwork */
	sink++;
}
static noinline void list_add_zero(struct ms_dev *d, struct list_head *n)
{
	list_add_tail(n, &d->queue); /* @listaddzero */
	sink++;
}
static noinline u32 buf_len(struct ms_dev *d)
{
	return d->rx->hdr.len; /* @buflen */
}
static noinline void buf_push(struct ms_dev *d, u8 c)
{
	*d->rx->tail++ = c; /* @bufpush */
}
static noinline void buf_store(struct ms_dev *d, u8 c)
{
	d->inl.tail[3] = c; /* @bufstore */
}
static noinline char first_char(struct ms_dev *d)
{
	return d->model[0]; /* @firstchar */
}
static noinline int vec_call(struct ms_dev *d, int i)
{
	return d->vec->fn[i](d, 3) + 1; /* @veccall */
}
static noinline int priv_cast(struct ms_dev *d)
{
	struct ms_buf *b = d->priv;

	return b->hdr.seq + b->name[2]; /* @priv */
}
static noinline void chain_walk(struct ms_buf *b)
{
	while (b->hdr.len < 100) /* @chainwalk */
		b = b->next;
	sink += b->hdr.len;
}
static noinline void rodata_write(int i)
{
	((u32 *)frozen)[i] = 7; /* @rodata */
	sink++;
}
static noinline void kfree_wild(struct ms_dev *d)
{
	kfree(d->priv); /* @kfreewild */
	sink++;
}
static noinline int parse_null(struct ms_dev *d)
{
	int v;

	if (kstrtoint(d->model, 0, &v)) /* @kstrtoint */
		return -1;
	return v + 1;
}
static noinline char *dup_null(struct ms_dev *d)
{
	char *s = strchr(d->model, 'x'); /* @strchr */

	return s ? s + 1 : NULL;
}
static noinline void scnprintf_bad(struct ms_dev *d, char *out, size_t n)
{
	sink += scnprintf(out, n, "%s/%u", d->rx->name, d->id); /* @snprintf */
}
static noinline void percpu_bad(struct ms_dev *d)
{
	this_cpu_inc(*d->hits); /* @percpu */
	sink++;
}
static noinline void xa_bad(struct ms_dev *d)
{
	sink += (unsigned long)xa_load(&d->table, 77); /* @xaload */
}
static noinline void copy_null(struct ms_dev *d, const char __user *u)
{
	if (copy_from_user(d->rx->head, u, 64)) /* @copyfrom */
		sink++;
}
static noinline void memmove_bad(struct ms_dev *d, size_t n)
{
	memmove(d->inl.head, d->ring, n); /* @memmove */
	sink++;
}
static void tl_fn(unsigned long data)
{
	struct ms_dev *d = (void *)data;

	sink += d->rx->hdr.seq; /* @tasklet */
}
static enum hrtimer_restart hr_fn(struct hrtimer *t)
{
	struct ms_dev *d = container_of(t, struct ms_dev, hr);

	sink += d->vec->name[0]; /* @hrtimer */
	return HRTIMER_NORESTART;
}
static void rcu_fn(struct rcu_head *h)
{
	struct ms_dev *d = container_of(h, struct ms_dev, rcu);

	sink += d->rx->next->hdr.type; /* @rcucb */
}
static int thread_fn(void *arg)
{
	struct ms_dev *d = arg;

	msleep(20);
	sink += d->rx->name[1]; /* @kthread */
	return 0;
}
static noinline void atomic_sleep(struct ms_dev *d)
{
	static DEFINE_SPINLOCK(l);

	spin_lock(&l);
	msleep(d->id + 1); /* @atomicsleep */
	spin_unlock(&l);
}
static noinline void uaf_embedded(struct ms_dev *d)
{
	sink += d->inl.hdr.seq; /* @uafembedded */
}
static noinline u8 uaf_array(struct ms_dev *d, int i)
{
	return d->ring[i]; /* @uafarray */
}
static noinline void oob_copy(struct ms_dev *d, const char *s, size_t n)
{
	memcpy(d->rx->name, s, n); /* @oobcopy */
	sink++;
}
static noinline void oob_strcpy(char *out, struct ms_dev *d)
{
	strcpy(out, d->model); /* @oobstrcpy */
	sink++;
}
static noinline struct ms_dev *dev_new(void)
{
	return kzalloc(sizeof(*dev), GFP_KERNEL); /* @devalloc */
}
static int free_thread(void *arg)
{
	kfree(arg); /* @devfree */
	return 0;
}
static void rcu_free_fn(struct rcu_head *h)
{
	kfree(container_of(h, struct ms_dev, rcu)); /* @rcufree */
}
static int mixed_run(char *name)
{
	static char text[256];
	struct ms_dev *d = dev_new();

	if (!d)
		return -ENOMEM;
	if (!strcmp(name, "sem"))
		sem_null(dev);
	else if (!strcmp(name, "complete"))
		complete_null(dev);
	else if (!strcmp(name, "completezero"))
		complete_null(&zero);
	else if (!strcmp(name, "waitc"))
		wait_null(dev);
	else if (!strcmp(name, "modtimer"))
		timer_null(&zero);
	else if (!strcmp(name, "modtimernull"))
		timer_null(dev);
	else if (!strcmp(name, "queuework"))
		queue_null(d);
	else if (!strcmp(name, "schedwork"))
		work_null(dev);
	else if (!strcmp(name, "listaddzero"))
		list_add_zero(d, &zero.queue);
	else if (!strcmp(name, "buflen"))
		sink += buf_len(d);
	else if (!strcmp(name, "bufpush")) {
		d->rx = kzalloc(sizeof(*d->rx), GFP_KERNEL);
		buf_push(d, 1);
	} else if (!strcmp(name, "bufstore"))
		buf_store(d, 2);
	else if (!strcmp(name, "firstchar"))
		sink += first_char(d);
	else if (!strcmp(name, "veccall")) {
		d->vec = &vec_one;
		sink += vec_call(d, 1);
	} else if (!strcmp(name, "vecnull"))
		sink += vec_call(d, 0);
	else if (!strcmp(name, "priv"))
		sink += priv_cast(d);
	else if (!strcmp(name, "chainwalk")) {
		d->inl.next = (void *)0xdead000000000100ul;
		chain_walk(&d->inl);
	} else if (!strcmp(name, "rodata"))
		rodata_write(strlen(name) & 3);
	else if (!strcmp(name, "kfreewild")) {
		d->priv = (void *)0x123456789abcul;
		kfree_wild(d);
	} else if (!strcmp(name, "kstrtoint"))
		sink += parse_null(d);
	else if (!strcmp(name, "strchr"))
		sink += (unsigned long)dup_null(d);
	else if (!strcmp(name, "snprintf"))
		scnprintf_bad(d, text, sizeof(text));
	else if (!strcmp(name, "percpu")) {
		d->hits = (void *)0x7654321000ul;
		percpu_bad(d);
	} else if (!strcmp(name, "xaload")) {
		d->table.xa_head = (void *)0x1002;
		xa_bad(d);
	} else if (!strcmp(name, "copyfrom"))
		copy_null(d, (void __user *)text);
	else if (!strcmp(name, "copyfrom2")) {
		d->rx = kzalloc(sizeof(*d->rx), GFP_KERNEL);
		copy_null(d, (void __user *)0x400000);
	} else if (!strcmp(name, "memmove"))
		memmove_bad(d, strlen(name) + 4);
	else if (!strcmp(name, "tasklet")) {
		tasklet_init(&d->tl, tl_fn, (unsigned long)d);
		tasklet_schedule(&d->tl);
	} else if (!strcmp(name, "hrtimer")) {
		hrtimer_init(&d->hr, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
		d->hr.function = hr_fn;
		hrtimer_start(&d->hr, ms_to_ktime(5), HRTIMER_MODE_REL);
		msleep(50);
	} else if (!strcmp(name, "rcucb")) {
		d->rx = kzalloc(sizeof(*d->rx), GFP_KERNEL);
		call_rcu(&d->rcu, rcu_fn);
	} else if (!strcmp(name, "kthread"))
		kthread_run(thread_fn, d, "ms_rx/%d", 3);
	else if (!strcmp(name, "atomicsleep"))
		atomic_sleep(d);
	else if (!strcmp(name, "uafembedded")) {
		kthread_run(free_thread, d, "ms_free");
		msleep(50);
		uaf_embedded(d);
	} else if (!strcmp(name, "uafarray")) {
		call_rcu(&d->rcu, rcu_free_fn);
		msleep(500);
		sink += uaf_array(d, 5);
	} else if (!strcmp(name, "oobcopy")) {
		d->rx = kzalloc(sizeof(*d->rx), GFP_KERNEL);
		oob_copy(d, text, 60);
	} else if (!strcmp(name, "oobstrcpy")) {
		d->model = "a name that is rather long";
		oob_strcpy(kmalloc(8, GFP_KERNEL), d);
	} else
		return -EINVAL;
	return 0;
}
LAB_CASES(mixed, mixed_run);
