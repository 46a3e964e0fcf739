// SPDX-License-Identifier: GPL-2.0
struct volume {
	struct mutex meta;
	struct mutex data;
	struct rw_semaphore tree;
	struct semaphore slots;
	struct completion done;
	struct work_struct work;
	struct timer_list timer;
	spinlock_t queue;
	struct task_struct *flusher;
};

static struct volume vol;

static void take_data(struct volume *v)
{
	mutex_lock(&v->data);
	mutex_unlock(&v->data);
}

static int flush_meta(struct volume *v)
{
	mutex_lock(&v->meta);
	if (!v->flusher) {
		mutex_unlock(&v->meta);
		return -ENODEV;
	}
	take_data(v);
	mutex_unlock(&v->meta);
	return 0;
}

static void take_meta(struct volume *v)
{
	mutex_lock(&v->meta);
	mutex_unlock(&v->meta);
}

static int trim_data(struct volume *v)
{
	mutex_lock(&v->data);
	take_meta(v);
	mutex_unlock(&v->data);
	return 0;
}

static void vol_work(struct work_struct *w)
{
	take_meta(&vol);
}

static void stop_work(struct volume *v)
{
	mutex_lock(&v->meta);
	cancel_work_sync(&v->work);
	mutex_unlock(&v->meta);
}

static void wait_done(struct volume *v)
{
	mutex_lock(&v->meta);
	wait_for_completion(&v->done);
	mutex_unlock(&v->meta);
}

static void finish(struct volume *v)
{
	mutex_lock(&v->meta);
	mutex_unlock(&v->meta);
	complete(&v->done);
}

static void read_tree(struct volume *v)
{
	down_read(&v->tree);
	read_again(v);
	up_read(&v->tree);
}

static void read_again(struct volume *v)
{
	down_read(&v->tree);
	up_read(&v->tree);
}

static void write_tree(struct volume *v)
{
	down_write(&v->tree);
	up_write(&v->tree);
}

static void use_slot(struct volume *v)
{
	down(&v->slots);
	up(&v->slots);
}

static void vol_timer(struct timer_list *t)
{
	struct volume *v = from_timer(v, t, timer);

	spin_lock(&v->queue);
	spin_unlock(&v->queue);
}

static void stop_timer(struct volume *v)
{
	spin_lock(&v->queue);
	timer_delete_sync(&v->timer);
	spin_unlock(&v->queue);
}

static int flush_thread(void *arg)
{
	take_data(arg);
	return 0;
}

static void stop_thread(struct volume *v)
{
	mutex_lock(&v->data);
	kthread_stop(v->flusher);
	mutex_unlock(&v->data);
}

static int vol_ioctl(struct file *file, unsigned int cmd)
{
	if (cmd == 1)
		return flush_meta(&vol);
	return trim_data(&vol);
}

static int vol_init(void)
{
	INIT_WORK(&vol.work, vol_work);
	timer_setup(&vol.timer, vol_timer, 0);
	vol.flusher = kthread_run(flush_thread, &vol, "vol_flush");
	return 0;
}
