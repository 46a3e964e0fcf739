/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _TIDELINK_H
#define _TIDELINK_H

#include <linux/mutex.h>
#include <linux/time64.h>
#include <linux/types.h>

#include "tidelink_uapi.h"

#define TIDE_MAX_STATIONS	16
#define TIDE_RING_SIZE		64
#define TIDE_MAX_GAIN_PPM	50000
#define TIDE_SURGE_HYST_MM	100

struct tide_sample {
	time64_t		when;
	u32			seq;
	s32			raw_mm;
	s16			temp;
	u8			flags;
};

/* Where chart datum lies, seen from a gauge's zero */
struct tide_datum {
	char			label[TIDELINK_NAME_LEN];
	time64_t		set_at;
	s32			gain_ppm;
	s32			offset_mm;
	s32			alarm_mm;
};

struct tide_station {
	char			name[TIDELINK_NAME_LEN];
	u8			id;

	struct mutex		lock;		/* protects all below */
	struct tide_datum	*datum;		/* NULL: not surveyed yet */
	unsigned long		telegrams;
	unsigned long		lost;
	unsigned long		restarts;
	u32			next_seq;
	bool			surge;
	bool			battery_low;

	unsigned int		head;		/* where the next sample goes */
	unsigned int		count;
	struct tide_sample	ring[TIDE_RING_SIZE];
};

/* Level above chart datum */
static inline s32 tide_datum_level(const struct tide_datum *d, s32 raw_mm)
{
	return raw_mm + raw_mm * d->gain_ppm / 1000000 + d->offset_mm;
}

int tide_frame_consume(const struct tidelink_telegram *tg);

int tide_station_add(const struct tidelink_station_desc *desc);
struct tide_station *tide_station_find(u8 id);
const struct tide_sample *tide_ring_last(const struct tide_station *st);
void tide_station_push(struct tide_station *st, const struct tide_sample *s);
int tide_station_set_datum(const struct tidelink_datum_desc *desc);
void tide_stations_free(void);

void tide_debugfs_init(void);
void tide_debugfs_exit(void);

#endif /* _TIDELINK_H */
