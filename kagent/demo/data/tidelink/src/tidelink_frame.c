// SPDX-License-Identifier: GPL-2.0
/*
 * tidelink - decoding of telegrams
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/ktime.h>
#include <linux/printk.h>
#include <linux/stddef.h>
#include <asm/byteorder.h>

#include "tidelink.h"

#define TIDE_CHECKSUM_SEED	0x5aa5

static u16 tide_frame_checksum(const struct tidelink_telegram *tg)
{
	const u8 *p = (const u8 *)tg;
	u16 sum = TIDE_CHECKSUM_SEED;
	size_t i;

	for (i = 0; i < offsetof(struct tidelink_telegram, checksum); i++)
		sum = ((sum << 1) | (sum >> 15)) ^ p[i];

	return sum;
}

int tide_frame_consume(const struct tidelink_telegram *tg)
{
	struct tide_station *st;
	struct tide_sample s;

	if (le16_to_cpu(tg->magic) != TIDELINK_MAGIC)
		return -EBADMSG;

	if (le16_to_cpu(tg->checksum) != tide_frame_checksum(tg)) {
		pr_debug("bad checksum from station %u\n", tg->station);
		return -EBADMSG;
	}

	st = tide_station_find(tg->station);
	if (!st)
		return -ENODEV;

	s.when = ktime_get_real_seconds();
	s.seq = le32_to_cpu(tg->seq);
	s.raw_mm = le32_to_cpu(tg->level_mm);
	s.temp = le16_to_cpu(tg->temp);
	s.flags = tg->flags;
	tide_station_push(st, &s);

	return 0;
}
