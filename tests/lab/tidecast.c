// SPDX-License-Identifier: GPL-2.0
/*
 * tidecast - feed the tidelink driver like the gateway daemon does
 *
 * Two surveyed stations send a few telegrams, enough for a surge and a low
 * battery. Then a new gauge is installed, which nobody has surveyed yet, and
 * sends its first telegram.
 */
#include <endian.h>
#include <err.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tidelink_uapi.h"

static int dev;

static void add_station(uint8_t id, const char *name)
{
	struct tidelink_station_desc desc = { .id = id };

	strncpy(desc.name, name, sizeof(desc.name) - 1);
	if (ioctl(dev, TIDELINK_ADD_STATION, &desc))
		err(1, "cannot add station %s", name);
}

static void set_datum(uint8_t id, int32_t gain_ppm, int32_t offset_mm,
		      int32_t alarm_mm)
{
	struct tidelink_datum_desc desc = {
		.station = id,
		.gain_ppm = gain_ppm,
		.offset_mm = offset_mm,
		.alarm_mm = alarm_mm,
		.label = "chart datum",
	};

	if (ioctl(dev, TIDELINK_SET_DATUM, &desc))
		err(1, "cannot set the datum of station %u", id);
}

static uint16_t checksum(const struct tidelink_telegram *tg)
{
	const uint8_t *p = (const uint8_t *)tg;
	uint16_t sum = 0x5aa5;
	size_t i;

	for (i = 0; i < offsetof(struct tidelink_telegram, checksum); i++)
		sum = ((sum << 1) | (sum >> 15)) ^ p[i];

	return sum;
}

static void send_telegram(uint8_t id, uint8_t flags, uint32_t seq,
			  int32_t level_mm)
{
	struct tidelink_telegram tg = {
		.magic = htole16(TIDELINK_MAGIC),
		.station = id,
		.flags = flags,
		.seq = htole32(seq),
		.level_mm = htole32(level_mm),
		.temp = htole16(1140),
	};

	tg.checksum = htole16(checksum(&tg));
	if (write(dev, &tg, sizeof(tg)) != sizeof(tg))
		err(1, "telegram %u of station %u", seq, id);
}

int main(void)
{
	dev = open("/dev/tidelink", O_WRONLY);
	if (dev < 0)
		err(1, "/dev/tidelink");

	add_station(1, "north-mole");
	set_datum(1, 1200, -1840, 5200);
	add_station(4, "lock-gate");
	set_datum(4, -350, -2115, 5200);

	send_telegram(1, 0, 88120, 6985);
	send_telegram(4, 0, 51002, 7290);
	send_telegram(1, 0, 88121, 7012);
	send_telegram(4, TIDELINK_FLAG_BATTERY, 51003, 7301);
	send_telegram(1, 0, 88122, 7060);

	add_station(7, "ferry-pier");

	/* Each radio modem has a process of its own, this is the pier's */
	if (fork() == 0) {
		send_telegram(7, 0, 0, 6871);
		return 0;
	}
	wait(NULL);

	return 0;
}
