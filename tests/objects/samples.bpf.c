/* Sends a sample of 64 bytes each time the wanted thread calls getppid(2), to a ring buffer or to
 * perf buffers, and counts them. */
#include "bpf.h"

struct sample {
	u64 number;
	u64 rest[7];
};
struct counts {
	u64 sent;
	u64 dropped;
};

struct wanted {
	/* As pid_tgid() has it. */
	u64 thread;
	/* If not 0: only each so many samples in the ring wake its reader. */
	u64 quiet;
};

#define NO_WAKEUP 1
#define FORCE_WAKEUP 2

MAP(wanted, ARRAY, u32, struct wanted, 1);
MAP(counts, ARRAY, u32, struct counts, 1);
struct {
	NUMBER(type, RINGBUF);
	NUMBER(max_entries, 8 * 1024 * 1024);
} ring SEC(".maps");
struct {
	NUMBER(type, PERF_EVENT_ARRAY);
	NUMBER(key_size, 4);
	NUMBER(value_size, 4);
} perf SEC(".maps");

static struct wanted *of_this_thread(void)
{
	u32 zero = 0;
	struct wanted *found = map_lookup(&wanted, &zero);

	return found && found->thread == pid_tgid() ? found : 0;
}

SEC("tp/syscalls/sys_enter_getppid")
int to_ring(void *context)
{
	u32 zero = 0;
	struct wanted *wanted = of_this_thread();
	struct counts *count = map_lookup(&counts, &zero);
	struct sample *sample;
	u64 flags = 0;

	if (!wanted || !count)
		return 0;
	sample = ringbuf_reserve(&ring, sizeof(*sample), 0);
	if (!sample) {
		count->dropped++;
		return 0;
	}
	sample->number = ++count->sent;
	for (int at = 0; at < 7; at++)
		sample->rest[at] = at;
	if (wanted->quiet)
		flags = count->sent % wanted->quiet ? NO_WAKEUP : FORCE_WAKEUP;
	ringbuf_submit(sample, flags);
	return 0;
}

SEC("tp/syscalls/sys_enter_getppid")
int to_perf(void *context)
{
	u32 zero = 0;
	struct counts *count = map_lookup(&counts, &zero);
	struct sample sample = {};

	if (!of_this_thread() || !count)
		return 0;
	sample.number = ++count->sent;
	if (perf_output(context, &perf, CURRENT_CPU, &sample, sizeof(sample)))
		count->dropped++;
	return 0;
}

LICENSE("GPL");
