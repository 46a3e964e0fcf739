/* SPDX-License-Identifier: GPL-2.0-only */
/* What every module of the fault lab includes: /proc/NAME takes the name of a case. */
#ifndef FAULT_LAB_H
#define FAULT_LAB_H

#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/proc_fs.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

MODULE_LICENSE("GPL");

#define LAB_CASES(module, run)						\
static ssize_t module##_case(struct file *file, const char __user *from,	\
			     size_t size, loff_t *at)			\
{									\
	char name[32] = "";						\
	int error;							\
									\
	if (size >= sizeof(name) || copy_from_user(name, from, size))	\
		return -EINVAL;						\
	error = run(name);						\
	return error ? error : size;					\
}									\
static const struct proc_ops module##_proc = { .proc_write = module##_case };	\
static int __init module##_start(void)					\
{									\
	return proc_create(#module, 0200, NULL, &module##_proc) ? 0 : -ENOMEM;	\
}									\
module_init(module##_start)

#endif
