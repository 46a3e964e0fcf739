/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef _TIDELINK_UAPI_H
#define _TIDELINK_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define TIDELINK_MAGIC		0x544c	/* "TL" */
#define TIDELINK_NAME_LEN	16

#define TIDELINK_FLAG_BATTERY	0x01	/* battery is low */

/* What a gauge sends; write() takes any number of them in a row */
struct tidelink_telegram {
	__le16	magic;
	__u8	station;
	__u8	flags;
	__le32	seq;
	__le32	level_mm;	/* signed, from the gauge's own zero */
	__le16	temp;		/* signed, hundredths of a degree Celsius */
	__le16	checksum;
} __attribute__((packed));

struct tidelink_station_desc {
	__u8	id;
	__u8	reserved[7];
	char	name[TIDELINK_NAME_LEN];
};

/* Figures from the survey: level = raw * (1 + gain) + offset */
struct tidelink_datum_desc {
	__u8	station;
	__u8	reserved[3];
	__s32	gain_ppm;
	__s32	offset_mm;
	__s32	alarm_mm;	/* above datum, 0: no alarm */
	__s32	reserved2;
	char	label[TIDELINK_NAME_LEN];
};

#define TIDELINK_ADD_STATION	_IOW('t', 0x40, struct tidelink_station_desc)
#define TIDELINK_SET_DATUM	_IOW('t', 0x41, struct tidelink_datum_desc)

#endif /* _TIDELINK_UAPI_H */
