/* A histogram of how long tasks wait for a processor: tracepoints with types whose members are
 * adapted to the kernel, two hash maps, a cgroup array; what the tool of this name does. */
#include "bpf.h"

struct task_struct {
	int pid;
	int tgid;
	unsigned int __state;
	char comm[16];
} KERNEL;
/* How it was before Linux 5.14. */
struct task_struct___old {
	long state;
} KERNEL;

struct histogram {
	u32 slots[26];
	char comm[16];
};

struct {
	NUMBER(type, CGROUP_ARRAY);
	NUMBER(key_size, sizeof(u32));
	NUMBER(value_size, sizeof(u32));
	NUMBER(max_entries, 1);
} cgroups SEC(".maps");
MAP(starts, HASH, u32, u64, 10240);
MAP(histograms, HASH, u32, struct histogram, 10240);

const volatile u8 filter_cgroup = 0;
const volatile u8 targ_per_process = 0;
const volatile u8 targ_per_thread = 0;
const volatile u8 targ_per_pidns = 0;
const volatile u8 targ_ms = 0;
const volatile int targ_tgid = 0;

static struct histogram empty;

static NOINLINE int enqueue(u32 tgid, u32 pid)
{
	u64 now = ktime_ns();

	if (pid && (!targ_tgid || targ_tgid == tgid))
		map_update(&starts, &pid, &now, 0);
	return 0;
}

static NOINLINE u32 log2_of(u64 value)
{
	u32 result = 0;

	for (int i = 0; i < 25; i++)
		if (value >>= 1)
			result++;
	return result;
}

static int is_runnable(struct task_struct *task)
{
	struct task_struct___old *old = (void *)task;

	if (__builtin_preserve_field_info(task->__state, 2))
		return task->__state == 0;
	return old->state == 0;
}

SEC("tp_btf/sched_wakeup")
int sched_wakeup(u64 *context)
{
	struct task_struct *task = (void *)context[0];

	if (filter_cgroup && !current_under_cgroup(&cgroups, 0))
		return 0;
	return enqueue(task->tgid, task->pid);
}

SEC("tp_btf/sched_wakeup_new")
int sched_wakeup_new(u64 *context)
{
	struct task_struct *task = (void *)context[0];

	return enqueue(task->tgid, task->pid);
}

SEC("tp_btf/sched_switch")
int sched_switch(u64 *context)
{
	struct task_struct *before = (void *)context[1], *next = (void *)context[2];
	u32 pid = next->pid, key = -1;
	struct histogram *histogram;
	u64 *start, waited;
	u32 slot;

	if (is_runnable(before))
		enqueue(before->tgid, before->pid);
	start = map_lookup(&starts, &pid);
	if (!start)
		return 0;
	waited = ktime_ns() - *start;
	map_delete(&starts, &pid);
	if (targ_per_process)
		key = next->tgid;
	else if (targ_per_thread)
		key = pid;
	histogram = map_lookup(&histograms, &key);
	if (!histogram) {
		map_update(&histograms, &key, &empty, 1);
		histogram = map_lookup(&histograms, &key);
		if (!histogram)
			return 0;
		read_kernel(histogram->comm, sizeof(histogram->comm), next->comm);
	}
	slot = log2_of(waited / (targ_ms ? 1000000 : 1000));
	if (slot > 25)
		slot = 25;
	__sync_fetch_and_add(&histogram->slots[slot], 1);
	return 0;
}

LICENSE("GPL");
