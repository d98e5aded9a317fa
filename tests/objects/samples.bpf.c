/* Sends a sample of 64 bytes each time the thread in `thread` calls getppid(2), to a ring buffer or
 * to perf buffers, and counts them. */
#include "bpf.h"

struct sample {
	u64 number;
	u64 rest[7];
};
struct counts {
	u64 sent;
	u64 dropped;
};

/* As pid_tgid() has it. */
MAP(thread, ARRAY, u32, u64, 1);
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

static struct counts *wanted(void)
{
	u32 zero = 0;
	u64 *which = map_lookup(&thread, &zero);

	return which && *which == pid_tgid() ? map_lookup(&counts, &zero) : 0;
}

SEC("tp/syscalls/sys_enter_getppid")
int to_ring(void *context)
{
	struct counts *counts = wanted();
	struct sample *sample;

	if (!counts)
		return 0;
	sample = ringbuf_reserve(&ring, sizeof(*sample), 0);
	if (!sample) {
		counts->dropped++;
		return 0;
	}
	sample->number = ++counts->sent;
	for (int at = 0; at < 7; at++)
		sample->rest[at] = at;
	ringbuf_submit(sample, 0);
	return 0;
}

SEC("tp/syscalls/sys_enter_getppid")
int to_perf(void *context)
{
	struct counts *counts = wanted();
	struct sample sample = {};

	if (!counts)
		return 0;
	sample.number = ++counts->sent;
	if (perf_output(context, &perf, CURRENT_CPU, &sample, sizeof(sample)))
		counts->dropped++;
	return 0;
}

LICENSE("GPL");
