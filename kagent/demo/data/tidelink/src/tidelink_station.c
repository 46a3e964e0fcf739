// SPDX-License-Identifier: GPL-2.0
/*
 * tidelink - the stations and what is known about them
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ktime.h>
#include <linux/limits.h>
#include <linux/math.h>
#include <linux/minmax.h>
#include <linux/mutex.h>
#include <linux/printk.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "tidelink.h"

/* Entries are only ever added until the module is unloaded */
static struct tide_station *tide_stations[TIDE_MAX_STATIONS];
static DEFINE_MUTEX(tide_stations_lock);

int tide_station_add(const struct tidelink_station_desc *desc)
{
	struct tide_station *st;
	int ret = 0;

	if (desc->id >= TIDE_MAX_STATIONS || !desc->name[0])
		return -EINVAL;

	st = kzalloc(sizeof(*st), GFP_KERNEL);
	if (!st)
		return -ENOMEM;

	mutex_init(&st->lock);
	st->id = desc->id;
	strscpy(st->name, desc->name, sizeof(st->name));

	mutex_lock(&tide_stations_lock);
	if (tide_stations[st->id])
		ret = -EEXIST;
	else
		tide_stations[st->id] = st;
	mutex_unlock(&tide_stations_lock);

	if (ret) {
		kfree(st);
		return ret;
	}

	pr_info("station %u is %s\n", st->id, st->name);
	return 0;
}

struct tide_station *tide_station_find(u8 id)
{
	struct tide_station *st = NULL;

	mutex_lock(&tide_stations_lock);
	if (id < TIDE_MAX_STATIONS)
		st = tide_stations[id];
	mutex_unlock(&tide_stations_lock);

	return st;
}

static void tide_seq_check(struct tide_station *st, u32 seq)
{
	if (st->telegrams) {
		if (seq >= st->next_seq)
			st->lost += seq - st->next_seq;
		else
			st->restarts++;
	}
	st->next_seq = seq + 1;
}

static void tide_ring_add(struct tide_station *st, const struct tide_sample *s)
{
	st->ring[st->head] = *s;
	st->head = (st->head + 1) % TIDE_RING_SIZE;
	if (st->count < TIDE_RING_SIZE)
		st->count++;
}

/* The latest sample, NULL if there is none */
const struct tide_sample *tide_ring_last(const struct tide_station *st)
{
	if (!st->count)
		return NULL;

	return &st->ring[(st->head - 1) % TIDE_RING_SIZE];
}

static void tide_surge_check(struct tide_station *st, s32 raw_mm)
{
	s32 level = tide_datum_level(st->datum, raw_mm);
	s32 limit = st->datum->alarm_mm;
	bool surge;

	if (st->surge)
		limit -= TIDE_SURGE_HYST_MM;

	surge = level >= limit;
	if (surge == st->surge)
		return;

	st->surge = surge;
	if (surge)
		pr_warn("%s: storm surge, %d mm above %s\n", st->name, level,
			st->datum->label);
	else
		pr_notice("%s: surge is over\n", st->name);
}

static void tide_battery_check(struct tide_station *st, u8 flags)
{
	bool low = flags & TIDELINK_FLAG_BATTERY;

	if (low && !st->battery_low)
		pr_notice("%s: battery is low\n", st->name);
	st->battery_low = low;
}

void tide_station_push(struct tide_station *st, const struct tide_sample *s)
{
	mutex_lock(&st->lock);
	tide_seq_check(st, s->seq);
	tide_ring_add(st, s);
	tide_battery_check(st, s->flags);
	tide_surge_check(st, s->raw_mm);
	st->telegrams++;
	mutex_unlock(&st->lock);
}

int tide_station_set_datum(const struct tidelink_datum_desc *desc)
{
	struct tide_station *st;
	struct tide_datum *d;

	if (abs(desc->gain_ppm) > TIDE_MAX_GAIN_PPM || !desc->label[0])
		return -EINVAL;

	st = tide_station_find(desc->station);
	if (!st)
		return -ENODEV;

	d = kzalloc(sizeof(*d), GFP_KERNEL);
	if (!d)
		return -ENOMEM;

	strscpy(d->label, desc->label, sizeof(d->label));
	d->set_at = ktime_get_real_seconds();
	d->gain_ppm = desc->gain_ppm;
	d->offset_mm = desc->offset_mm;
	d->alarm_mm = desc->alarm_mm ?: S32_MAX;

	mutex_lock(&st->lock);
	swap(st->datum, d);
	mutex_unlock(&st->lock);

	kfree(d);
	return 0;
}

void tide_stations_free(void)
{
	int i;

	for (i = 0; i < TIDE_MAX_STATIONS; i++) {
		if (tide_stations[i])
			kfree(tide_stations[i]->datum);
		kfree(tide_stations[i]);
	}
}
