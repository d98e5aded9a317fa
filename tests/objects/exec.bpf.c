/* Tells of each program that is executed and ends: ring buffer, hash map, a threshold in .rodata;
 * what libbpf's example "bootstrap" does. */
#include "bpf.h"

struct event {
	u32 pid;
	u32 exit_code;
	u64 duration;
	char comm[16];
};

struct signal_struct {
	int group_exit_code;
} KERNEL;
struct task_struct {
	int exit_code;
	struct task_struct *real_parent;
	int tgid;
	struct signal_struct *signal;
} KERNEL;

MAP(started, HASH, u32, u64, 8192);
struct {
	NUMBER(type, RINGBUF);
	NUMBER(max_entries, 256 * 1024);
} events SEC(".maps");

const volatile u64 min_duration_ns = 0;

static NOINLINE void tell(u32 pid, u64 duration, u32 exit_code)
{
	struct event *event = ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event)
		return;
	event->pid = pid;
	event->duration = duration;
	event->exit_code = exit_code;
	get_comm(event->comm, sizeof(event->comm));
	ringbuf_submit(event, 0);
}

SEC("tp/sched/sched_process_exec")
int handle_exec(void *context)
{
	u32 pid = pid_tgid() >> 32;
	u64 now = ktime_ns();

	map_update(&started, &pid, &now, 0);
	if (!min_duration_ns)
		tell(pid, 0, 0);
	return 0;
}

SEC("tp/sched/sched_process_exit")
int handle_exit(void *context)
{
	u32 pid = pid_tgid() >> 32;
	u64 *start = map_lookup(&started, &pid);
	struct task_struct *task = current_task();
	int code = 0;

	if (!start)
		return 0;
	read_kernel(&code, sizeof(code), &task->exit_code);
	if (ktime_ns() - *start >= min_duration_ns)
		tell(pid, ktime_ns() - *start, code >> 8);
	map_delete(&started, &pid);
	return 0;
}

LICENSE("Dual BSD/GPL");
