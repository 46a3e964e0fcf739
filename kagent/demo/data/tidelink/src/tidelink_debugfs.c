// SPDX-License-Identifier: GPL-2.0
/*
 * tidelink - debugfs files
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include "tidelink.h"

static struct dentry *tide_dir;

static int tidelink_stations_show(struct seq_file *m, void *unused)
{
	const struct tide_sample *s;
	struct tide_station *st;
	int i;

	for (i = 0; i < TIDE_MAX_STATIONS; i++) {
		st = tide_station_find(i);
		if (!st)
			continue;

		mutex_lock(&st->lock);
		seq_printf(m, "%2u %-15s %lu telegrams, %lu lost, %lu restarts",
			   st->id, st->name, st->telegrams, st->lost,
			   st->restarts);
		s = tide_ring_last(st);
		seq_printf(m, ", latest %d mm", s->raw_mm);
		if (st->datum)
			seq_printf(m, ", %d mm above %s",
				   tide_datum_level(st->datum, s->raw_mm),
				   st->datum->label);
		seq_putc(m, '\n');
		mutex_unlock(&st->lock);
	}

	return 0;
}
DEFINE_SHOW_ATTRIBUTE(tidelink_stations);

static int tidelink_history_show(struct seq_file *m, void *unused)
{
	const struct tide_sample *s;
	struct tide_station *st;
	unsigned int n;
	int i;

	for (i = 0; i < TIDE_MAX_STATIONS; i++) {
		st = tide_station_find(i);
		if (!st)
			continue;

		mutex_lock(&st->lock);
		for (n = st->count; n; n--) {
			s = &st->ring[(st->head - n) % TIDE_RING_SIZE];
			seq_printf(m, "%s %lld %u %d %d\n", st->name, s->when,
				   s->seq, s->raw_mm, s->temp);
		}
		mutex_unlock(&st->lock);
	}

	return 0;
}
DEFINE_SHOW_ATTRIBUTE(tidelink_history);

void tide_debugfs_init(void)
{
	tide_dir = debugfs_create_dir("tidelink", NULL);
	debugfs_create_file("stations", 0400, tide_dir, NULL,
			    &tidelink_stations_fops);
	debugfs_create_file("history", 0400, tide_dir, NULL,
			    &tidelink_history_fops);
}

void tide_debugfs_exit(void)
{
	debugfs_remove(tide_dir);
}
