/* SPDX-License-Identifier: GPL-2.0 */
struct bay {
	struct mutex		slot_lock;
	struct list_head	node;
	struct shelf		*shelf;
	int			id;
};

struct shelf {
	struct mutex		lock;
	struct list_head	bays;
	int			n;
};

static inline void bay_lock(struct bay *b)
{
	mutex_lock(&b->slot_lock);
}

static inline void bay_unlock(struct bay *b)
{
	mutex_unlock(&b->slot_lock);
}

#define shelf_lock(s)	mutex_lock(&(s)->lock)
#define shelf_unlock(s)	mutex_unlock(&(s)->lock)
