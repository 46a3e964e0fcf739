// SPDX-License-Identifier: GPL-2.0-only
#include "lab.h"
#include <linux/refcount.h>
#include <linux/rbtree.h>
#include <linux/math64.h>

struct ob_key { u32 id; u32 len; u8 *data; };
struct ob_item {
	struct list_head list;
	struct hlist_node hash;
	struct rb_node rb;
	struct ob_key key;
	refcount_t ref;
	u32 weight;
	u64 total;
	u64 period;
	char tag[24];
	struct timer_list timer;
	struct ob_item *parent;
	void (*dtor)(struct ob_item *it);
};
static LIST_HEAD(items);
static struct hlist_head buckets[4];
static struct rb_root tree;
static struct ob_item *cur;
static u64 sink;

static noinline struct ob_item *item_new(u32 id)
{
	struct ob_item *it = kzalloc(sizeof(*it), GFP_KERNEL); /* @alloc */

	if (!it)
		return NULL;
	it->key.id = id;
	refcount_set(&it->ref, 1);
	return it;
}
static noinline void item_free(struct ob_item *it)
{
	kfree(it); /* @free */
}
static inline u32 item_weight(const struct ob_item *it)
{
	return it->weight * 2; /* @uafread */
}
static noinline u32 uaf_read(struct ob_item *it)
{
	sink++;
	return item_weight(it) + 1;
}
static noinline void uaf_write(struct ob_item *it)
{
	it->total = 42; /* @uafwrite */
	sink++;
}
static noinline void uaf_memcpy(struct ob_item *it, const char *s, size_t n)
{
	memcpy(it->tag, s, n); /* @uafmemcpy */
	sink++;
}
static noinline void uaf_strlen(struct ob_item *it)
{
	sink += strlen(it->tag); /* @uafstrlen */
}
static noinline void uaf_parent(struct ob_item *it)
{
	sink += it->parent->key.len; /* @uafparent */
}
static noinline void uaf_call(struct ob_item *it)
{
	it->dtor(it); /* @uafcall */
	sink++;
}
static noinline void list_dbl_del(struct ob_item *it)
{
	list_del(&it->list);
	sink++;
	list_del(&it->list); /* @dbldel */
}
static noinline void hash_walk(int b)
{
	struct ob_item *it;

	hlist_for_each_entry(it, &buckets[b], hash) {
		sink += it->key.len; /* @hashwalk */
	}
}
static noinline void hash_del_twice(struct ob_item *it)
{
	hlist_del(&it->hash);
	sink++;
	hlist_del(&it->hash); /* @hashdel */
}
static noinline void rb_case(struct ob_item *it)
{
	rb_erase(&it->rb, &tree); /* @rberase */
}
static noinline void ref_case(struct ob_item *it)
{
	if (refcount_dec_and_test(&it->ref)) /* @refdec */
		sink++;
}
static noinline u64 div_case(struct ob_item *it)
{
	return div64_u64(it->total + 100, it->period); /* @div64 */
}
static noinline u32 mod_case(struct ob_item *it, u32 v)
{
	return v % it->weight; /* @mod */
}
static noinline void dbl_free(struct ob_item *it)
{
	item_free(it);
	kfree(it); /* @dblfree */
}
static noinline void bad_free(struct ob_item *it)
{
	kfree(&it->key); /* @badfree */
}
static noinline u8 oob_read(struct ob_item *it, int n)
{
	return it->key.data[n]; /* @oobread */
}
static noinline void oob_write(struct ob_item *it, int n)
{
	it->key.data[n] = 1; /* @oobwrite */
}
static noinline void oob_memset(struct ob_item *it, int n)
{
	memset(it->key.data, 0, n); /* @oobmemset */
}
static noinline void bug_case(struct ob_item *it)
{
	BUG_ON(it->weight < 5); /* @bugon */
	sink++;
}
static noinline int warn_case(struct ob_item *it)
{
	if (WARN_ON_ONCE(!it->parent)) /* @warnon */
		return -EINVAL;
	return 0;
}
static noinline int warn_msg(struct ob_item *it)
{
	return WARN(it->key.id != 3, "item %u is not 3\n", it->key.id); /* @warnmsg */
}
static noinline void user_deref(unsigned long v)
{
	struct ob_key *k = (void *)v;

	sink += k->len; /* @userderef */
}
static noinline void wild_deref(unsigned long v)
{
	struct ob_key *k = (void *)v;

	k->len = 7; /* @wild */
}
static noinline void timer_arm(struct ob_item *it);
static void item_timer(struct timer_list *t)
{
	struct ob_item *it = from_timer(it, t, timer);

	sink += it->parent->total; /* @timer */
}
static noinline void timer_arm(struct ob_item *it)
{
	timer_setup(&it->timer, item_timer, 0);
	mod_timer(&it->timer, jiffies + 2);
}
static noinline void work_fn(struct work_struct *w)
{
	struct ob_item *it = cur->parent;

	sink += it->key.id; /* @work */
}
static DECLARE_WORK(ob_work, work_fn);
static noinline void stack_oob(int n)
{
	u32 tab[8];
	int i;

	for (i = 0; i < 8; i++)
		tab[i] = i;
	sink += tab[n]; /* @stackoob */
}
static u32 gtab[6] = { 1, 2, 3, 4, 5, 6 };
static noinline u32 global_oob(int n)
{
	return gtab[n]; /* @globaloob */
}
static noinline void vmalloc_oob(u8 *v, int n)
{
	v[n] = 3; /* @vmalloc */
}
static noinline u32 shift_case(struct ob_item *it, int n)
{
	return it->weight << n; /* @shift */
}
static int objs_run(char *name)
{
	int n = strlen(name);
	struct ob_item *it = item_new(n);

	cur = it;
	if (!strcmp(name, "uafread")) { item_free(it); sink += uaf_read(it); }
	else if (!strcmp(name, "uafwrite")) { item_free(it); uaf_write(it); }
	else if (!strcmp(name, "uafmemcpy")) { item_free(it); uaf_memcpy(it, name, n + 1); }
	else if (!strcmp(name, "uafstrlen")) { item_free(it); uaf_strlen(it); }
	else if (!strcmp(name, "uafparent")) { it->parent = it; item_free(it); uaf_parent(it); }
	else if (!strcmp(name, "uafcall")) { item_free(it); uaf_call(it); }
	else if (!strcmp(name, "callnull")) { uaf_call(it); }
	else if (!strcmp(name, "dbldel")) { list_add_tail(&it->list, &items); list_dbl_del(it); }
	else if (!strcmp(name, "hashwalk")) { hlist_add_head(&it->hash, &buckets[n & 3]); it->hash.next = (void *)0x18; hash_walk(n & 3); }
	else if (!strcmp(name, "hashdel")) { hlist_add_head(&it->hash, &buckets[1]); hash_del_twice(it); }
	else if (!strcmp(name, "rberase")) { it->rb.rb_left = (void *)0x100; it->rb.rb_right = (void *)0x200; rb_case(it); }
	else if (!strcmp(name, "refdec")) { ref_case(it); ref_case(it); ref_case(it); }
	else if (!strcmp(name, "div64")) sink += div_case(it);
	else if (!strcmp(name, "mod")) sink += mod_case(it, 77);
	else if (!strcmp(name, "dblfree")) dbl_free(it);
	else if (!strcmp(name, "badfree")) bad_free(it);
	else if (!strcmp(name, "oobread")) { it->key.data = kmalloc(40, GFP_KERNEL); sink += oob_read(it, 44); }
	else if (!strcmp(name, "oobwrite")) { it->key.data = kmalloc(40, GFP_KERNEL); oob_write(it, 41); }
	else if (!strcmp(name, "oobmemset")) { it->key.data = kmalloc(40, GFP_KERNEL); oob_memset(it, 48); }
	else if (!strcmp(name, "bugon")) bug_case(it);
	else if (!strcmp(name, "warnon")) warn_case(it);
	else if (!strcmp(name, "warnmsg")) warn_msg(it);
	else if (!strcmp(name, "userderef")) user_deref(0x7f0000001000ul);
	else if (!strcmp(name, "wild")) wild_deref(0x1122334455667788ul);
	else if (!strcmp(name, "timer")) { it->parent = NULL; timer_arm(it); msleep(200); }
	else if (!strcmp(name, "work")) { schedule_work(&ob_work); flush_work(&ob_work); }
	else if (!strcmp(name, "stackoob")) stack_oob(n + 3);
	else if (!strcmp(name, "globaloob")) sink += global_oob(n);
	else if (!strcmp(name, "vmalloc")) { u8 *v = vmalloc(4096); vmalloc_oob(v, 4096 + n); }
	else if (!strcmp(name, "shift")) sink += shift_case(it, n + 40);
	else return -EINVAL;
	return 0;
}
LAB_CASES(objs, objs_run);
