/* A sample of twelve bytes for each call of getpgid(2) with a number from a million on: the number,
 * as text. A program for a ring buffer, and one for perf buffers. */
#include "bpf.h"

struct enter {
	u64 unused;
	s64 number;
	u64 arguments[6];
};
struct sample {
	char digits[12];
};

struct {
	NUMBER(type, RINGBUF);
	NUMBER(max_entries, 256 * 1024);
} ring SEC(".maps");
struct {
	NUMBER(type, PERF_EVENT_ARRAY);
	NUMBER(key_size, 4);
	NUMBER(value_size, 4);
} perf SEC(".maps");

static __attribute__((always_inline)) void write(struct sample *sample, u32 number)
{
#pragma unroll
	for (int i = 11; i >= 0; i--) {
		sample->digits[i] = '0' + number % 10;
		number /= 10;
	}
}

SEC("tp/syscalls/sys_enter_getpgid")
int to_ring(struct enter *context)
{
	u32 number = context->arguments[0];
	struct sample *sample;

	if (number < 1000000)
		return 0;
	sample = ringbuf_reserve(&ring, sizeof(*sample), 0);
	if (!sample)
		return 0;
	write(sample, number);
	ringbuf_submit(sample, 0);
	return 0;
}

SEC("tp/syscalls/sys_enter_getpgid")
int to_perf(struct enter *context)
{
	u32 number = context->arguments[0];
	struct sample sample;

	if (number < 1000000)
		return 0;
	write(&sample, number);
	perf_output(context, &perf, CURRENT_CPU, &sample, sizeof(sample));
	return 0;
}

LICENSE("GPL");
