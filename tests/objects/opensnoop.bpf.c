/* Tells which files are opened: a hash map between entry and exit of the system call, a perf event
 * array for what is told, four variables in .rodata; what the tool of this name does. */
#include "bpf.h"

struct enter {
	u64 unused;
	s64 number;
	u64 arguments[6];
};
struct exit {
	u64 unused;
	s64 number;
	s64 result;
};
struct opening {
	const char *name;
	int flags;
};
struct event {
	u64 timestamp;
	u32 pid;
	u32 uid;
	s32 result;
	int flags;
	char comm[16];
	char name[255];
};

MAP(openings, HASH, u32, struct opening, 10240);
struct {
	NUMBER(type, PERF_EVENT_ARRAY);
	NUMBER(key_size, sizeof(u32));
	NUMBER(value_size, sizeof(u32));
} events SEC(".maps");

const volatile int targ_pid = 0;
const volatile int targ_tgid = 0;
const volatile u32 targ_uid = 0xffffffff;
const volatile u8 targ_failed = 0;

static NOINLINE int is_wanted(u32 tgid, u32 pid)
{
	return (!targ_tgid || targ_tgid == tgid) && (!targ_pid || targ_pid == pid);
}

static int entered(const char *name, int flags)
{
	u64 id = pid_tgid();
	u32 pid = id;
	struct opening opening = { name, flags };

	if (is_wanted(id >> 32, pid))
		map_update(&openings, &pid, &opening, 0);
	return 0;
}

static NOINLINE int left(struct exit *context)
{
	u32 pid = pid_tgid();
	struct opening *opening = map_lookup(&openings, &pid);
	struct event event = { 0 };

	if (!opening)
		return 0;
	if (!targ_failed || context->result < 0) {
		event.pid = pid_tgid() >> 32;
		event.result = context->result;
		event.flags = opening->flags;
		get_comm(event.comm, sizeof(event.comm));
		read_user_str(event.name, sizeof(event.name), opening->name);
		perf_output(context, &events, CURRENT_CPU, &event, sizeof(event));
	}
	map_delete(&openings, &pid);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_open")
int enter_open(struct enter *context)
{
	return entered((void *)context->arguments[0], context->arguments[1]);
}

SEC("tracepoint/syscalls/sys_enter_openat")
int enter_openat(struct enter *context)
{
	return entered((void *)context->arguments[1], context->arguments[2]);
}

SEC("tracepoint/syscalls/sys_exit_open")
int exit_open(struct exit *context)
{
	return left(context);
}

SEC("tracepoint/syscalls/sys_exit_openat")
int exit_openat(struct exit *context)
{
	return left(context);
}

LICENSE("GPL");
