#!/bin/busybox sh
# shellcheck shell=dash
# The lab's /init: load the driver, feed it telegrams, power off.

busybox mount -t devtmpfs none /dev
busybox mount -t proc none /proc
busybox mount -t sysfs none /sys

busybox insmod /tidelink.ko
/bin/tidecast

# Give the kernel the time to finish its report before the machine goes away
busybox sleep 2
busybox poweroff -f
