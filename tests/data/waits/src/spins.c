// SPDX-License-Identifier: GPL-2.0
#include "plat.h"

struct nic {
	spinlock_t		tx_lock;
	spinlock_t		rx_lock;
	rwlock_t		cfg;
	struct timer_list	tick;
	struct completion	done;
	struct mutex		ctl;
	struct task_struct	*thr;
	int			n;
};

static struct nic nic0;

static void nic_tick(struct timer_list *t)
{
	struct nic *p = from_timer(p, t, tick);

	spin_lock(&p->tx_lock);
	p->n++;
	spin_unlock(&p->tx_lock);
}

static noinline int nic_stop(struct nic *p)
{
	spin_lock_bh(&p->tx_lock);
	mod_timer(&p->tick, jiffies);
	mdelay(100);
	del_timer_sync(&p->tick);
	spin_unlock_bh(&p->tx_lock);
	return 0;
}

static noinline int nic_push(struct nic *p)
{
	mod_timer(&p->tick, jiffies + 1);
	spin_lock(&p->tx_lock);
	mdelay(3000);
	spin_unlock(&p->tx_lock);
	return 0;
}

static noinline void nic_rx(struct nic *p)
{
	spin_lock(&p->rx_lock);
	p->n++;
	spin_unlock(&p->rx_lock);
}

static noinline int nic_send(struct nic *p)
{
	spin_lock(&p->tx_lock);
	mdelay(500);
	nic_rx(p);
	spin_unlock(&p->tx_lock);
	return 0;
}

static noinline int nic_poll(struct nic *p)
{
	spin_lock(&p->rx_lock);
	mdelay(500);
	spin_lock(&p->tx_lock);
	p->n++;
	spin_unlock(&p->tx_lock);
	spin_unlock(&p->rx_lock);
	return 0;
}

static int nic_thread(void *arg)
{
	struct nic *p = arg;

	while (!kthread_should_stop()) {
		mutex_lock(&p->ctl);
		p->n++;
		mutex_unlock(&p->ctl);
		msleep(20);
	}
	return 0;
}

static noinline int nic_kill(struct nic *p)
{
	mutex_lock(&p->ctl);
	msleep(200);
	kthread_stop(p->thr);
	mutex_unlock(&p->ctl);
	return 0;
}

static noinline int nic_finish(struct nic *p)
{
	msleep(200);
	mutex_lock(&p->ctl);
	p->n = 0;
	complete(&p->done);
	mutex_unlock(&p->ctl);
	return 0;
}

static noinline int nic_wait(struct nic *p)
{
	mutex_lock(&p->ctl);
	wait_for_completion(&p->done);
	mutex_unlock(&p->ctl);
	return 0;
}

static int nic_command(char *cmd)
{
	if (!strcmp(cmd, "stop"))
		return nic_stop(&nic0);
	if (!strcmp(cmd, "push"))
		return nic_push(&nic0);
	if (!strcmp(cmd, "send"))
		return nic_send(&nic0);
	if (!strcmp(cmd, "poll"))
		return nic_poll(&nic0);
	if (!strcmp(cmd, "wait"))
		return nic_wait(&nic0);
	if (!strcmp(cmd, "finish"))
		return nic_finish(&nic0);
	if (!strcmp(cmd, "thread")) {
		nic0.thr = kthread_run(nic_thread, &nic0, "nic_thr");
		return 0;
	}
	if (!strcmp(cmd, "kill"))
		return nic_kill(&nic0);
	return -EINVAL;
}
PLAT_CMD_FILE(spins, nic_command);

static int __init spins_init(void)
{
	spin_lock_init(&nic0.tx_lock);
	spin_lock_init(&nic0.rx_lock);
	mutex_init(&nic0.ctl);
	init_completion(&nic0.done);
	timer_setup(&nic0.tick, nic_tick, 0);
	proc_create("spins", 0200, NULL, &spins_pops);
	return 0;
}
module_init(spins_init);
