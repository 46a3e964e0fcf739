// SPDX-License-Identifier: GPL-2.0
/*
 * tidelink - receiver for telegrams from harbour tide gauges
 *
 * A gateway daemon on the quay gets the telegrams from the radio modem and
 * passes them on through /dev/tidelink.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

#include "tidelink.h"

static ssize_t tidelink_write(struct file *file, const char __user *buf,
			      size_t len, loff_t *ppos)
{
	struct tidelink_telegram tg;
	size_t done = 0;
	int ret;

	while (len - done >= sizeof(tg)) {
		if (copy_from_user(&tg, buf + done, sizeof(tg)))
			return done ? done : -EFAULT;
		ret = tide_frame_consume(&tg);
		if (ret)
			return done ? done : ret;
		done += sizeof(tg);
	}

	return done ? done : -EINVAL;
}

static long tidelink_ioctl(struct file *file, unsigned int cmd,
			   unsigned long arg)
{
	struct tidelink_station_desc desc;
	struct tidelink_datum_desc datum;

	switch (cmd) {
	case TIDELINK_ADD_STATION:
		if (copy_from_user(&desc, (void __user *)arg, sizeof(desc)))
			return -EFAULT;
		return tide_station_add(&desc);
	case TIDELINK_SET_DATUM:
		if (copy_from_user(&datum, (void __user *)arg, sizeof(datum)))
			return -EFAULT;
		return tide_station_set_datum(&datum);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations tidelink_fops = {
	.owner		= THIS_MODULE,
	.write		= tidelink_write,
	.unlocked_ioctl	= tidelink_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.llseek		= noop_llseek,
};

static struct miscdevice tidelink_misc = {
	.minor		= MISC_DYNAMIC_MINOR,
	.name		= "tidelink",
	.fops		= &tidelink_fops,
	.mode		= 0600,
};

static int __init tidelink_init(void)
{
	int ret;

	ret = misc_register(&tidelink_misc);
	if (ret)
		return ret;

	tide_debugfs_init();
	return 0;
}

static void __exit tidelink_exit(void)
{
	tide_debugfs_exit();
	misc_deregister(&tidelink_misc);
	tide_stations_free();
}

module_init(tidelink_init);
module_exit(tidelink_exit);

MODULE_DESCRIPTION("Receiver for telegrams from harbour tide gauges");
MODULE_AUTHOR("Ines Hallgrim <ines.hallgrim@example.org>");
MODULE_LICENSE("GPL");
